"""How a request ends: its settlement in the ledger, and its one line in the log."""

from __future__ import annotations

import logging

from accounting import ledger
from accounting.ledger.records import AttemptRecord, Settlement
from accounting.money import plain_usd
from routing.serving.admission import Admission
from routing.serving.cascade import Clock

log = logging.getLogger("gateway.request")


def settle(
    admission: Admission,
    attempts: list[AttemptRecord],
    *,
    served: AttemptRecord | None,
    fallback: bool,
    http_status: int,
    error_code: str,
    began: Clock,
) -> Settlement:
    """Post or void the request and log it. Waits for the commit; ledger.settle says what happens without Postgres."""
    first_token_ms = None
    first = next((attempt for attempt in attempts if attempt.first_token_ms is not None), None)
    if first is not None and first.first_token_ms is not None:
        # From the request's beginning, failed attempts included: what its caller waited.
        first_token_ms = first.first_token_ms + round((first.started_at - began.at).total_seconds() * 1000)
    settlement = Settlement(
        hold=admission.hold,
        served=served,
        attempts=tuple(attempts),
        fallback=fallback,
        http_status=http_status,
        error_code=error_code,
        first_token_ms=first_token_ms,
        duration_ms=began.ms(),
    )
    durable = ledger.settle(settlement)
    cost, usage = settlement.cost_usd, settlement.usage
    last = served or (attempts[-1] if attempts else None)
    log.log(
        logging.INFO if durable else logging.ERROR,
        "request",
        extra={
            "request_id": admission.request_id,
            "key": admission.key.name,
            "alias": admission.chat.alias,
            "served_alias": served.alias if served else None,
            "provider": last.provider if last else None,
            "model": last.model if last else None,
            "attempts": len(attempts),
            "fallback": fallback,
            "streamed": admission.chat.streamed,
            "status": http_status,
            "error_code": error_code or None,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "usage_source": usage.source.value,
            "hold_usd": None if admission.hold.hold_usd is None else plain_usd(admission.hold.hold_usd),
            "cost_usd": None if cost is None else plain_usd(cost),
            "first_token_ms": first_token_ms,
            "duration_ms": settlement.duration_ms,
            "settled": durable,
        },
    )
    hold_usd = admission.hold.hold_usd
    if cost is not None and hold_usd is not None and cost > hold_usd:
        log.error(
            "overrun: a request cost more than its hold",
            extra={
                "request_id": admission.request_id,
                "hold_usd": plain_usd(hold_usd),
                "cost_usd": plain_usd(cost),
            },
        )
    return settlement
