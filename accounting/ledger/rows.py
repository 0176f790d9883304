"""The ledger's rows: as the JSON that its SQL reads (``json_to_recordset``), one function a statement, and as its SQL
returns them, one named tuple a statement."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from accounting.budgets import Balance
from accounting.ledger.records import HoldRequest, Settlement, Withdrawal
from accounting.models import EntryState
from accounting.money import plain_usd
from accounting.text import storable
from accounting.usage import Tier, Usage

JsonRow: TypeAlias = dict[str, object]

#: An entry's id as text, which each of its rows has: Python takes a fiftieth of a request to write them all.
entry_text = lru_cache(maxsize=4096)(str)


class LockedEntry(NamedTuple):
    """A row of lock_entries.sql."""

    id: UUID
    state: str
    provider: str
    resolved_by: str
    alias: str  # of the step that it was admitted for


class EntryCharge(NamedTuple):
    """A row of entry_charges.sql: what an entry weighs in one budget period."""

    id: int
    entry_id: UUID
    period_id: int
    held_usd: Decimal
    posted_usd: Decimal


def balance_of(row: Sequence[Any]) -> Balance:
    """A row of lock_periods.sql."""
    period_id, posted_usd, held_usd, limit_usd, mode, name, period_end, _has_gap, told_usd, scope, scope_value = row
    return Balance(period_id, name, mode, scope, scope_value, limit_usd, posted_usd, held_usd, period_end, told_usd)


def movement_row(before: Balance, after: Balance) -> JsonRow:
    """For move_balances.sql."""
    return {
        "id": after.period_id,
        "held_usd": str(after.held_usd - before.held_usd),
        "posted_usd": str(after.posted_usd - before.posted_usd),
    }


def entry_row(request: HoldRequest, writer_id: int) -> JsonRow:
    """For insert_entries.sql."""
    return {
        "id": entry_text(request.entry_id),
        "expires_after_s": request.expires_after_s,
        "writer_id": writer_id,
        "request_id": request.request_id,
        "key": request.key,
        "key_id": request.key_id,
        "owner": request.owner,
        "alias": request.alias,
        "step_alias": request.step_alias or request.alias,
        "endpoint": request.endpoint,
        "provider": request.provider,
        "model": request.model,
        "streamed": request.streamed,
        "hold_usd": _text(request.hold_usd),
        "end_user": request.end_user,
        "tags": dict(request.tags),
    }


def settlement_row(settlement: Settlement) -> JsonRow:
    """For settle_entries.sql."""
    served = settlement.served or (settlement.attempts[-1] if settlement.attempts else None)
    return {
        "id": entry_text(settlement.entry_id),
        "state": settlement.state.value,
        "served_alias": settlement.served.alias if settlement.served else "",
        "step_alias": served.alias if served else settlement.hold.alias,
        "provider": served.provider if served else "",
        "model": served.model if served else "",
        "attempt_count": len(settlement.attempts),
        "fallback": settlement.fallback,
        "http_status": settlement.http_status,
        "error_code": storable(settlement.error_code, 64),
        "provider_request_id": storable((served.provider_request_id if served else None) or "", 200),
        **_usage_columns(settlement.usage),
        "tier": served.tier if served else Tier.STANDARD,
        "cost_usd": _text(settlement.cost_usd),
        "price": served.price.as_json(served.tier) if served and served.price else None,
        "first_token_ms": settlement.first_token_ms,
        "duration_ms": settlement.duration_ms,
    }


def withdrawal_row(withdrawal: Withdrawal, *, alias: str, provider: str) -> JsonRow:
    """For settle_entries.sql."""
    return {
        "id": str(withdrawal.entry_id),
        "state": EntryState.VOIDED.value,
        "served_alias": "",
        "step_alias": alias,
        "provider": provider,
        "model": "",
        "attempt_count": 0,
        "fallback": False,
        "http_status": 503,
        "error_code": "ledger_unavailable",
        "provider_request_id": "",
        **_usage_columns(Usage()),
        "usage_source": "none",
        "tier": Tier.STANDARD.value,
        "cost_usd": "0",
        "price": None,
        "first_token_ms": None,
        "duration_ms": None,
    }


def attempt_rows(settlement: Settlement) -> list[JsonRow]:
    """For insert_attempts.sql."""
    return [
        {
            "entry_id": entry_text(settlement.entry_id),
            "position": position,
            "alias": attempt.alias,
            "provider": attempt.provider,
            "model": attempt.model,
            "endpoint": attempt.endpoint,
            "key_reference": attempt.key_reference,
            "outcome": attempt.outcome,
            "http_status": attempt.http_status,
            "error": storable(attempt.error, 500),
            "started_at": attempt.started_at.isoformat(),
            "duration_ms": attempt.duration_ms,
            "first_token_ms": attempt.first_token_ms,
            **_usage_columns(attempt.usage),
            "tier": attempt.tier,
            "cost_usd": _text(attempt.cost_usd),
            "at_most_usd": _text(attempt.at_most_usd),
            "price": attempt.price.as_json(attempt.tier) if attempt.price else None,
            "provider_request_id": storable(attempt.provider_request_id or "", 200),
            "next": storable(attempt.next, 200),
        }
        for position, attempt in enumerate(settlement.attempts, start=1)
    ]


def _usage_columns(usage: Usage) -> JsonRow:
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "audio_input_tokens": usage.audio_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_output_tokens": usage.audio_output_tokens,
        "usage_source": usage.source,
        "quantities": {name: plain_usd(amount) for name, amount in usage.quantities.items()},
    }


def _text(amount_usd: Decimal | None) -> str | None:
    """Decimals go to Postgres as text, because a JSON number would pass through a float."""
    return None if amount_usd is None else str(amount_usd)
