"""How a request ends: its settlement in the ledger, and the fact that it has ended."""

from __future__ import annotations

from accounting import facts, ledger
from accounting.ledger.records import AttemptRecord, Settlement
from accounting.record import record
from routing.serving.admission import Admission
from routing.serving.attempts import Clock, Failed


@record(frozen=True, slots=True)
class Ending:
    """All that the books must know of a request that is over.

    ``served`` is the attempt whose answer the client got, or None when the client got no answer."""

    admission: Admission
    began: Clock
    attempts: tuple[AttemptRecord, ...]
    served: AttemptRecord | None
    is_fallback: bool
    http_status: int
    error_code: str

    @classmethod
    def of_failure(cls, failed: Failed, began: Clock) -> Ending:
        return cls(
            failed.admission,
            began,
            tuple(failed.attempts),
            served=None,
            is_fallback=False,
            http_status=failed.error.status,
            error_code=failed.error.code or "",
        )

    @property
    def first_token_ms(self) -> int | None:
        """How long the client waited for the first token, from the request's beginning, failed attempts included."""
        for attempt in self.attempts:
            if attempt.first_token_ms is not None:
                return attempt.first_token_ms + round((attempt.started_at - self.began.at).total_seconds() * 1000)
        return None


def settle(ending: Ending) -> Settlement:
    """Post or void the request, and tell that it ended. Each admitted request comes here once, however it ends.

    Waits for the commit. ``ledger.settle`` says what happens without Postgres."""
    settlement = Settlement(
        hold=ending.admission.hold,
        served=ending.served,
        attempts=ending.attempts,
        fallback=ending.is_fallback,
        http_status=ending.http_status,
        error_code=ending.error_code,
        first_token_ms=ending.first_token_ms,
        duration_ms=ending.began.ms(),
    )
    durable = ledger.settle(settlement)
    _tell(ending, settlement, durable=durable)
    return settlement


def _tell(ending: Ending, settlement: Settlement, *, durable: bool) -> None:
    admission, served = ending.admission, ending.served
    cost_usd, usage, hold_usd = settlement.cost_usd, settlement.usage, admission.hold.hold_usd
    last = served or (ending.attempts[-1] if ending.attempts else None)
    facts.request_ended(
        facts.RequestEnded(
            request_id=admission.request_id,
            endpoint=admission.call.endpoint,
            key=admission.key.name,
            alias=admission.call.alias,
            served_alias=served.alias if served else None,
            provider=last.provider if last else None,
            model=last.model if last else None,
            attempts=len(ending.attempts),
            fallback=ending.is_fallback,
            streamed=admission.call.streamed,
            status=ending.http_status,
            error_code=ending.error_code or None,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            usage_source=usage.source.value,
            hold_usd=hold_usd,
            cost_usd=cost_usd,
            first_token_ms=settlement.first_token_ms,
            duration_ms=settlement.duration_ms,
            settled=durable,
        )
    )
    if cost_usd is not None and hold_usd is not None and cost_usd > hold_usd:
        facts.overrun(facts.Overrun(admission.request_id, hold_usd, cost_usd))
