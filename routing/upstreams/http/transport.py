"""HTTP to the providers: one call, exact limits, bounded reads, and a `close()` that works from any thread.

exchange.py carries the bytes. Two things are outside the limits: the name look-up, which only the operating system
bounds, and that the connect limit applies to each address of a name.

- **Nothing is sent twice.** A connection that the provider closes in the very moment in which we send cannot be told
  from a provider that read the request and died, and the request may have been billed: it is a CONNECTION failure,
  which the cascade may retry and the ledger records. Idle connections are looked at first, which makes that rare, and
  one that takes no byte of a request is replaced.
- **No redirects, no retries, no proxies from the environment.**

Bounds: :data:`MAX_BODY_BYTES` of an answer after decompression, `events.MAX_EVENT_BYTES` for one event of a stream and
`events.MAX_STREAM_BYTES` for all of it, framing.py's for heads.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from time import monotonic
from types import TracebackType
from typing import Final, Protocol

from django.conf import settings
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
from urllib3.util import Url

from accounting.record import record
from routing.upstreams.base import FailureKind, Leash, Timeouts, UpstreamError
from routing.upstreams.http import exchange, stock

USER_AGENT: Final = f"llm-gateway/{settings.GATEWAY_VERSION}"
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

_ask = stock.ask if settings.GATEWAY_EXCHANGE == "urllib3" else exchange.ask


# --- a call ---------------------------------------------------------------------------------------------


@record(frozen=True, slots=True)
class Whole:
    """A complete answer of any status. `headers` is case-insensitive, or its names are in lower case."""

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


class OpenAnswer(Protocol):
    """An answer whose head has come. One thread reads its body; any thread may `shut()`."""

    status: int
    headers: Mapping[str, str]  # case-insensitive, or of names in lower case
    deadline: float  # of whoever reads: a read that does not end before raises TimeoutError

    @property
    def ended(self) -> bool:
        """Whether the body was read to its end, or the answer was closed: its connection is not its own any more."""

    def read_some(self) -> bytes:
        """What has come of the body, decoded; empty at its end."""

    def has_bytes(self, within_s: float) -> bool:
        """Whether something of the body, or its end, comes in that time. Reads nothing of it."""

    def shut(self) -> None:
        """Wakes the thread that reads, which is to `close()` the answer."""

    def close(self) -> None:
        """Gives up what has not been read, and the connection with it. Does nothing once the answer has ended."""


def open_call(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    limits: Limits,
    leash: Leash | None = None,
    *,
    method: str = "POST",
) -> OpenAnswer:
    left_s = max(0.001, limits.first_token_at - monotonic())
    connect_s = min(limits.connect_s, left_s)
    with CALLING:
        return _ask(url, headers, body, connect_s, limits.first_token_at, leash=leash, method=method)


def read_bounded(answer: OpenAnswer, deadline: float, limit: int) -> Whole:
    """The answer, with at most `limit` bytes of decompressed body. Its connection is kept when the body has ended."""
    answer.deadline = deadline
    parts: list[bytes] = []
    size = 0
    try:
        with ANSWERING:
            while part := answer.read_some():
                size += len(part)
                if size > limit:
                    raise UpstreamError(
                        FailureKind.MALFORMED, f"The provider's answer is larger than {limit} bytes", consumed=True
                    )
                parts.append(part)
    finally:
        answer.close()
    return Whole(answer.status, answer.headers, parts[0] if len(parts) == 1 else b"".join(parts))


def post(url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Whole:
    """One POST whose answer, of any status, is read to the end. Raises UpstreamError when there is no whole answer."""
    return send("POST", url, headers, body, timeouts)


def send(method: str, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> Whole:
    """The same with another method, for what a provider keeps."""
    limits = Limits(timeouts, streamed=False)
    return read_bounded(open_call(url, headers, body, limits, method=method), limits.total_at, MAX_BODY_BYTES)


def get(url: Url, address: str, deadline: float, limit: int) -> Whole:
    """One GET at exactly this IP address of the URL's host, on a new connection. Raises UpstreamError."""
    with CALLING:
        answer = exchange.get(url, address, {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}, deadline)
    return read_bounded(answer, deadline, limit)
