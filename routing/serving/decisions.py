"""What comes after a failed attempt: the same deployment again, another key, the next step, another chain, or the end.

One pure function, :func:`decide`, of the failure and of the request's :class:`Position` in its chain. It asks nobody
and changes nothing; `tests/unit/test_decide.py` is its table.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from routing.models import ChainKind
from routing.upstreams.base import FailureKind, UpstreamError

MAX_RETRY_AFTER_S: Final = 5.0  # a provider that asks for more is left for the next step
#: The provider says that the request itself is wrong.
REFUSED: Final = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY})
#: The same, and that this deployment cannot do what is asked (pictures, tools): another may.
REFUSALS: Final = REFUSED | {FailureKind.CAPABILITY}
#: Refusals that an alias may have a chain of its own for.
CHAIN_OF: Final = {
    FailureKind.CONTEXT_WINDOW: ChainKind.CONTEXT_WINDOW,
    FailureKind.CONTENT_POLICY: ChainKind.CONTENT_POLICY,
}
#: Failures that another key of the same provider may not have.
OF_THE_KEY: Final = frozenset({FailureKind.RATE_LIMITED, FailureKind.AUTHENTICATION})


@dataclass(frozen=True, slots=True)
class Position:
    """Where in its chain a request is when an attempt has failed."""

    is_first: bool  # the step is the first of all that were tried
    is_adapted: bool  # what was asked is not what the client sent: its refusal may be ours
    was_refused: bool  # an earlier step has refused what the client sent
    has_steps_left: bool
    chains_left: Set[ChainKind]  # the alias's other chains that have steps and were not turned to
    has_keys_left: bool  # another key of the provider is well and was not tried at this step
    retries_left: int
    backoff_s: float  # what to wait before the next retry when the provider does not say
    is_breaker_open: bool  # there is no use in asking the deployment again soon
    left_s: float  # of the time that the client waits


@dataclass(frozen=True, slots=True)
class NextKey:
    """The same deployment at once, with another of the provider's keys."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The same deployment after a pause."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class NextStep:
    pass


@dataclass(frozen=True, slots=True)
class TurnTo:
    """The first step of another chain, in place of what is left of this one."""

    chain: ChainKind


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody else is asked. The client hears the first refusal of its request, or else that all models failed."""

    is_refusal: bool = False


Decision = NextKey | RetryAfter | NextStep | TurnTo | Stop


def decide(failure: UpstreamError, position: Position) -> Decision:
    """A refusal of the first step is believed: the request is wrong. One of a later step is a reason to go on, because
    nobody has said so of the request that the alias was asked for."""
    if failure.kind in OF_THE_KEY and position.has_keys_left and position.left_s > 0:
        return NextKey()
    if failure.retryable and position.retries_left and not position.is_breaker_open:
        wait_s = position.backoff_s if failure.retry_after_s is None else failure.retry_after_s
        if wait_s < position.left_s and (failure.retry_after_s is None or wait_s <= MAX_RETRY_AFTER_S):
            return RetryAfter(wait_s)
    is_refusal = failure.kind in REFUSALS and not position.is_adapted
    stop = Stop(is_refusal=is_refusal or position.was_refused)
    if position.left_s <= 0:
        return stop
    if failure.kind in REFUSED and not position.is_adapted:
        chain = CHAIN_OF.get(failure.kind)
        if chain is not None and chain in position.chains_left:
            return TurnTo(chain)
        if position.is_first:
            return stop
    return NextStep() if position.has_steps_left else stop
