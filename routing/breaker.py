"""Keeps a failing deployment out of the way: closed, open, half-open; per provider and model.

Closed until ``breaker_failures`` failures in a row, then open for ``breaker_cooldown_s`` (or as long as the provider's
own Retry-After asks for): requests go past it at no cost. Then half-open: one request probes, the others still go past;
its success closes the breaker, its failure opens it again.

The state is this process's own: each worker learns for itself.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from routing.catalog import Step
from routing.upstreams.base import FailureKind, UpstreamError

#: Failures that speak of the deployment's health, not of the request.
COUNTED = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.OVERLOADED,
        FailureKind.CONNECTION,
        FailureKind.TIMEOUT,
        FailureKind.AUTHENTICATION,
        FailureKind.NOT_FOUND,
        FailureKind.MALFORMED,
        FailureKind.INTERRUPTED,
    }
)


@dataclass
class _State:
    failures: int = 0
    open_until: float | None = None  # monotonic; None: closed
    probing_until: float = 0.0  # a probe that never reports back must not keep the breaker half-open for ever


_states: dict[tuple[str, str], _State] = {}
_lock = threading.Lock()


def _of(step: Step) -> _State:
    return _states.setdefault((step.provider.name, step.deployment.model), _State())


def lets_through(step: Step) -> bool:
    """Whether the deployment may be called now. True in half-open means: you are the probe."""
    with _lock:
        state = _of(step)
        now = time.monotonic()
        if state.open_until is None:
            return True
        if now < state.open_until or now < state.probing_until:
            return False
        state.probing_until = now + step.provider.breaker_cooldown_s
        return True


def succeeded(step: Step) -> None:
    with _lock:
        state = _of(step)
        state.failures, state.open_until, state.probing_until = 0, None, 0.0


def failed(step: Step, error: UpstreamError) -> None:
    if error.kind not in COUNTED:
        return
    with _lock:
        state = _of(step)
        state.failures += 1
        if state.open_until is not None or state.failures >= step.provider.breaker_failures:
            state.open_until = time.monotonic() + max(step.provider.breaker_cooldown_s, error.retry_after_s or 0.0)
            state.probing_until = 0.0


def reset() -> None:
    """Close every breaker of this process."""
    with _lock:
        _states.clear()
