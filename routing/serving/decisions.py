"""What comes after a failed attempt: the same deployment again, another key, the next step, another chain, or the end.

One pure function, :func:`decide`, takes the failure and the request's :class:`Position` in its chain. It reads nothing
else and changes nothing. `tests/unit/test_decide.py` has the table of its answers.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from routing.models import ChainKind
from routing.upstreams.base import FailureKind, UpstreamError

MAX_RETRY_AFTER_S: Final = 5.0  # a provider that asks for a longer pause is not waited for: the next step is asked
#: The provider says that the request itself is wrong.
REFUSED: Final = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY})
#: The same, and that this deployment cannot do what is asked (pictures, tools). Another deployment may.
REFUSALS: Final = REFUSED | {FailureKind.CAPABILITY}
#: Refusals for which an alias may have a separate chain.
CHAIN_OF: Final = {
    FailureKind.CONTEXT_WINDOW: ChainKind.CONTEXT_WINDOW,
    FailureKind.CONTENT_POLICY: ChainKind.CONTENT_POLICY,
}
#: Failures that may not happen with another key of the same provider.
OF_THE_KEY: Final = frozenset({FailureKind.RATE_LIMITED, FailureKind.AUTHENTICATION})


@dataclass(frozen=True, slots=True)
class Position:
    """Where in its chain a request is when an attempt has failed."""

    is_first: bool  # no other step was tried before
    is_adapted: bool  # the gateway changed the request, so that a refusal may not be the client's fault
    was_refused: bool  # an earlier step has refused what the client sent
    has_steps_left: bool
    chains_left: Set[ChainKind]  # the alias's other chains that have steps and were not turned to
    has_keys_left: bool  # another key of the provider is well and was not tried at this step
    retries_left: int
    backoff_s: float  # the pause before the next retry when the provider does not say
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
    """The first step of another chain. The steps that are left of this chain are dropped."""

    chain: ChainKind


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody else is asked. The client hears the first refusal of its request, or else that all models failed."""

    is_refusal: bool = False


Decision = NextKey | RetryAfter | NextStep | TurnTo | Stop


def words_of(decision: Decision) -> str:
    """Why another attempt follows, for the books; empty when no attempt follows."""
    match decision:
        case NextKey():
            return "another key of the provider"
        case RetryAfter(wait_s):
            return f"the same deployment after {wait_s:.2f} s"
        case NextStep():
            return "the next step"
        case TurnTo(chain):
            return f"the alias's chain for {chain.value}"
        case Stop():
            return ""


def decide(failure: UpstreamError, position: Position) -> Decision:
    """What comes next. Pure.

    When the first step refuses the request, the request is wrong, unless it is our account that cannot take so much of
    it. When a later step refuses it, the next step is asked, because the alias's own deployment has not refused it."""
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
        if position.is_first and not failure.is_beyond_our_pace:
            return stop
    return NextStep() if position.has_steps_left else stop
