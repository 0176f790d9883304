"""What became of the calls of providers: the answer, or the failure, and each attempt as the books keep it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Generic, TypeVar

from accounting.ledger.records import AttemptRecord
from accounting.outcomes import Outcome
from accounting.pricing import cost_usd
from accounting.text import storable
from accounting.usage import Usage, UsageSource
from routing.catalog import Step
from routing.exceptions import GatewayError
from routing.serving.admission import Admission
from routing.upstreams import tiers
from routing.upstreams.base import AnswerStream, Json, WholeAnswer
from routing.upstreams.extras import with_fees

Answer = TypeVar("Answer", WholeAnswer, "OpenStream")


@dataclass
class Clock:
    """When an attempt or a request began: ``at`` for the books, ``monotonic`` for durations, as wall clocks jump."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    monotonic: float = field(default_factory=time.monotonic)

    def ms(self) -> int:
        return round((time.monotonic() - self.monotonic) * 1000)


@dataclass
class OpenStream:
    """A stream whose first content event has arrived. ``head`` has the events up to that event."""

    stream: AnswerStream
    head: list[Json]

    @property
    def dropped_params(self) -> tuple[str, ...]:
        return self.stream.dropped_params

    @property
    def service_tier(self) -> str | None:
        return self.stream.service_tier


@dataclass
class Served(Generic[Answer]):
    """An answer, the step that gave it, and the failed attempts before it.

    The serving attempt is recorded when its usage is known: at once for a whole answer, at the end for a stream."""

    answer: Answer
    step: Step
    admission: Admission
    failed: list[AttemptRecord]
    started: Clock
    first_token_ms: int | None
    rest: tuple[Step, ...]  # the steps that were not needed
    key_reference: str  # of the provider's key

    @property
    def is_fallback(self) -> bool:
        return self.step.alias != self.admission.call.alias or bool(
            self.failed and any(not _same_deployment(a, self.step) for a in self.failed)
        )

    def record(self, usage: Usage, http_status: int | None, provider_request_id: str | None, *,
               outcome: Outcome = Outcome.ANSWERED, error: str = "") -> AttemptRecord:  # fmt: skip
        return record_attempt(
            self.admission, self.step, self.started, outcome, usage,
            http_status=http_status, provider_request_id=provider_request_id, error=error,
            first_token_ms=self.first_token_ms, service_tier=self.answer.service_tier,
            key_reference=self.key_reference,
        )  # fmt: skip


class Failed(Exception):
    """No step answered. ``error`` is for the client, ``attempts`` for the books; ``admission`` has the last hold."""

    def __init__(self, error: GatewayError, attempts: list[AttemptRecord], admission: Admission) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts
        self.admission = admission


def counted(reported: Usage | None, estimate: Callable[[], Usage], *, is_in_words: bool = False) -> Usage:
    """The provider's count, or ours where it gave none. No request is without input: servers that copy Anthropic's
    format leave it out, and such a zero is not believed. Nor is it of the output, when the answer ``is_in_words``.
    What is counted in other units has no tokens. Of an answer that went on behind the count, the count is the least."""
    if reported is not None and reported.source is UsageSource.ESTIMATED:
        return at_least(reported, estimate())
    if reported is not None and (reported.input_tokens or (reported.quantities and not reported.output_tokens)):
        if reported.output_tokens or not is_in_words or not reported.input_tokens:
            return reported
        said_tokens = estimate().output_tokens
        return replace(reported, output_tokens=said_tokens, source=UsageSource.ESTIMATED) if said_tokens else reported
    estimated = estimate()
    if reported is None or reported == Usage():
        return estimated
    return replace(reported, input_tokens=estimated.input_tokens, source=estimated.source)


def at_least(reported: Usage, estimated: Usage) -> Usage:
    """The usage of an answer that was not counted to its end: the provider's input count when it gave one, and no less
    output than was received.

    It stays an estimate where the provider has counted as much."""
    return replace(
        reported,
        input_tokens=reported.input_tokens or estimated.input_tokens,
        output_tokens=max(reported.output_tokens, estimated.output_tokens),
        source=estimated.source,
    )


def record_attempt(
    admission: Admission,
    step: Step,
    started: Clock,
    outcome: Outcome,
    usage: Usage,
    *,
    http_status: int | None,
    provider_request_id: str | None,
    error: str = "",
    first_token_ms: int | None = None,
    service_tier: str | None = None,
    key_reference: str = "",
) -> AttemptRecord:
    """The attempt as the books keep it, at the price with which its ceiling was computed, in the tier that the provider
    says it served."""
    ceiling = admission.ceiling(step)
    price = ceiling.price
    is_nothing = usage.is_nothing
    usage = usage if is_nothing else with_fees(usage, step.deployment, ceiling.most.units)
    tier = tiers.served(service_tier, ceiling.most.tier)
    if is_nothing:
        cost: Decimal | None = Decimal(0)
    else:
        cost = None if price is None else cost_usd(usage, price, tier=tier)
    return AttemptRecord(
        alias=step.alias,
        provider=step.provider.name,
        model=step.deployment.model,
        outcome=outcome.value,
        http_status=http_status,
        error=storable(error),
        started_at=started.at,
        duration_ms=started.ms(),
        first_token_ms=first_token_ms,
        usage=usage,
        cost_usd=cost,
        price=price,
        provider_request_id=provider_request_id,
        endpoint=admission.call.endpoint,
        tier=tier,
        key_reference=key_reference,
        # Nobody has counted, so the provider may bill up to what was held for the attempt.
        at_most_usd=ceiling.hold_usd if usage.source is UsageSource.ESTIMATED else None,
    )


def _same_deployment(attempt: AttemptRecord, step: Step) -> bool:
    return (attempt.provider, attempt.model) == (step.provider.name, step.deployment.model)
