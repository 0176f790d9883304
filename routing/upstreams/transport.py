"""HTTP to the providers: one POST, exact limits, bounded reads, and a `close()` that works from anywhere.

urllib3 carries the bytes; what it leaves open is closed here:

- **Deadlines, not pauses.** urllib3's read timeout starts again with every `recv`, so a provider that trickles one
  byte a second never runs into it. Our connections read through :class:`_TimedSocket`, which gives each `recv`
  only what is left until the deadline of the phase: headers, chunk sizes and trailers included. Two things are
  outside: the name look-up, which the operating system bounds, and that the connect limit holds for each
  address of a name.
- **Idle connections.** A connection that the provider has closed is noticed when it is taken from the pool and
  replaced without a word. One that it closes in the very moment in which we send cannot be told from a provider
  that read the request and died, and the request may have been billed, so it is *not* sent again here: it is
  a CONNECTION failure, which the cascade may retry and the ledger records. Connections that have been idle
  longer than usual servers keep them (:data:`_IDLE_HTTPS_S`, :data:`_IDLE_HTTP_S`) are not used again, which makes
  that moment rare.
- **No redirects, no retries, no proxies from the environment.**

Bounds: :data:`MAX_BODY_BYTES` after decompression (answers and whole streams), `events.MAX_EVENT_BYTES` for one
event of a stream, `http.client`'s 100 headers of 64 KiB.
"""

from __future__ import annotations

import http
import http.client
import io
import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any, Final

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    InvalidHeader,
    LocationParseError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, Url, parse_url
from urllib3.util.ssl_ import create_urllib3_context

from routing.upstreams.base import FailureKind, Leash, Timeouts, UpstreamError

USER_AGENT: Final = "llm-gateway"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

#: The large providers keep idle connections for a minute and more; local servers (uvicorn, Node) for five seconds.
_IDLE_HTTPS_S: Final = 50.0
_IDLE_HTTP_S: Final = 4.0

READ_BYTES: Final = 65536
_MAX_HEADERS, _MAX_HEADER_BYTES = 100, 65536  # http.client's own bounds
_SOCKET_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


#: The leash of the call that this thread or greenlet is making; urllib3 has no way through for it.
_leash: ContextVar[Leash | None] = ContextVar("leash", default=None)


# --- connections that know their deadline --------------------------------------------------------------


class Watch:
    """What a connection's current answer is read against. `sock` stays when urllib3 lets go of it."""

    __slots__ = ("deadline", "last_byte_at", "sock")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.last_byte_at = monotonic()
        self.sock: Any = None


class _TimedSocket(io.RawIOBase):
    """The socket's raw file, every `recv` of which ends at the deadline."""

    def __init__(self, raw: io.RawIOBase, watch: Watch) -> None:
        self._raw = raw
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        watch = self._watch
        left = watch.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed")
        watch.sock.settimeout(left)
        count = self._raw.readinto(buffer)
        watch.last_byte_at = monotonic()
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: Any, watch: Watch, method: str | None = None) -> None:
        super().__init__(sock, method=method)
        # The socket carries the limit that urllib3 was given for the head of the answer.
        watch.sock = sock
        watch.deadline = monotonic() + (sock.gettimeout() or 0.0)
        leash = _leash.get()
        if leash is not None:  # the request is sent, its answer may be long in coming
            leash.hold(lambda: _shut(sock))
        self.fp = io.BufferedReader(_TimedSocket(self.fp.detach(), watch), READ_BYTES)

    def begin(self) -> None:
        """http.client's own, but for :func:`_read_headers`: the e-mail package, which parses them there, takes as long
        as sending the request."""
        while True:
            version, status, reason = self._read_status()  # type: ignore[attr-defined]  # there since Python 2
            if status != http.HTTPStatus.CONTINUE:
                break
            _read_headers(self.fp)
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.headers = self.msg = _read_headers(self.fp)
        self.chunked = (self.headers.get("transfer-encoding") or "").lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]  # likewise
        length = self.headers.get("content-length") or ""
        self.length = int(length) if length.isdecimal() and not self.chunked else None
        if status < 200 or status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED):
            self.length = 0
        if not self.will_close and not self.chunked and self.length is None:
            self.will_close = True


def _read_headers(fp: io.BufferedIOBase) -> http.client.HTTPMessage:
    """At most 100 lines of 64 KiB. https://www.rfc-editor.org/rfc/rfc9112#section-5; a line without a colon is no field
    and is passed over, as browsers do."""
    fields: list[list[str]] = []
    for _ in range(_MAX_HEADERS):
        line = fp.readline(_MAX_HEADER_BYTES + 1)
        if len(line) > _MAX_HEADER_BYTES:
            raise http.client.LineTooLong("header line")
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            break
        name, colon, value = text.partition(":")
        if text[0] in " \t" and fields:  # a folded value goes on
            fields[-1][1] += f" {text.strip()}"
        elif colon:
            fields.append([name, value.strip(" \t")])
    else:
        raise http.client.HTTPException(f"got more than {_MAX_HEADERS} headers")
    message = http.client.HTTPMessage()
    for name, value in fields:
        message.set_raw(name, value)
    return message


def _shut(sock: Any) -> None:
    """Wakes whoever reads from it; the descriptor stays theirs."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    idle_limit_s = _IDLE_HTTP_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = Watch()

    def response_class(self, sock: Any, method: str | None = None) -> _TimedResponse:  # type: ignore[override]
        return _TimedResponse(sock, self.watch, method)

    @property
    def is_connected(self) -> bool:
        """urllib3 asks when it takes a connection from the pool, and replaces one that says no."""
        return _is_reusable(self)


class _TlsConnection(HTTPSConnection):
    idle_limit_s = _IDLE_HTTPS_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = Watch()

    def response_class(self, sock: Any, method: str | None = None) -> _TimedResponse:  # type: ignore[override]
        return _TimedResponse(sock, self.watch, method)

    @property
    def is_connected(self) -> bool:
        return _is_reusable(self)


def _is_reusable(connection: _Connection | _TlsConnection) -> bool:
    """Not idle for too long, and still open. A connection that is at rest has nothing to read but its end."""
    if connection.sock is None or monotonic() - connection.watch.last_byte_at >= connection.idle_limit_s:
        return False
    poll = _poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _poll() -> Any:
    """The operating system's. gevent's own starts two watchers for a look that never waits: 40 µs a call."""
    monkey = sys.modules.get("gevent.monkey")
    return (monkey.get_original("select", "poll") if monkey else select.poll)()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


# --- one pool a process ---------------------------------------------------------------------------------

_lock = threading.Lock()
_managers: dict[int, urllib3.PoolManager] = {}  # by process id: one, and after a fork the parent's beside it


@lru_cache(maxsize=2)
def _tls(pid: int) -> ssl.SSLContext:
    """One context for all connections: reading the authorities' certificates takes 15 ms.

    certifi's list, because a slim image has none of its own; `SSL_CERT_FILE` names another.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(os.environ.get("SSL_CERT_FILE") or certifi.where())
    return context


def _pool_manager() -> urllib3.PoolManager:
    """The process's own: sockets that a fork shares would mix two workers' answers."""
    pid = os.getpid()
    manager = _managers.get(pid)
    if manager is None:
        with _lock:
            if pid not in _managers:
                # maxsize is what is kept when idle; block=False: more are opened as needed.
                made = urllib3.PoolManager(
                    num_pools=200,
                    maxsize=256,
                    block=False,
                    retries=False,
                    socket_options=_SOCKET_OPTIONS,
                    ssl_context=_tls(pid),
                )
                made.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
                _managers[pid] = made
            manager = _managers[pid]
    return manager


@lru_cache(maxsize=512)
def _split(url: str) -> tuple[str, str, int | None, str]:
    parsed = parse_url(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise LocationValueError(f"not an http(s) URL: {parsed.scheme}")
    return parsed.scheme, parsed.host, parsed.port, parsed.request_uri


# --- a call ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete answer of any status. `headers` is case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Limits:
    """The moments at which one attempt's limits run out; it starts when this is made."""

    __slots__ = ("_content_seen", "connect_s", "first_token_at", "idle_s", "total_at")

    def __init__(self, timeouts: Timeouts, *, streamed: bool) -> None:
        now = monotonic()
        self.connect_s = min(timeouts.connect_s, timeouts.total_s)
        self.idle_s = timeouts.idle_s
        self.total_at = now + timeouts.total_s
        self.first_token_at = min(now + timeouts.first_token_s, self.total_at) if streamed else self.total_at
        self._content_seen = False

    def content_seen(self) -> None:
        """The first content event has come: from here on the idle limit runs, from event to event."""
        self._content_seen = True

    def next_event_at(self) -> float:
        if self._content_seen:
            return min(monotonic() + self.idle_s, self.total_at)
        return self.first_token_at


class MappedErrors:
    """Context manager: urllib3's exceptions → one UpstreamError, without the URL that they carry.

    `answering`: the answer had begun, so a broken connection is the answer's and not the route's. It is entered for
    every event of a stream, hence no generator: two instances serve all calls.
    """

    __slots__ = ("_answering",)

    def __init__(self, *, answering: bool) -> None:
        self._answering = answering

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and (mapped := self._mapped(error)) is not None:
            raise mapped from error

    def _mapped(self, error: BaseException) -> UpstreamError | None:
        match error:
            case LocationParseError() | LocationValueError():
                return UpstreamError(FailureKind.NOT_FOUND, "The provider's base URL is not valid")
            case NameResolutionError():
                return UpstreamError(FailureKind.CONNECTION, "The provider's host name cannot be resolved")
            case NewConnectionError():
                return UpstreamError(FailureKind.CONNECTION, "The provider refused the connection")
            case ConnectTimeoutError():
                return UpstreamError(FailureKind.TIMEOUT, "No connection to the provider in time")
            case ReadTimeoutError() | TimeoutError():
                message = "The provider's answer stopped" if self._answering else "The provider did not answer in time"
                return UpstreamError(FailureKind.TIMEOUT, message)
            case SSLError():
                return UpstreamError(FailureKind.CONNECTION, "No trusted TLS connection to the provider")
            case DecodeError() | InvalidHeader():
                return UpstreamError(FailureKind.MALFORMED, "The provider's answer cannot be decoded")
            case HTTPError() | http.client.HTTPException() | OSError():
                message = "The provider's answer broke off" if self._answering else "The provider closed the connection"
                return UpstreamError(FailureKind.CONNECTION, message)
        return None


CALLING: Final = MappedErrors(answering=False)
ANSWERING: Final = MappedErrors(answering=True)


def open_call(
    url: str, headers: Mapping[str, str], body: bytes, limits: Limits, leash: Leash | None = None
) -> urllib3.HTTPResponse:
    _leash.set(leash)
    with CALLING:
        scheme, host, port, target = _split(url)
        pool = _pool_manager().connection_from_host(host, port, scheme)
        left = max(0.001, limits.first_token_at - monotonic())
        response = pool.urlopen(
            "POST",
            target,
            body=body,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=min(limits.connect_s, left), read=left, total=left),
            preload_content=False,
            decode_content=False,
        )
    assert isinstance(response, urllib3.HTTPResponse)
    return response


def read_bounded(response: urllib3.HTTPResponse, watch: Watch, deadline: float, limit: int) -> bytes:
    """The decompressed body, at most `limit` bytes of it; the connection returns to its pool at the end."""
    watch.deadline = deadline
    parts: list[bytes] = []
    size = 0
    done = False
    try:
        with ANSWERING:
            while part := response.read(READ_BYTES, decode_content=True):
                size += len(part)
                if size > limit:
                    raise UpstreamError(FailureKind.MALFORMED, f"The provider's answer is larger than {limit} bytes")
                parts.append(part)
        done = True
    finally:
        if not done:
            response.close()
    return b"".join(parts)


def watch_of(response: urllib3.HTTPResponse) -> Watch:
    connection = response.connection
    assert isinstance(connection, _Connection | _TlsConnection)
    return connection.watch


def post(url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Whole:
    """One POST, its answer read to the end, whatever its status. Raises UpstreamError for all else."""
    limits = Limits(timeouts, streamed=False)
    response = open_call(url, headers, body, limits)
    if response.connection is None:  # an answer without a body (204, 304) has left its connection already
        return Whole(response.status, response.headers, b"")
    content = read_bounded(response, watch_of(response), limits.total_at, MAX_BODY_BYTES)
    return Whole(response.status, response.headers, content)


def get(url: Url, address: str, deadline: float, limit: int) -> Whole:
    """One GET at exactly this IP address of the URL's host, on a connection of its own. Raises UpstreamError."""
    left = max(0.001, deadline - monotonic())
    timeout = Timeout(connect=left, read=left, total=left)
    pool: HTTPConnectionPool
    if url.scheme == "https":
        host = (url.host or "").strip("[]")
        pool = _TlsPool(
            address, url.port, maxsize=1, assert_hostname=host, server_hostname=host, ssl_context=_tls(os.getpid())
        )
    else:
        pool = _Pool(address, url.port, maxsize=1)
    with CALLING, pool:
        response = pool.urlopen(
            "GET",
            url.request_uri,
            headers={"Host": url.netloc or "", "User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=timeout,
            preload_content=False,
            decode_content=False,
        )
        assert isinstance(response, urllib3.HTTPResponse)
        if response.connection is None:
            return Whole(response.status, response.headers, b"")
        body = read_bounded(response, watch_of(response), deadline, limit)
        return Whole(response.status, response.headers, body)
