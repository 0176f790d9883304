"""Whose calls a deployment has answered and failed lately, by the ids of their API keys.

One client must not open the breaker that all share: its requests may fail for what they ask. So where several keys use
a deployment, the failures of one of them alone are not believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

LATELY_S: Final = 15.0
AGAIN_S: Final = 5.0  # how often the other processes are told of what has not changed
MOST_TOLD: Final = 3  # keys of a deployment: it is enough to know that there are several
ANONYMOUS: Final = 0  # all callers of open mode
_MOST_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Use:
    """A key at a deployment, as processes tell each other: how many seconds ago it called, and failed (None: it has not
    lately)."""

    key: int
    used_s: float
    failed_s: float | None


@dataclass(slots=True)
class Clients:
    """The keys of one deployment. Times are monotonic."""

    used: dict[int, float] = field(default_factory=dict)  # by key: when it last called in this process
    failed: dict[int, float] = field(default_factory=dict)
    used_elsewhere: dict[int, float] = field(default_factory=dict)
    failed_elsewhere: dict[int, float] = field(default_factory=dict)
    told: frozenset[tuple[int, bool]] = frozenset()  # what the other processes know of this one
    told_at: float = 0.0

    def note(self, key: int, now: float, *, failed: bool) -> None:
        if failed:
            self.failed[key] = now
            _bound(self.failed)
        self.used[key] = now
        _bound(self.used)

    def is_one_alone(self, now: float) -> bool:
        """Whether all failures are of one key, and others call the deployment too."""
        failing = _lately(self.failed, now) | _lately(self.failed_elsewhere, now)
        return len(failing) < 2 <= len(failing | _lately(self.used, now) | _lately(self.used_elsewhere, now))

    def news(self, now: float) -> list[Use]:
        """What the other processes do not know yet; counted as told from now on."""
        failing = _lately(self.failed, now)
        keys = sorted(_lately(self.used, now), key=lambda key: (key not in failing, -self.used[key]))[:MOST_TOLD]
        known = frozenset((key, key in failing) for key in keys)
        if not keys or (known <= self.told and now - self.told_at < AGAIN_S):
            return []
        self.told, self.told_at = known, now
        return [Use(key, now - self.used[key], now - self.failed[key] if key in failing else None) for key in keys]

    def learn(self, use: Use, now: float) -> None:
        self.used_elsewhere[use.key] = now - use.used_s
        if use.failed_s is not None:
            self.failed_elsewhere[use.key] = now - use.failed_s
        _bound(self.used_elsewhere)
        _bound(self.failed_elsewhere)


def _lately(times: dict[int, float], now: float) -> set[int]:
    return {key for key, at in times.items() if now - at < LATELY_S}


def _bound(times: dict[int, float]) -> None:
    if len(times) > _MOST_KEPT:
        del times[min(times, key=times.__getitem__)]
