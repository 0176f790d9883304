"""What comes after a failed attempt: the table of the contract's "When the cascade moves", one row a case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from routing.models import ChainKind
from routing.serving.decisions import Decision, NextKey, NextStep, Position, RetryAfter, Stop, TurnTo, decide
from routing.upstreams.base import FailureKind, UpstreamError

K = FailureKind
WINDOW, POLICY = ChainKind.CONTEXT_WINDOW, ChainKind.CONTENT_POLICY
REFUSAL, ALL_FAILED = Stop(is_refusal=True), Stop()

#: The first try of a chain's first step. There is a further step, and no further key or chain.
FIRST = Position(
    is_first=True,
    is_adapted=False,
    was_refused=False,
    has_steps_left=True,
    chains_left=frozenset(),
    has_keys_left=False,
    retries_left=0,
    backoff_s=0.25,
    is_breaker_open=False,
    left_s=60.0,
)
LATER = replace(FIRST, is_first=False)
LAST = replace(LATER, has_steps_left=False)
RETRIES = replace(FIRST, retries_left=1)
KEYS = replace(FIRST, has_keys_left=True)
CHAINS = replace(FIRST, chains_left=frozenset({WINDOW, POLICY}))
REFUSED_BEFORE = replace(LATER, was_refused=True)
ADAPTED = replace(LATER, is_adapted=True)
OUT_OF_TIME = replace(LATER, left_s=0.0)

LEFT_ALONE = sorted(set(K) - {K.BAD_REQUEST, K.CONTEXT_WINDOW, K.CONTENT_POLICY, K.CAPABILITY})
RETRIED = (K.RATE_LIMITED, K.OVERLOADED, K.CONNECTION)
REFUSALS = (K.BAD_REQUEST, K.CONTEXT_WINDOW, K.CONTENT_POLICY)


def failure(kind: FailureKind, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError(kind, "no", retry_after_s=retry_after_s)


def beyond(status: int, words: str = "Request too large") -> UpstreamError:
    return UpstreamError(K.CONTEXT_WINDOW, words, http_status=status)


TABLE: list[tuple[str, UpstreamError, Position, Decision]] = [
    # A failure that may pass: the same deployment again.
    *((f"{k}: retried after our pause", failure(k), RETRIES, RetryAfter(0.25)) for k in RETRIED),
    ("the provider's own pause", failure(K.RATE_LIMITED, 2.0), RETRIES, RetryAfter(2.0)),
    ("a pause of five seconds", failure(K.OVERLOADED, 5.0), RETRIES, RetryAfter(5.0)),
    ("a longer pause", failure(K.OVERLOADED, 5.1), RETRIES, NextStep()),
    ("no retries left", failure(K.OVERLOADED), FIRST, NextStep()),
    ("no retries left at the last step", failure(K.OVERLOADED), LAST, ALL_FAILED),
    ("retried at the last step", failure(K.CONNECTION), replace(LAST, retries_left=1), RetryAfter(0.25)),
    ("the breaker is open now", failure(K.OVERLOADED), replace(RETRIES, is_breaker_open=True), NextStep()),
    ("the client waits for less", failure(K.OVERLOADED, 3.0), replace(RETRIES, left_s=3.0), NextStep()),
    ("a continuation is retried too", failure(K.CONNECTION), replace(ADAPTED, retries_left=1), RetryAfter(0.25)),
    # A failure that will not pass: the next step.
    *(
        (f"{k}: not retried", failure(k), RETRIES, NextStep())
        for k in LEFT_ALONE
        if k not in RETRIED
    ),
    *((f"{k}: the last step", failure(k), LAST, ALL_FAILED) for k in LEFT_ALONE),
    *((f"{k}: no time left", failure(k), OUT_OF_TIME, ALL_FAILED) for k in LEFT_ALONE),
    # A prompt that is too long for our account's minute, and not for the model.
    ("beyond our pace, by the status", beyond(429), FIRST, NextStep()),
    ("beyond our pace, by the words", beyond(413, "on tokens per minute (TPM): Limit 6000"), FIRST, NextStep()),
    ("beyond our pace, with a chain of its own", beyond(429), CHAINS, TurnTo(WINDOW)),
    ("beyond our pace at the only step", beyond(429), replace(FIRST, has_steps_left=False), REFUSAL),
    ("too long for the model", beyond(413, "maximum context length is 8192 tokens"), FIRST, REFUSAL),
    # Another key, at once.
    ("a limited key", failure(K.RATE_LIMITED, 60.0), KEYS, NextKey()),
    ("a wrong key", failure(K.AUTHENTICATION), KEYS, NextKey()),
    ("another key comes before a retry", failure(K.RATE_LIMITED), replace(KEYS, retries_left=1), NextKey()),
    ("another key, no time", failure(K.AUTHENTICATION), replace(KEYS, left_s=0.0), ALL_FAILED),
    ("another key does not mend a server", failure(K.OVERLOADED), KEYS, NextStep()),
    ("another key does not mend a request", failure(K.BAD_REQUEST), KEYS, REFUSAL),
    # A refusal of the first step is believed.
    *((f"{k}: of the first step", failure(k), FIRST, REFUSAL) for k in REFUSALS),
    *((f"{k}: is not retried", failure(k), RETRIES, REFUSAL) for k in REFUSALS),
    *((f"{k}: whatever time is left", failure(k), replace(FIRST, left_s=0.0), REFUSAL) for k in REFUSALS),
    # A refusal of a later step is a reason to go on. At the end the client hears of it.
    *((f"{k}: of a later step", failure(k), LATER, NextStep()) for k in REFUSALS),
    *((f"{k}: of the last step", failure(k), LAST, REFUSAL) for k in REFUSALS),
    *((f"{k}: of a later step, no time left", failure(k), OUT_OF_TIME, REFUSAL) for k in REFUSALS),
    *((f"{k}: after a refusal", failure(k), REFUSED_BEFORE, NextStep()) for k in LEFT_ALONE),
    *((f"{k}: last, after a refusal", failure(k), replace(REFUSED_BEFORE, has_steps_left=False), REFUSAL)
      for k in LEFT_ALONE),
    # Another model may be able to do what this model cannot.
    ("cannot do that", failure(K.CAPABILITY), FIRST, NextStep()),
    ("cannot do that, nobody left", failure(K.CAPABILITY), replace(FIRST, has_steps_left=False), REFUSAL),
    # An alias may have a chain for this kind of refusal.
    ("too long", failure(K.CONTEXT_WINDOW), CHAINS, TurnTo(WINDOW)),
    ("refused by a policy", failure(K.CONTENT_POLICY), CHAINS, TurnTo(POLICY)),
    ("wrong in itself", failure(K.BAD_REQUEST), CHAINS, REFUSAL),
    ("too long for a later step", failure(K.CONTEXT_WINDOW), replace(CHAINS, is_first=False), TurnTo(WINDOW)),
    ("too long, no time", failure(K.CONTEXT_WINDOW), replace(CHAINS, left_s=0.0), REFUSAL),
    # The client is not to blame for what we changed in its request.
    *((f"{k}: of a continuation", failure(k), ADAPTED, NextStep()) for k in REFUSALS),
    ("a continuation turns nowhere", failure(K.CONTEXT_WINDOW), replace(ADAPTED, chains_left={WINDOW}), NextStep()),
    *((f"{k}: of the last", failure(k), replace(ADAPTED, has_steps_left=False), ALL_FAILED) for k in REFUSALS),
]  # fmt: skip


@pytest.mark.parametrize(("error", "position", "decision"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_failure_leads_to_the_decision_of_its_row(
    error: UpstreamError, position: Position, decision: Decision
) -> None:
    assert decide(error, position) == decision
