"""gunicorn's gevent worker, with bounds on what a client may do before and after its request is served.

gunicorn's own worker trusts a client with the worker's only thread: it discards the rest of a refused body without end,
and a client that keeps sending is read without a pause. docs/adr/0015 says what is promised here, and how to go back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from socket import SHUT_RD, socket
from typing import Any

from gevent import GreenletExit, sleep
from gunicorn import util
from gunicorn.http import errors
from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request
from gunicorn.http.parser import Parser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.ggevent import GeventWorker

from gateway_project import settings
from gateway_project.plain_requests import PlainAnswer, PlainReader, PlainRequest, WholeBody, is_page, plain_environ

Address = tuple[str, int]  # of a client; gunicorn.conf.py binds to TCP alone

HEADERS_BYTES = 64 * 1024  # of all header fields together; gunicorn.conf.py bounds their number and each of them
YIELD_BYTES = 256 * 1024  # what a connection may receive, and
YIELD_S = 0.005  # how long it may take to read it, before the others have their turn
KEPT_BYTES = 64 * 1024  # a body that nobody has read and that is not longer than this does not end its connection

#: What a client did when its connection failed, and nobody needs to hear of.
_LEFT = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
#: How a request that is not HTTP, or not HTTP for us, is refused. What is not here is a plain 400.
_REFUSALS = (
    (TimeoutError, HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "The request's headers took too long to come."),
    (
        errors.LimitRequestHeaders,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers_too_large",
        f"The request's headers are too large: at most 100, 8 KiB each and {HEADERS_BYTES // 1024} KiB together.",
    ),
    (errors.LimitRequestLine, HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", "The request's path is too long."),
    (errors.ExpectationFailed, HTTPStatus.EXPECTATION_FAILED, "invalid_http", "Expect knows 100-continue alone."),
    (
        errors.UnsupportedTransferCoding,
        HTTPStatus.NOT_IMPLEMENTED,
        "invalid_http",
        "The only transfer coding that is understood here is chunked.",
    ),
    (errors.ParseException, HTTPStatus.BAD_REQUEST, "invalid_http", "The request is not valid HTTP."),
)


@dataclass(frozen=True)
class Patience:
    """How long a client may take."""

    head_s: float = 10.0  # from a connection's beginning, or a further request's first byte, to the end of the headers
    body_s: float = 60.0  # for a whole body, and one second more for each `body_bytes_a_s` of it
    body_bytes_a_s: float = 64 * 1024
    rest_s: float = 1.0  # for the rest of a body that nobody has read
    page_s: float = 60.0  # to take the next part of a page or of a static file


class ClientReader(SocketUnreader):
    """All that is read from one client: each part of a request has its deadline, and other clients have their turn."""

    max_body_chunk = YIELD_BYTES

    def __init__(self, client: socket, patience: Patience, keepalive_s: float) -> None:
        super().__init__(client)
        self._patience = patience
        self._keepalive_s = keepalive_s
        self._has_served = False
        self._is_idle = False
        self._ends_at = math.inf
        self._seconds_a_byte = 0.0
        self._unyielded = 0
        self._yielded_at = 0.0

    @property
    def has_served(self) -> bool:
        """Whether the connection has carried a request."""
        return self._has_served

    def expect_head(self) -> None:
        self._is_idle = self.buf.getbuffer().nbytes == 0  # else a part of the head came with the request before
        idle_s = self._keepalive_s if self._has_served and self._is_idle else self._patience.head_s
        self._expect(idle_s)

    def expect_body(self) -> None:
        self._has_served = True
        self._expect(self._patience.body_s, 1 / self._patience.body_bytes_a_s)

    def expect_rest(self) -> None:
        self._expect(self._patience.rest_s)

    def _expect(self, within_s: float, seconds_a_byte: float = 0.0) -> None:
        self._yielded_at = time.monotonic()
        self._ends_at = self._yielded_at + within_s
        self._seconds_a_byte = seconds_a_byte

    def chunk(self, size_hint: int | None = None) -> bytes:
        """What the client sends next; empty when it has closed, or was idle for too long. Raises TimeoutError."""
        try:
            data = self._receive(size_hint)
        except TimeoutError:
            if self._is_idle:
                return b""  # no request was cut off, so this is an end like any other
            raise
        if self._is_idle:
            self._is_idle = False
            if self._has_served:  # a connection's first head is due since the connection began
                self._expect(self._patience.head_s)
        self._ends_at += len(data) * self._seconds_a_byte
        self._unyielded += len(data)
        return data

    def _receive(self, size_hint: int | None) -> bytes:
        now = time.monotonic()
        if self._unyielded >= YIELD_BYTES or now - self._yielded_at > YIELD_S:
            sleep(0)  # while data keeps coming, gevent's recv itself never lets anybody else run
            self._unyielded, self._yielded_at = 0, time.monotonic()
        left_s = self._ends_at - now
        if left_s <= 0:
            raise TimeoutError  # here, as recv would not look at its timeout while there is data
        others_s = self.sock.gettimeout()  # of whoever reads; the shorter time counts
        self.sock.settimeout(left_s if others_s is None else min(left_s, others_s))
        try:
            data: bytes = super().chunk(size_hint)
        finally:
            self.sock.settimeout(others_s)
        return data


class ClientRequest(Request):
    """A request whose headers are bounded together, not only each of them."""

    def parse(self, unreader: ClientReader) -> bytes:
        self.max_buffer_headers = HEADERS_BYTES
        rest: bytes = super().parse(unreader)
        if self.version >= (1, 1) and not any(name == "HOST" for name, _ in self.headers):
            raise errors.InvalidHeader("HOST")  # RFC 9112, 3.2
        return rest


class ClientParser(Parser):
    mesg_class = ClientRequest


class Waiting:
    """The connections on which a request is waited for. When a worker has hardly room for further connections, those go
    first that have waited longest: whoever has something to ask has asked."""

    def __init__(self) -> None:
        self._new: OrderedDict[socket, None] = OrderedDict()  # these have never carried a request, and go before
        self._idle: OrderedDict[socket, None] = OrderedDict()  # these, which their clients may use again

    def begin(self, client: socket, *, has_served: bool) -> None:
        (self._idle if has_served else self._new)[client] = None

    def end(self, client: socket) -> None:
        self._new.pop(client, None)
        self._idle.pop(client, None)

    def close_the_longest(self) -> None:
        for waiting in (self._new, self._idle):
            if waiting:
                client, _ = waiting.popitem(last=False)
                with contextlib.suppress(OSError):
                    # Its reader finds the end. A request that has come in this moment is read before, and answered.
                    client.shutdown(SHUT_RD)
                return


class GatewayWorker(GeventWorker):
    patience = Patience()
    spare_connections = 200  # with fewer than these left, connections that ask for nothing are closed
    pages = 200  # requests for the admin and its static files at a time, so that nobody fills the worker with them

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = 0
        self._pages = 0
        self._waiting = Waiting()
        is_short = settings.GATEWAY_PARSER == "short"
        self._plain_environ = plain_environ(self.cfg) if is_short else None

    def handle(self, listener: socket, client: socket, address: Address) -> None:
        self._connections += 1
        try:
            if self._connections > self.worker_connections - self.spare_connections:
                self._waiting.close_the_longest()
            self._serve(listener, client, address)
        finally:
            self._connections -= 1

    def _serve(self, listener: socket, client: socket, address: Address) -> None:
        """Serve one connection until either side ends it.

        In the place of AsyncWorker.handle, which has no TLS and no HTTP/2 here either: a proxy speaks them for us.
        """
        client.setblocking(True)
        reader = ClientReader(client, self.patience, self.cfg.keepalive)
        parser = ClientParser(self.cfg, client, address)
        parser.unreader = reader
        plain = self._plain_environ and PlainReader(self.cfg, self._plain_environ, listener, client, address)
        request: ClientRequest | PlainRequest | None = None
        is_sending = False  # whether the client may still be sending what nobody will read
        try:
            while True:
                request = None
                reader.expect_head()
                is_sending = True
                request = self._next(reader, plain or None, parser)
                reader.expect_body()
                goes_on = self._answer(listener, request, client, address)
                is_sending = not self._is_at_its_end(request, reader, client)
                if is_sending or not goes_on:
                    return
        except (StopIteration, errors.NoMoreData):
            is_sending = False  # the client has closed, or may: it asks for nothing more
        except (TimeoutError, errors.ParseException) as error:
            if request is None:
                self._refuse(client, address, error)
            elif not isinstance(error, TimeoutError):  # one who does not take his answer cannot be told
                self.handle_error(request, client, address, error)
        except OSError as error:
            is_sending = False
            if error.errno not in _LEFT:
                self.log.exception("Socket error processing request.")
        except Exception as error:  # noqa: BLE001  whatever it is, its client is told, and the worker goes on
            self.handle_error(request, client, address, error)
        finally:
            if is_sending:
                # The kernel would answer what still comes with a reset, which may overtake our answer.
                util.close_graceful(client, timeout=self.patience.rest_s, max_drain=KEPT_BYTES)
            else:
                util.close(client)

    def _next(
        self, reader: ClientReader, plain: PlainReader | None, parser: ClientParser
    ) -> ClientRequest | PlainRequest:
        self._waiting.begin(reader.sock, has_served=reader.has_served)
        try:
            request: ClientRequest | PlainRequest = (plain and plain.next(reader)) or next(parser)
            return request
        finally:
            self._waiting.end(reader.sock)

    def _answer(
        self, listener: socket, request: ClientRequest | PlainRequest, client: socket, address: Address
    ) -> bool:
        """Whether the connection may carry a further request, as far as this one's headers and answer say."""
        if isinstance(request, PlainRequest):
            return self._plainly(request, client)
        if not is_page(request.path):
            return self._handled(listener, request, client, address)
        if self._pages >= self.pages:
            message = f"This worker sends {self.pages} pages and files, which is as many as it may. Try again shortly."
            self._say(client, HTTPStatus.SERVICE_UNAVAILABLE, "gateway_busy", message, "Retry-After: 1\r\n")
            return False
        self._pages += 1
        client.settimeout(self.patience.page_s)
        try:
            return self._handled(listener, request, client, address)
        finally:
            self._pages -= 1
            client.settimeout(None)

    def _handled(self, listener: socket, request: ClientRequest, client: socket, address: Address) -> bool:
        try:
            self.handle_request(listener.getsockname(), request, client, address)
        except StopIteration:
            return False
        return True

    def _plainly(self, request: PlainRequest, client: socket) -> bool:
        """In the place of AsyncWorker.handle_request, but for its hooks, early hints and log of accesses: nobody here
        uses them."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        answer = PlainAnswer(client, closes=request.closes or not self.alive or not self.cfg.keepalive)
        try:
            answer.run(self.wsgi, request.environ)
        except OSError:
            raise  # the client has left
        except (Exception, SystemExit, GreenletExit):
            if not answer.has_begun:
                raise
            self.log.exception("Error handling request")  # what was sent is no whole answer, and must not look like one
            return False
        return not answer.closes

    def _is_at_its_end(self, request: ClientRequest | PlainRequest, reader: ClientReader, client: socket) -> bool:
        """Whether the request's body has been read to its end, if need be here: then the next request may follow."""
        body = request.body
        if isinstance(body, WholeBody):
            return True
        if isinstance(body.reader, LengthReader):
            if not body.reader.length:
                return True
            if body.reader.length > KEPT_BYTES:
                return False
        if body.failed:
            return False
        reader.expect_rest()
        self._waiting.begin(client, has_served=False)
        try:
            return len(body.read(KEPT_BYTES + 1)) <= KEPT_BYTES
        except (OSError, errors.ParseException):
            return False
        finally:
            self._waiting.end(client)

    def _refuse(self, client: socket, address: Address, error: Exception) -> None:
        """Answer what is no request, in the words that all errors of the gateway have. No client's byte is logged."""
        _, status, code, message = next(refusal for refusal in _REFUSALS if isinstance(error, refusal[0]))
        self.log.warning("Invalid request from ip=%s: %s", address[0], type(error).__name__)
        self._say(client, status, code, message)

    def handle_error(
        self, req: ClientRequest | PlainRequest | None, client: socket, addr: Address, exc: BaseException
    ) -> None:
        """As gunicorn's, which logs the address. Of it the query stays out: a client's key may be in it."""
        if req is not None:
            req.uri = req.path
        super().handle_error(req, client, addr, exc)

    def _say(self, client: socket, status: HTTPStatus, code: str, message: str, header: str = "") -> None:
        """Answer without the application, which is the last answer on this connection."""
        kind = "server_error" if status == HTTPStatus.SERVICE_UNAVAILABLE else "invalid_request_error"
        body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n{header}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, head.encode() + body)
        except OSError:
            return  # it has left
