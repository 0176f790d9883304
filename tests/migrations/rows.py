"""A small ledger with something of everything, put into a database at any of its states by plain SQL.

A row names all columns that any state has. Those that a state does not have yet, or no longer, are left out there. A
column of a state to which a row gives no value is an error, so that a migration that adds columns or tables adds
them here. Ids that are not given are counted from 1, in the order below.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.backends.utils import CursorWrapper

Row = dict[str, Any]

DAY = datetime(2026, 3, 2, tzinfo=UTC)
NEXT_DAY = datetime(2026, 3, 3, tzinfo=UTC)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Triggers write them, and the rollup, whose sums are made of the entries.
TABLES_WITHOUT_ROWS = {
    "accounting_configurationversion", "accounting_change", "accounting_unrolledentry", "accounting_spendsum",
    "accounting_rollup",
}  # fmt: skip
KEYS = {"accounting_keyrate": "key_id"}  # of the tables that have no id

PRICED = '{"input_usd_per_mtok": "3", "output_usd_per_mtok": "15"}'
PROVIDER: Row = {
    "parameters": "{}",
    "base_url": "", "api_version": "", "connect_timeout_s": 5.0, "first_token_timeout_s": 12.0, "idle_timeout_s": 15.0,
    "total_timeout_s": 600.0, "retries": 1, "breaker_failures": 5, "breaker_failure_rate": 0.5,
    "breaker_cooldown_s": 30.0, "enabled": True,
}  # fmt: skip
ALIAS: Row = {
    "output_cap_tokens": 4096,
    "enabled": True,
    "rescues_streams": True,
    "weight": None,
    "first_token_timeout_s": None,
    "created_at": DAY,
}
BUDGET: Row = {"api_key_id": None, "time_zone": "UTC", "enabled": True, "created_at": DAY}
PRICE: Row = {
    "effective_from": EPOCH, "cached_input_usd_per_mtok": None, "cache_write_usd_per_mtok": None,
    "cache_write_1h_usd_per_mtok": None, "reasoning_usd_per_mtok": None, "audio_input_usd_per_mtok": None,
    "audio_output_usd_per_mtok": None, "long_context_above_tokens": None, "long_input_usd_per_mtok": None,
    "long_output_usd_per_mtok": None, "long_cached_input_usd_per_mtok": None, "long_cache_write_usd_per_mtok": None,
    "long_cache_write_1h_usd_per_mtok": None, "source": "operator", "created_at": DAY,
}  # fmt: skip
NO_USAGE: Row = {
    "input_tokens": 0, "cached_input_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0,
    "audio_input_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0, "audio_output_tokens": 0,
    "usage_source": "none",
}  # fmt: skip
USAGE: Row = NO_USAGE | {"input_tokens": 1000, "output_tokens": 200, "usage_source": "provider"}
TIER: Row = {"endpoint": "chat", "tier": "standard", "quantities": "{}"}
RATE: Row = {"qualifier": "", "tier": "standard", "above_input_tokens": 0}
LONG: Row = RATE | {"price_id": 1, "above_input_tokens": 200_000}
ENTRY: Row = USAGE | TIER | {
    "created_at": NOON, "settled_at": NOON, "expires_at": NEXT_DAY, "writer_id": 7, "state": "posted", "key": "bot",
    "key_id": 1, "owner": "", "alias": "claude-sonnet", "step_alias": "", "served_alias": "claude-sonnet",
    "provider": "anthropic",
    "model": "claude-sonnet-4-6", "attempt_count": 1, "fallback": False, "streamed": True, "http_status": 200,
    "error_code": "", "provider_request_id": "msg_1", "hold_usd": Decimal("0.01"), "cost_usd": None, "overrun": False,
    "price": PRICED, "first_token_ms": 300, "duration_ms": 900, "end_user": "ada", "tags": '{"team": "research"}',
    "resolved_by": "", "resolution": "",
}  # fmt: skip
LOST: Row = NO_USAGE | {  # its worker died
    "settled_at": NEXT_DAY, "served_alias": "", "attempt_count": 0, "http_status": None, "provider_request_id": "",
    "price": None, "first_token_ms": None, "duration_ms": None,
}  # fmt: skip
ATTEMPT: Row = USAGE | TIER | {
    "key_reference": "", "at_most_usd": None, "next": "",
    "position": 1, "alias": "claude-sonnet", "provider": "anthropic", "model": "claude-sonnet-4-6",
    "outcome": "answered", "http_status": 200, "error": "", "started_at": NOON, "duration_ms": 880,
    "first_token_ms": 300, "cost_usd": None, "price": PRICED, "provider_request_id": "msg_1",
}  # fmt: skip
FAILED: Row = NO_USAGE | {
    "outcome": "server_error", "http_status": 503, "error": "overloaded", "first_token_ms": None,
    "cost_usd": Decimal(0), "price": None, "provider_request_id": "",
}  # fmt: skip
GPT: Row = {"alias": "gpt", "provider": "openai", "model": "gpt-5"}
CHARGE: Row = {"adjustment_id": None, "held_usd": Decimal(0), "posted_usd": Decimal(0)}

POSTED, FELL_BACK, VOIDED, UNKNOWN, HELD, UNPRICED, RESOLVED = (UUID(int=number) for number in range(1, 8))
EVERYTHING, ANTHROPIC = 1, 2  # periods

ROWS: dict[str, list[Row]] = {
    "routing_provider": [
        PROVIDER | {"name": "anthropic", "litellm_provider": "anthropic", "key_reference": "env:ANTHROPIC_API_KEY"},
        PROVIDER | {"name": "openai", "litellm_provider": "openai", "key_reference": "file:/run/openai",
                    "parameters": '{"organization": "org-1"}'},
    ],
    "routing_providerkey": [{"provider_id": 1, "key_reference": "env:ANTHROPIC_API_KEY_2", "enabled": True}],
    "routing_modelalias": [
        ALIAS | {"name": "claude-sonnet", "upstream_model": "claude-sonnet-4-6", "position": 0, "provider_id": 1},
        ALIAS | {"name": "gpt", "upstream_model": "gpt-5", "position": 1, "provider_id": 2},
    ],
    "routing_fallbackstep": [{"alias_id": 1, "kind": "general", "position": 1, "target_id": 2}],
    "routing_deployment": [
        {"alias_id": 2, "position": 1, "upstream_model": "gpt-5-mini", "provider_id": 2, "weight": None}
    ],
    "routing_breakerstate": [
        {
            "provider": "anthropic", "model": "claude-sonnet-4-6", "state": "closed", "since": NOON, "open_until": NOON,
            "probe_until": None, "failures": 5, "last_kind": "server_error", "generation": 3, "reset_by": "ada",
            "reset_at": NOON,
        }
    ],
    "routing_signintries": [
        {"user_name": "ada", "address": "192.0.2.7", "tries": 2, "since": NOON, "signed_in_at": DAY}
    ],
    "routing_breakeruse": [
        {"provider": "openai", "model": "gpt-5", "key_id": 1, "used_at": NOON, "failed_at": None}
    ],
    "accounting_apikey": [
        {
            "name": "bot", "prefix": "gw-abcd", "digest": "0" * 64, "enabled": True, "expires_at": NEXT_DAY,
            "allowed_aliases": ["claude-sonnet", "gpt"], "requests_per_minute": 60, "tokens_per_minute": None,
            "concurrent_requests": None, "created_at": DAY, "uses_wildcards": False, "owner": "growth",
            "binds_fallbacks": True,
            "tags": '{"team": "red"}', "required_tags": ["project"], "callers_name_end_users": False,
            "end_user": "bot@example.com", "rotated_at": DAY, "old_prefix": "gw-dcba", "old_digest": "1" * 64,
            "old_valid_until": NEXT_DAY,
        }
    ],
    "accounting_keyrate": [{"key_id": 1, "minute": NOON, "requests": 2, "tokens": 2400}],
    "accounting_refusedrequest": [
        {
            "at": NOON, "request_id": "refused", "key": "bot", "key_id": 1, "alias": "gpt", "endpoint": "chat",
            "end_user": "ada", "tags": '{"team": "research"}', "code": "budget_exceeded", "message": "It is spent.",
            "budget": "everything", "limit_usd": Decimal(100), "spent_usd": Decimal("99.9"), "held_usd": Decimal(0),
            "asked_usd": Decimal("0.2"), "count": 1,
        }
    ],
    "accounting_price": [
        PRICE | {
            "provider": "anthropic", "model": "claude-sonnet-4-6", "input_usd_per_mtok": Decimal(3),
            "output_usd_per_mtok": Decimal(15), "cached_input_usd_per_mtok": Decimal("0.3"),
            "long_context_above_tokens": 200_000, "long_input_usd_per_mtok": Decimal(6),
            "long_output_usd_per_mtok": Decimal("22.5"),
        },
        PRICE | {
            "provider": "openai", "model": "gpt-5", "input_usd_per_mtok": Decimal("1.25"),
            "output_usd_per_mtok": Decimal(10),
        },
    ],
    "accounting_pricerate": [  # as the migration makes them of the rows above
        RATE | {"price_id": 1, "meter": "input", "usd_per_unit": Decimal(3)},
        RATE | {"price_id": 1, "meter": "cached_input", "usd_per_unit": Decimal("0.3")},
        RATE | {"price_id": 1, "meter": "output", "usd_per_unit": Decimal(15)},
        LONG | {"meter": "input", "usd_per_unit": Decimal(6)},
        LONG | {"meter": "cached_input", "usd_per_unit": Decimal(6)},
        LONG | {"meter": "output", "usd_per_unit": Decimal("22.5")},
        RATE | {"price_id": 2, "meter": "input", "usd_per_unit": Decimal("1.25")},
        RATE | {"price_id": 2, "meter": "output", "usd_per_unit": Decimal(10)},
    ],
    "accounting_budget": [
        BUDGET | {
            "name": "everything", "scope": "global", "scope_value": "", "mode": "hard", "limit_usd": Decimal(100),
            "period": "day",
        },
        BUDGET | {
            "name": "anthropic", "scope": "provider", "scope_value": "anthropic", "mode": "hard",
            "limit_usd": Decimal(1000), "period": "total",
        },
    ],
    "accounting_budgetperiod": [
        {
            "budget_id": 1, "period_start": DAY, "period_end": NEXT_DAY, "posted_usd": Decimal("0.03475"),
            "held_usd": Decimal("0.03"), "has_gap": False, "period": "day", "time_zone": "UTC", "told_limit_usd": None,
        },
        {
            "budget_id": 2, "period_start": EPOCH, "period_end": None, "posted_usd": Decimal("0.029"),
            "held_usd": Decimal("0.03"), "has_gap": False, "period": "total", "time_zone": "UTC",
            "told_limit_usd": None,
        },
    ],
    "accounting_ledgerentry": [
        ENTRY | {"id": POSTED, "request_id": "posted", "cost_usd": Decimal("0.006")},
        ENTRY | GPT | {
            "id": FELL_BACK, "request_id": "fell back", "alias": "claude-sonnet", "served_alias": "gpt",
            "attempt_count": 2, "fallback": True, "hold_usd": Decimal("0.005"), "cost_usd": Decimal("0.00575"),
            "overrun": True,
        },
        ENTRY | GPT | NO_USAGE | {
            "id": VOIDED, "request_id": "voided", "state": "voided", "served_alias": "", "http_status": 502,
            "error_code": "all_models_failed", "provider_request_id": "", "cost_usd": Decimal(0), "price": None,
            "first_token_ms": None,
        },
        ENTRY | LOST | {
            "id": UNKNOWN, "request_id": "unknown", "state": "unknown", "hold_usd": Decimal("0.02"),
            "cost_usd": Decimal("0.02"),
        },
        ENTRY | LOST | {
            "id": HELD, "request_id": "held", "state": "held", "settled_at": None, "hold_usd": Decimal("0.03")
        },
        ENTRY | GPT | {  # on the day before, when no hard budget was there to refuse it
            "id": UNPRICED, "request_id": "unpriced", "created_at": datetime(2026, 3, 1, tzinfo=UTC),
            "served_alias": "gpt", "key": "anonymous", "key_id": None, "hold_usd": None, "price": None,
            "end_user": "", "tags": "{}",
        },
        ENTRY | LOST | {
            "id": RESOLVED, "request_id": "resolved", "hold_usd": Decimal("0.02"), "cost_usd": Decimal("0.004"),
            "resolved_by": "ada", "resolution": "as the provider's invoice says",
        },
    ],
    "accounting_attempt": [
        ATTEMPT | {"entry_id": POSTED, "cost_usd": Decimal("0.006")},
        ATTEMPT | FAILED | {"entry_id": FELL_BACK},
        ATTEMPT | GPT | {"entry_id": FELL_BACK, "position": 2, "cost_usd": Decimal("0.00575")},
        ATTEMPT | GPT | FAILED | {"entry_id": VOIDED},
        ATTEMPT | GPT | {"entry_id": UNPRICED, "price": None},
    ],
    "accounting_adjustment": [
        {
            "entry_id": POSTED, "amount_usd": Decimal("-0.001"), "reason": "a discount", "author": "ada",
            "form_token": None, "created_at": NEXT_DAY,
        }
    ],
    "accounting_charge": [
        CHARGE | {"period_id": EVERYTHING, "entry_id": POSTED, "posted_usd": Decimal("0.006")},
        CHARGE | {"period_id": ANTHROPIC, "entry_id": POSTED, "posted_usd": Decimal("0.006")},
        CHARGE | {"period_id": EVERYTHING, "entry_id": POSTED, "adjustment_id": 1, "posted_usd": Decimal("-0.001")},
        CHARGE | {"period_id": ANTHROPIC, "entry_id": POSTED, "adjustment_id": 1, "posted_usd": Decimal("-0.001")},
        CHARGE | {"period_id": EVERYTHING, "entry_id": FELL_BACK, "posted_usd": Decimal("0.00575")},
        CHARGE | {"period_id": ANTHROPIC, "entry_id": FELL_BACK},
        CHARGE | {"period_id": EVERYTHING, "entry_id": VOIDED},
        CHARGE | {"period_id": EVERYTHING, "entry_id": UNKNOWN, "posted_usd": Decimal("0.02")},
        CHARGE | {"period_id": ANTHROPIC, "entry_id": UNKNOWN, "posted_usd": Decimal("0.02")},
        CHARGE | {"period_id": EVERYTHING, "entry_id": HELD, "held_usd": Decimal("0.03")},
        CHARGE | {"period_id": ANTHROPIC, "entry_id": HELD, "held_usd": Decimal("0.03")},
        CHARGE | {"period_id": EVERYTHING, "entry_id": RESOLVED, "posted_usd": Decimal("0.004")},
        CHARGE | {"period_id": ANTHROPIC, "entry_id": RESOLVED, "posted_usd": Decimal("0.004")},
    ],
    "accounting_proof": [
        {
            "whole_at": DAY, "entries_until": DAY, "last_charge": 0, "open_charges": [], "periods": [],
            "posted_usd": [],
        }
    ],
    "accounting_reconciliation": [
        {"at": NOON, "periods": 2, "entries": 7, "discrepancies": 0, "details": [], "is_whole": True}
    ],
}  # fmt: skip


def columns_of(cursor: CursorWrapper) -> dict[str, set[str]]:
    """Our tables in the state that this database is in, each with its columns."""
    cursor.execute(
        "SELECT c.table_name, array_agg(c.column_name::text) FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'"
        " AND c.table_name ~ '^(accounting|routing)_' GROUP BY c.table_name"
    )
    return {table: set(columns) for table, columns in cursor.fetchall() if table not in TABLES_WITHOUT_ROWS}


def insert_rows(cursor: CursorWrapper) -> None:
    """Insert of each row what fits the state that this database is in."""
    columns = columns_of(cursor)
    assert columns.keys() <= ROWS.keys(), f"rows.py has no rows for {sorted(columns.keys() - ROWS.keys())}"
    for table, rows in ROWS.items():
        for row in rows if table in columns else ():
            unnamed = columns[table] - row.keys() - {"id"}
            assert not unnamed, f"rows.py gives no value to {table}: {sorted(unnamed)}"
            fitting = {column: value for column, value in row.items() if column in columns[table]}
            names, places = ", ".join(fitting), ", ".join(["%s"] * len(fitting))
            cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(fitting.values()))


def read_rows(cursor: CursorWrapper, columns: dict[str, set[str]]) -> dict[str, list[Row]]:
    """All rows of those tables and columns, in the order of their keys."""
    found: dict[str, list[Row]] = {}
    for table, names in columns.items():
        ordered = sorted(names)
        cursor.execute(f"SELECT {', '.join(ordered)} FROM {table} ORDER BY {KEYS.get(table, 'id')}")
        found[table] = [dict(zip(ordered, values, strict=True)) for values in cursor.fetchall()]
    return found
