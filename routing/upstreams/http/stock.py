"""The way back: urllib3 and http.client speak with the providers, where GATEWAY_EXCHANGE=urllib3 says so.

It is kept for a release, for the case that exchange.py cannot read what a provider sends (docs/adr/0025), and goes with
that setting. Two things are added to urllib3's connections:

- **Deadlines, not pauses.** urllib3's read timeout starts again with every `recv`, so a provider that trickles one
  byte a second never runs into it. Our connections read through :class:`_TimedSocket`, which gives each `recv`
  only what is left until the deadline of the phase: headers, chunk sizes and trailers included.
- **Idle connections.** A connection that the provider has closed is noticed when it is taken from the pool, and it is
  replaced.

Bounds: `http.client`'s 100 headers of 64 KiB.
"""

from __future__ import annotations

import http
import http.client
import io
import os
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import LocationValueError
from urllib3.util import Timeout, parse_url
from urllib3.util.wait import wait_for_read

from accounting.postgres.sockets import has_ended
from routing.upstreams.base import Leash
from routing.upstreams.http.connections import IDLE_HTTP_S, IDLE_HTTPS_S, SOCKET_OPTIONS, tls_context

#: The leash of the call that this thread or greenlet makes. urllib3 cannot pass it on, so it goes around urllib3.
leash_of_call: ContextVar[Leash | None] = ContextVar("leash", default=None)

READ_BYTES: Final = 65536
#: The end of the last chunk, the size of the next one, which is not the last, and its first byte.
_CHUNK: Final = re.compile(rb"\r\n0{0,8}[1-9a-fA-F][0-9a-fA-F]{0,8}[ \t]*(?:;[^\r\n]{0,1000})?\r\n.", re.DOTALL)
_MAX_HEADERS, _MAX_HEADER_BYTES = 100, 65536  # http.client's own bounds


class Watch:
    """The deadline and the socket of a connection's current answer. Keeps `sock` after urllib3 has dropped it."""

    __slots__ = ("buffer", "deadline", "is_peeking", "last_byte_at", "sock")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.last_byte_at = monotonic()
        self.sock: Any = None
        self.buffer: io.BufferedReader | None = None  # between the socket and http.client
        self.is_peeking = False

    def has_bytes(self, within_s: float) -> bool:
        """Whether something of the body comes in that time. Reads nothing of it."""
        if self.sock is None or self.buffer is None or self.sock.fileno() == -1:
            return True  # whoever reads hears at once what is the matter
        if self._buffered(self.buffer).strip(
            b"\r\n"
        ):  # the end of a chunk, whose next has not come, is nothing to read
            return True
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        return wait_for_read(self.sock, timeout=max(0.0, within_s))

    def has_chunk(self) -> bool:
        """Whether the next chunk of a chunked body has begun to come, so that reading from it waits for nothing.

        http.client reads one chunk at a time, and most providers send each event as a chunk."""
        return self.buffer is not None and _CHUNK.match(self._buffered(self.buffer)) is not None

    def _buffered(self, buffer: io.BufferedReader) -> bytes:
        self.is_peeking = True
        try:
            return buffer.peek(1)
        finally:
            self.is_peeking = False


class _TimedSocket(io.RawIOBase):
    """The socket's raw file, every `recv` of which ends at the deadline."""

    def __init__(self, raw: io.RawIOBase, watch: Watch) -> None:
        self._raw = raw
        self._watch = watch

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        watch = self._watch
        if watch.is_peeking:
            return None  # nothing is there without waiting
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
        # The socket's timeout is the limit that urllib3 was given for the head of the answer.
        watch.sock = sock
        watch.deadline = monotonic() + (sock.gettimeout() or 0.0)
        leash = leash_of_call.get()
        if leash is not None:  # the request is sent, and the answer may take long
            leash.on_gone(lambda: _shut(sock))
        self.fp = watch.buffer = io.BufferedReader(_TimedSocket(self.fp.detach(), watch), READ_BYTES)

    def begin(self) -> None:
        """http.client's method, but with :func:`read_headers`.

        http.client parses headers with the e-mail package, which takes as long as sending the request.
        """
        while True:
            version, status, reason = self._read_status()  # type: ignore[attr-defined]  # there since Python 2
            if status != http.HTTPStatus.CONTINUE:
                break
            read_headers(self.fp)
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.headers = self.msg = read_headers(self.fp)
        self.chunked = (self.headers.get("transfer-encoding") or "").lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]  # likewise
        length = self.headers.get("content-length") or ""
        self.length = int(length) if length.isdecimal() and not self.chunked else None
        if status < 200 or status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED):
            self.length = 0
        if not self.will_close and not self.chunked and self.length is None:
            self.will_close = True


def read_headers(fp: io.BufferedIOBase) -> http.client.HTTPMessage:
    """The headers, at most 100 lines of 64 KiB. https://www.rfc-editor.org/rfc/rfc9112#section-5

    A line without a colon is not a field and is skipped, as browsers do.
    """
    fields: list[list[str]] = []
    for _ in range(_MAX_HEADERS):
        line = fp.readline(_MAX_HEADER_BYTES + 1)
        if len(line) > _MAX_HEADER_BYTES:
            raise http.client.LineTooLong("header line")
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            break
        name, colon, value = text.partition(":")
        if text[0] in " \t" and fields:  # the line continues a folded value
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
    """Wakes the thread that reads from the socket. The descriptor stays open, because that thread still uses it."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class Connection(HTTPConnection):
    idle_limit_s = IDLE_HTTP_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = Watch()

    def response_class(self, sock: Any, method: str | None = None) -> _TimedResponse:  # type: ignore[override]
        return _TimedResponse(sock, self.watch, method)

    @property
    def is_connected(self) -> bool:
        """urllib3 asks this when it takes a connection from the pool, and replaces the connection if not."""
        return _is_reusable(self)


class TlsConnection(HTTPSConnection):
    idle_limit_s = IDLE_HTTPS_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = Watch()

    def response_class(self, sock: Any, method: str | None = None) -> _TimedResponse:  # type: ignore[override]
        return _TimedResponse(sock, self.watch, method)

    @property
    def is_connected(self) -> bool:
        return _is_reusable(self)


def _is_reusable(connection: Connection | TlsConnection) -> bool:
    """Not idle for too long, and still open."""
    if connection.sock is None or monotonic() - connection.watch.last_byte_at >= connection.idle_limit_s:
        return False
    return not has_ended(connection.sock)


class Pool(HTTPConnectionPool):
    ConnectionCls = Connection


class TlsPool(HTTPSConnectionPool):
    ConnectionCls = TlsConnection


_lock = threading.Lock()
_managers: dict[int, urllib3.PoolManager] = {}  # by process id; after a fork the parent's manager stays beside our own


def _pool_manager() -> urllib3.PoolManager:
    """The process's own manager: sockets that are shared across a fork would mix two workers' answers."""
    pid = os.getpid()
    manager = _managers.get(pid)
    if manager is None:
        with _lock:
            if pid not in _managers:
                # maxsize is how many idle connections are kept. With block=False more are opened as needed.
                made = urllib3.PoolManager(
                    num_pools=200,
                    maxsize=256,
                    block=False,
                    retries=False,
                    socket_options=SOCKET_OPTIONS,
                    ssl_context=tls_context(pid),
                )
                made.pool_classes_by_scheme = {"http": Pool, "https": TlsPool}
                _managers[pid] = made
            manager = _managers[pid]
    return manager


@lru_cache(maxsize=512)
def _split(url: str) -> tuple[str, str, int | None, str]:
    parsed = parse_url(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise LocationValueError(f"not an http(s) URL: {parsed.scheme}")
    return parsed.scheme, parsed.host, parsed.port, parsed.request_uri


class StockAnswer:
    """urllib3's answer, read as an Exchange is."""

    def __init__(self, response: urllib3.HTTPResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._decodes = "content-encoding" in response.headers
        self._is_chunked = bool(response.chunked) and not self._decodes
        connection = response.connection
        self.ended = connection is None  # an answer without a body (204, 304) has given its connection back already
        self._watch = connection.watch if isinstance(connection, Connection | TlsConnection) else Watch()

    @property
    def deadline(self) -> float:
        return self._watch.deadline

    @deadline.setter
    def deadline(self, at: float) -> None:
        self._watch.deadline = at

    def read_some(self) -> bytes:
        if self.ended:
            return b""
        chunk = self._response.read1(READ_BYTES, decode_content=self._decodes)
        if self._is_chunked and chunk and self._watch.has_chunk():
            chunk = self._with_buffered(chunk)
        self.ended = not chunk
        return chunk

    def _with_buffered(self, chunk: bytes) -> bytes:
        """The chunk, and those that have come with it."""
        chunks = [chunk]
        while self._watch.has_chunk():
            chunks.append(self._response.read1(READ_BYTES, decode_content=False))
        return b"".join(chunks)

    def has_bytes(self, within_s: float) -> bool:
        return self.ended or self._decodes or self._watch.has_bytes(within_s)

    def shut(self) -> None:
        if not self.ended and self._watch.sock is not None:
            _shut(self._watch.sock)

    def close(self) -> None:
        if not self.ended:
            self.ended = True
            self._response.close()


def ask(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    connect_s: float,
    deadline: float,
    *,
    leash: Leash | None,
    method: str = "POST",
) -> StockAnswer:
    """One request. Only a POST says how long its body is when it has none."""
    leash_of_call.set(leash)
    scheme, host, port, target = _split(url)
    left_s = max(0.001, deadline - monotonic())
    response = (
        _pool_manager()
        .connection_from_host(host, port, scheme)
        .urlopen(
            method,
            target,
            body=body if body or method == "POST" else None,
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=connect_s, read=left_s, total=left_s),
            preload_content=False,
            decode_content=False,
        )
    )
    assert isinstance(response, urllib3.HTTPResponse)
    return StockAnswer(response)
