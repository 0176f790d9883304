"""One HTTP/1.1 exchange: the request leaves in one piece, and the answer is read against a deadline.

urllib3 makes the connection (connections.py). What goes over it is written here and read by framing.py, which takes a
third of the time of urllib3's and http.client's layers. docs/adr/0025 says what is promised, and how to go back.

- **Deadlines, not pauses.** Each `send` and `recv` gets what is left until the deadline of the phase, so a provider
  that trickles one byte a second runs into it.
- **Nothing is sent twice**, but for a kept connection that breaks before the first byte of a request has left.
- **An exchange is not its connection.** Whoever ends an exchange late, when its connection serves another, ends
  nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import Any, Final, NamedTuple

from urllib3.exceptions import LocationValueError, ProtocolError
from urllib3.util import Url, parse_url
from urllib3.util.wait import wait_for_read

from routing.upstreams.base import FailureKind, Leash, UpstreamError
from routing.upstreams.http.connections import Origin, origin_of
from routing.upstreams.http.framing import Body, Decoder, HeadReader, body_of, decoder_of

READ_BYTES: Final = 65536
_PORTS: Final = {"http": 80, "https": 443}
#: What would be the end of a header, and the beginning of another.
_LINE_END: Final = re.compile(r"[\r\n]")


class Exchange:
    """A request that was sent, and its answer. One thread reads; any thread may `shut()`."""

    __slots__ = ("_body", "_claim", "_decoder", "_origin", "_sock", "_unread", "deadline", "ended", "headers", "status")

    def __init__(self, sock: Any, origin: Origin, deadline: float) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.deadline = deadline
        self.ended = False  # the body was read to its end, or the exchange was closed
        self._sock = sock
        self._origin = origin
        # Whoever takes the only item decides what becomes of the connection: taking it is one step for all threads.
        self._claim = [True]
        self._unread = b""
        self._body: Body
        self._decoder: Decoder | None = None

    def send(self, request: bytes, sent: int) -> None:
        """Sends what has not been sent of the request."""
        if sent == len(request):
            return
        try:
            self._sock.settimeout(self._left_s())
            if not sent:
                sent = self._sock.send(request)
            if sent < len(request):
                self._sock.sendall(memoryview(request)[sent:])
        except BrokenPipeError:
            pass  # a server may refuse a request before it has read all of it, and its answer is here

    def read_head(self) -> None:
        reader = HeadReader()
        while (head := reader.take(self._receive())) is None:
            pass
        self.status, self.headers, is_lasting = head
        self._body = body_of(head)
        self._body.is_lasting = self._body.is_lasting and is_lasting
        self._decoder = decoder_of(head)
        self._unread = reader.surplus
        if self._body.is_done:
            self._body.take(self._unread)  # nothing of it is the body's, and no further answer may be read after it
            self._end()

    def read_some(self) -> bytes:
        """What has come of the body, decoded; empty at its end. Raises urllib3's errors and OSError."""
        decoder = self._decoder
        while True:
            if decoder is not None and decoder.has_more:
                content = decoder.take(b"")
            elif self.ended:
                return b""
            else:
                content = self._read_some()
                if decoder is not None:
                    content = decoder.take(content)
            if content:
                return content

    def _read_some(self) -> bytes:
        body = self._body
        content = b""
        data, self._unread = self._unread, b""
        if data or body.is_broken or (data := self._receive(may_end=True)):
            content = body.take(data)
        else:
            body.close()
        if body.is_done:
            self._end()
        return content

    def has_bytes(self, within_s: float) -> bool:
        """Whether something of the body, or its end, comes in that time. Reads nothing of it."""
        if self.ended or self._unread or self._body.is_broken or self._sock.fileno() == -1:
            return True
        if self._decoder is not None and self._decoder.has_more:
            return True
        pending = getattr(self._sock, "pending", None)  # TLS: read, and not asked for yet
        if pending is not None and pending():
            return True
        return wait_for_read(self._sock, timeout=max(0.0, within_s))

    def _receive(self, *, may_end: bool = False) -> bytes:
        self._sock.settimeout(self._left_s())
        data: bytes = self._sock.recv(READ_BYTES)
        if not data and not may_end:
            raise ProtocolError("the connection was closed before the answer")
        return data

    def _left_s(self) -> float:
        left_s = self.deadline - monotonic()
        if left_s <= 0:
            raise TimeoutError("deadline passed")
        return left_s

    def _claimed(self) -> bool:
        try:
            return self._claim.pop()
        except IndexError:
            return False

    def _end(self) -> None:
        self.ended = True
        if self._claimed() and self._body.is_lasting:
            self._origin.keep(self._sock)
        else:
            self._sock.close()

    def close(self) -> None:
        """By the thread that reads, or when nobody does. Does nothing once the exchange has ended."""
        if not self.ended:
            self.ended = True
            self._claimed()
            self._sock.close()

    def shut(self) -> None:
        """By any thread. Wakes the one that reads, which still uses the descriptor and closes it."""
        if self._claimed():
            with suppress(OSError):  # the provider has closed it already
                self._sock.shutdown(socket.SHUT_RDWR)


def exchange(origin: Origin, request: bytes, connect_s: float, deadline: float, leash: Leash | None = None) -> Exchange:
    """Sends the request and reads the head of its answer."""
    sock = origin.take()
    sent = 0
    if sock is not None and not (sent := _begun(sock, request, deadline)):
        sock = None
    if sock is None:
        sock = origin.connect(connect_s)
    made = Exchange(sock, origin, deadline)
    try:
        made.send(request, sent)
        if leash is not None:  # the request is sent, and the answer may take long
            leash.on_gone(made.shut)
        made.read_head()
    except BaseException:
        made.close()
        raise
    return made


def _begun(sock: Any, request: bytes, deadline: float) -> int:
    """How much of the request a kept connection took at once: nothing when it has ended since it was looked at."""
    try:
        sock.settimeout(max(0.001, deadline - monotonic()))
        sent: int = sock.send(request)
    except ConnectionError:
        sock.close()
        return 0
    except BaseException:
        sock.close()
        raise
    return sent


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int
    start: str  # of a request, after its method: the rest of its line, and its host


@lru_cache(maxsize=512)
def _target(url: str) -> _Target:
    parsed = parse_url(url)
    if parsed.scheme not in _PORTS or not parsed.host:
        raise LocationValueError(f"not an http(s) URL: {parsed.scheme}")
    port = parsed.port or _PORTS[parsed.scheme]
    named = parsed.host if port == _PORTS[parsed.scheme] else f"{parsed.host}:{port}"
    return _Target(parsed.scheme, parsed.host.strip("[]"), port, f" {parsed.request_uri} HTTP/1.1\r\nHost: {named}\r\n")


def request_bytes(start: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Raises UpstreamError when a value would begin another header, or has characters that no header has."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if fields.count("\r") != len(headers) or fields.count("\n") != len(headers):
        raise _invalid(next(name for name, value in headers.items() if _LINE_END.search(name + value)))
    end = "\r\n" if body is None else f"Content-Length: {len(body)}\r\n\r\n"
    try:
        return f"{start}{fields}{end}".encode("latin-1") + (body or b"")
    except UnicodeEncodeError:
        raise _invalid("header") from None


def _invalid(name: str) -> UpstreamError:
    """Of the headers that we send, the provider's key is the one that somebody types."""
    message = f"The {name} for the provider has a character that no header may have"
    return UpstreamError(FailureKind.AUTHENTICATION, message)


def ask(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    connect_s: float,
    deadline: float,
    *,
    leash: Leash | None,
    method: str = "POST",
) -> Exchange:
    """One request. Only a POST says how long its body is when it has none."""
    scheme, host, port, start = _target(url)
    request = request_bytes(method + start, headers, body if body or method == "POST" else None)
    return exchange(origin_of(scheme, host, port), request, connect_s, deadline, leash)


def get(url: Url, address: str, headers: Mapping[str, str], deadline: float) -> Exchange:
    """One GET at exactly this address, on a connection of its own."""
    scheme, host = url.scheme or "", (url.host or "").strip("[]")
    origin = Origin(scheme, host, url.port or _PORTS[scheme], address=address, most_idle=0)
    start = f"GET {url.request_uri} HTTP/1.1\r\nHost: {url.netloc}\r\n"
    left_s = max(0.001, deadline - monotonic())
    return exchange(origin, request_bytes(start, headers, None), left_s, deadline)
