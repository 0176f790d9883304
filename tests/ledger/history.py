"""A year of traffic, written by SQL at once. The ledger must be as fast with it as without it."""

from __future__ import annotations

from typing import Any

import psycopg

from accounting.ledger import rollup

# The foreign keys hold by construction. Checking three million of them would take longer than all the rest.
BEGIN = "SET LOCAL session_replication_role = replica"

ENTRIES = """
    INSERT INTO accounting_ledgerentry (
        id, created_at, settled_at, expires_at, writer_id, state, request_id, key, alias, served_alias, provider, model,
        attempt_count, fallback, streamed, http_status, error_code, provider_request_id, input_tokens,
        cached_input_tokens, cache_write_tokens, cache_write_1h_tokens, audio_input_tokens, output_tokens,
        reasoning_tokens, audio_output_tokens, usage_source, hold_usd, cost_usd, overrun, price, first_token_ms,
        duration_ms, end_user, tags, resolved_by, resolution)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 5, 15))::uuid,
           at, at + interval '2 s', at + interval '10 min', 0,
           CASE WHEN n %% 5000 = 0 THEN 'unknown' WHEN n %% 33 = 0 THEN 'voided' ELSE 'posted' END,
           'req-' || n, 'key-' || n %% 20, alias, alias, provider, alias || '-model',
           CASE WHEN n %% 5000 = 0 THEN 0 ELSE 1 END, false, n %% 2 = 0,
           CASE WHEN n %% 33 = 0 THEN 502 ELSE 200 END, '', 'msg_' || n, 1200, 0, 0, 0, 0, 300, 0, 0,
           'provider', 0.05, CASE WHEN n %% 33 = 0 AND n %% 5000 <> 0 THEN 0 ELSE 0.008100000000 END, false,
           '{"input_usd_per_mtok": "3", "output_usd_per_mtok": "15"}', 400, 2000, 'user-' || n %% 500,
           jsonb_build_object('team', 't' || n %% 7), '', ''
    FROM (SELECT n, date_trunc('day', now()) - interval '1 s' - n * (interval '365 days' / %(rows)s) AS at,
                 (ARRAY['claude-sonnet', 'gpt-4o', 'gemini-pro', 'gemini-flash'])[n %% 4 + 1] AS alias,
                 (ARRAY['anthropic', 'openai', 'google', 'google'])[n %% 4 + 1] AS provider
          FROM generate_series(%(rows)s, 1, -1) AS n) traffic
"""
ATTEMPTS = """
    INSERT INTO accounting_attempt (
        entry_id, position, alias, provider, model, outcome, http_status, error, started_at, duration_ms,
        first_token_ms, input_tokens, cached_input_tokens, cache_write_tokens, cache_write_1h_tokens,
        audio_input_tokens, output_tokens, reasoning_tokens, audio_output_tokens, usage_source, cost_usd, price,
        provider_request_id)
    SELECT id, 1, alias, provider, model, CASE WHEN state = 'voided' THEN 'server_error' ELSE 'answered' END,
           http_status, '', created_at, 2000, 400, input_tokens, 0, 0, 0, 0, output_tokens, 0, 0, 'provider', cost_usd,
           price, provider_request_id
    FROM accounting_ledgerentry WHERE writer_id = 0 AND attempt_count = 1
"""
PERIODS = """
    INSERT INTO accounting_budgetperiod (budget_id, period_start, period_end, posted_usd, held_usd, has_gap)
    SELECT %(budget_id)s, day, day + interval '1 day', sum(cost_usd), 0, false
    FROM (SELECT date_trunc('day', created_at) AS day, cost_usd FROM accounting_ledgerentry WHERE writer_id = 0) spent
    GROUP BY day
"""
CHARGES = """
    INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
    SELECT e.id, p.id, NULL, 0, e.cost_usd
    FROM accounting_ledgerentry e
    JOIN accounting_budgetperiod p ON p.budget_id = %(budget_id)s AND p.period_start = date_trunc('day', e.created_at)
    WHERE e.writer_id = 0
"""
ADJUSTMENTS = """
    WITH made AS (
        INSERT INTO accounting_adjustment (entry_id, amount_usd, reason, author, created_at)
        SELECT id, 0.001, 'a wrong price', 'ann', now()
        FROM accounting_ledgerentry WHERE writer_id = 0 AND state = 'posted' ORDER BY request_id LIMIT %(rows)s / 500
        RETURNING id, entry_id, amount_usd
    ), charged AS (
        INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
        SELECT m.entry_id, c.period_id, m.id, 0, m.amount_usd
        FROM made m JOIN accounting_charge c ON c.entry_id = m.entry_id AND c.adjustment_id IS NULL
        RETURNING period_id, posted_usd
    )
    UPDATE accounting_budgetperiod p SET posted_usd = p.posted_usd + t.posted_usd
    FROM (SELECT period_id, sum(posted_usd) AS posted_usd FROM charged GROUP BY period_id) t WHERE p.id = t.period_id
"""


def fill(session: psycopg.Connection[Any], rows: int, budget_id: int) -> None:
    """Write so many settled requests over the last year, each with its attempt and its charge to a daily budget.

    Needs a superuser, because the foreign keys are not checked.
    """
    values = {"rows": rows, "budget_id": budget_id}
    with session.transaction():
        session.execute(BEGIN)
        for statement in (ENTRIES, ATTEMPTS, PERIODS, CHARGES, ADJUSTMENTS):
            session.execute(statement, values)
        rollup.rebuild(session)  # no trigger has noted these entries
    session.autocommit = True
    session.execute(
        "VACUUM ANALYZE accounting_ledgerentry, accounting_attempt, accounting_charge, accounting_adjustment"
    )
    session.autocommit = False
