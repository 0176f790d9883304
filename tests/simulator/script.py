"""Which behaviour a request gets: queues of behaviours, each for the requests that a selector matches."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulator.behaviour import Behaviour


@dataclass(frozen=True, slots=True)
class Where:
    """Selects requests; what is None matches all. `provider` is the name in `/p/<name>/…`, else the
    format's."""

    provider: str | None = None
    format: str | None = None
    model: str | None = None

    def matches(self, provider: str, wire: str, model: str) -> bool:
        return self.provider in (None, provider) and self.format in (None, wire) and self.model in (None, model)

    @property
    def exactness(self) -> int:
        return 4 * (self.model is not None) + 2 * (self.provider is not None) + (self.format is not None)


@dataclass(slots=True)
class _Queue:
    waiting: deque[Behaviour] = field(default_factory=deque)
    forever: Behaviour | None = None
    head_since: float = 0.0

    def take(self, now: float) -> Behaviour | None:
        while self.waiting:
            head = self.waiting[0]
            if head.window_s is None:
                self.waiting.popleft()
                self.head_since = now
                return head
            if now < self.head_since + head.window_s:
                return head
            self.waiting.popleft()
            self.head_since = now
        return self.forever


class Script:
    """All queues. The most exact selector that has something to say decides; else the default behaviour."""

    def __init__(self, default: Behaviour) -> None:
        self._default = default
        self._queues: dict[Where, _Queue] = {}
        self._dice: dict[int | None, random.Random] = {}
        self._lock = threading.Lock()

    def add(self, where: Where, behaviours: tuple[Behaviour, ...], forever: Behaviour | None) -> None:
        with self._lock:
            queue = self._queues.setdefault(where, _Queue())
            if not queue.waiting:
                queue.head_since = time.monotonic()
            queue.waiting.extend(behaviours)
            if forever is not None:
                queue.forever = forever

    def clear(self) -> None:
        with self._lock:
            self._queues.clear()
            self._dice.clear()

    def take(self, provider: str, wire: str, model: str) -> Behaviour:
        """The behaviour for this request, its ranges drawn."""
        with self._lock:
            now = time.monotonic()
            matching = [where for where in self._queues if where.matches(provider, wire, model)]
            for where in sorted(matching, key=lambda where: -where.exactness):
                if (behaviour := self._queues[where].take(now)) is not None:
                    return self._drawn(behaviour)
            return self._drawn(self._default)

    def _drawn(self, behaviour: Behaviour) -> Behaviour:
        if not any(
            isinstance(value, tuple) for value in (behaviour.latency_s, behaviour.first_token_s, behaviour.length)
        ):
            return behaviour
        dice = self._dice.setdefault(behaviour.seed, random.Random(behaviour.seed))
        changes: dict[str, float | int] = {}
        if isinstance(behaviour.latency_s, tuple):
            changes["latency_s"] = dice.uniform(*behaviour.latency_s)
        if isinstance(behaviour.first_token_s, tuple):
            changes["first_token_s"] = dice.uniform(*behaviour.first_token_s)
        if isinstance(behaviour.length, tuple):
            changes["length"] = dice.randint(*behaviour.length)
        return dataclasses.replace(behaviour, **changes)  # type: ignore[arg-type]
