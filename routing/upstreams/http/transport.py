"""HTTP to the providers: one call, exact limits, bounded reads, and a `close()` that works from any thread.

urllib3 carries the bytes, over connections with a deadline (connections.py). Two things are outside the limits: the
name look-up, which only the operating system bounds, and that the connect limit applies to each address of a name.

- **Nothing is sent twice.** A connection that the provider closes in the very moment in which we send cannot be told
  from a provider that read the request and died, and the request may have been billed: it is a CONNECTION failure,
  which the cascade may retry and the ledger records. Idle connections are looked at first, which makes that rare.
- **No redirects, no retries, no proxies from the environment.**

Bounds: :data:`MAX_BODY_BYTES` of an answer after decompression, `events.MAX_EVENT_BYTES` for one event of a stream and
`events.MAX_STREAM_BYTES` for all of it, connections.py's for headers.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Final

import certifi
import urllib3
from django.conf import settings
from urllib3.connectionpool import HTTPConnectionPool
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
from routing.upstreams.http.connections import READ_BYTES, Pool, TlsPool, Watch, leash_of_call, watch_of

USER_AGENT: Final = f"llm-gateway/{settings.GATEWAY_VERSION}"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

_SOCKET_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


# --- one pool a process ---------------------------------------------------------------------------------

_lock = threading.Lock()
_managers: dict[int, urllib3.PoolManager] = {}  # by process id; after a fork the parent's manager stays beside our own


@lru_cache(maxsize=2)
def _tls(pid: int) -> ssl.SSLContext:
    """One context for all connections: reading the authorities' certificates takes 15 ms.

    Uses certifi's list, because a slim image has no list. `SSL_CERT_FILE` names another list.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(os.environ.get("SSL_CERT_FILE") or certifi.where())
    return context


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
                    socket_options=_SOCKET_OPTIONS,
                    ssl_context=_tls(pid),
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


# --- a call ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Whole:
    """A complete answer of any status. `headers` is case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Limits:
    """The moments at which an attempt's limits run out. The attempt starts when this object is made."""

    __slots__ = (
        "_content_seen",
        "_first_token_s",
        "_living_at",
        "_since",
        "connect_s",
        "first_token_at",
        "idle_s",
        "total_at",
    )

    def __init__(self, timeouts: Timeouts, *, streamed: bool) -> None:
        now = monotonic()
        self.connect_s = min(timeouts.connect_s, timeouts.total_s)
        self.idle_s = timeouts.idle_s
        self.total_at = now + timeouts.total_s
        self.first_token_at = min(now + timeouts.first_token_s, self.total_at) if streamed else self.total_at
        self._first_token_s = timeouts.first_token_s
        self._living_at = now + timeouts.living_s
        self._content_seen = False
        self._since = now  # of the idle limit

    def asked(self) -> None:
        """An event is waited for from now on: until then it was the client that was slow."""
        self._since = monotonic()

    def heard(self) -> None:
        """A byte of the stream has come: a ping or a comment too says that the provider lives."""
        self._since = monotonic()
        if not self._content_seen:
            self.first_token_at = min(self._since + self._first_token_s, self._living_at)

    def content_seen(self) -> None:
        """The first content event has come: from now on the idle limit applies, from one sign of life to the next."""
        self._content_seen = True

    def next_byte_at(self) -> float:
        if self._content_seen:
            return min(self._since + self.idle_s, self.total_at)
        return self.first_token_at


class MappedErrors:
    """Context manager: urllib3's exceptions → one UpstreamError, without the URL that they carry.

    Once the request may have been read, it may be billed, whatever then goes wrong: `consumed`.
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
                return UpstreamError(FailureKind.TIMEOUT, message, consumed=True)
            case SSLError():
                return UpstreamError(FailureKind.CONNECTION, "No trusted TLS connection to the provider")
            case DecodeError() | InvalidHeader():
                return UpstreamError(FailureKind.MALFORMED, "The provider's answer cannot be decoded", consumed=True)
            case HTTPError() | http.client.HTTPException() | OSError():
                message = "The provider's answer broke off" if self._answering else "The provider closed the connection"
                return UpstreamError(FailureKind.CONNECTION, message, consumed=True)
        return None


CALLING: Final = MappedErrors(answering=False)
ANSWERING: Final = MappedErrors(answering=True)


def open_call(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    limits: Limits,
    leash: Leash | None = None,
    *,
    method: str = "POST",
) -> urllib3.HTTPResponse:
    leash_of_call.set(leash)
    with CALLING:
        scheme, host, port, target = _split(url)
        pool = _pool_manager().connection_from_host(host, port, scheme)
        left = max(0.001, limits.first_token_at - monotonic())
        response = pool.urlopen(
            method,
            target,
            body=body or None,
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
    """The decompressed body, at most `limit` bytes. The connection returns to its pool at the end of the body."""
    watch.deadline = deadline
    parts: list[bytes] = []
    size = 0
    done = False
    try:
        with ANSWERING:
            while part := response.read(READ_BYTES, decode_content=True):
                size += len(part)
                if size > limit:
                    raise UpstreamError(
                        FailureKind.MALFORMED, f"The provider's answer is larger than {limit} bytes", consumed=True
                    )
                parts.append(part)
        done = True
    finally:
        if not done:
            response.close()
    return b"".join(parts)


def post(url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Whole:
    """One POST whose answer, of any status, is read to the end. Raises UpstreamError when there is no whole answer."""
    return send("POST", url, headers, body, timeouts)


def send(method: str, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Whole:
    """The same with another method, for what a provider keeps."""
    limits = Limits(timeouts, streamed=False)
    response = open_call(url, headers, body, limits, method=method)
    if response.connection is None:  # an answer without a body (204, 304) has given its connection back already
        return Whole(response.status, response.headers, b"")
    content = read_bounded(response, watch_of(response), limits.total_at, MAX_BODY_BYTES)
    return Whole(response.status, response.headers, content)


def get(url: Url, address: str, deadline: float, limit: int) -> Whole:
    """One GET at exactly this IP address of the URL's host, on a new connection. Raises UpstreamError."""
    left = max(0.001, deadline - monotonic())
    timeout = Timeout(connect=left, read=left, total=left)
    pool: HTTPConnectionPool
    if url.scheme == "https":
        host = (url.host or "").strip("[]")
        pool = TlsPool(
            address, url.port, maxsize=1, assert_hostname=host, server_hostname=host, ssl_context=_tls(os.getpid())
        )
    else:
        pool = Pool(address, url.port, maxsize=1)
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
