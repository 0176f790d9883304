"""What the simulator received: one frozen record a request, in order of arrival."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it came, and how it ended. Times are `time.monotonic()` seconds.

    `headers` has lower-case names. `body` is None when it was not a JSON object. `status` is None until the
    head of a response was sent. `ended_at` is None while the request runs; `closed_by_client_at` stays None
    unless the client hung up first, and `tokens_sent` counts the content tokens sent until then."""

    number: int
    received_at: float
    provider: str
    format: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: dict[str, Any] | None
    raw: bytes
    model: str = ""
    streamed: bool = False
    status: int | None = None
    tokens_sent: int = 0
    ended_at: float | None = None
    closed_by_client_at: float | None = None


class RequestLog:
    """Thread-safe. Keeps the last `keep` requests, so that a long load test does not eat the memory."""

    def __init__(self, keep: int = 20_000) -> None:
        self._keep = keep
        self._numbers = itertools.count(1)
        self._requests: dict[int, ReceivedRequest] = {}
        self._changed = threading.Condition()

    def add(self, request: ReceivedRequest) -> int:
        """Stores it under the next number, which is returned (and is in the record)."""
        with self._changed:
            number = next(self._numbers)
            self._requests[number] = dataclasses.replace(request, number=number)
            if len(self._requests) > self._keep:
                del self._requests[next(iter(self._requests))]
            self._changed.notify_all()
            return number

    def update(self, number: int, **changes: Any) -> None:
        with self._changed:
            if number in self._requests:
                self._requests[number] = dataclasses.replace(self._requests[number], **changes)
                self._changed.notify_all()

    def all(self) -> list[ReceivedRequest]:
        with self._changed:
            return list(self._requests.values())

    def clear(self) -> None:
        with self._changed:
            self._requests.clear()

    def wait_until(self, condition: Callable[[list[ReceivedRequest]], object], timeout_s: float) -> bool:
        """Whether the condition came true of the requests within that time."""
        with self._changed:
            return bool(self._changed.wait_for(lambda: condition(list(self._requests.values())), timeout=timeout_s))
