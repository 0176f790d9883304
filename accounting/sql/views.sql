-- Purpose: what finance queries. Stable and documented column by column in docs/sql-views.md; the tables behind
--          them are not. Costs include adjustments. Days are UTC days; for another zone group the view `ledger`.
-- Locks:   none. Reading them never waits for the gateway, nor makes it wait.
DROP VIEW IF EXISTS spend_by_hour, spend_by_day, spend_by_alias, spend_by_provider, spend_by_key, spend_by_tag, budget_status,
    open_holds, refusals, attempts, ledger, accounting_spend;

CREATE VIEW ledger AS
SELECT e.id AS entry_id, e.created_at, e.settled_at, e.request_id, e.state, e.key, nullif(e.owner, '') AS owner, e.alias, e.endpoint,
       nullif(e.served_alias, '') AS served_alias, e.provider, e.model, e.attempt_count AS attempts, e.fallback, e.streamed, e.http_status,
       nullif(e.error_code, '') AS error_code, e.input_tokens, e.cached_input_tokens, e.cache_write_tokens,
       e.cache_write_1h_tokens, e.audio_input_tokens, e.output_tokens, e.reasoning_tokens, e.audio_output_tokens,
       e.usage_source, e.tier, e.quantities, e.hold_usd,
       CASE WHEN e.cost_usd IS NULL AND j.count = 0 THEN NULL ELSE coalesce(e.cost_usd, 0) + j.amount_usd END AS cost_usd,
       e.cost_usd AS posted_usd, j.amount_usd AS adjusted_usd, e.overrun, e.price, e.first_token_ms, e.duration_ms,
       nullif(e.end_user, '') AS end_user, e.tags, nullif(e.provider_request_id, '') AS provider_request_id,
       nullif(e.resolved_by, '') AS resolved_by, nullif(e.resolution, '') AS resolution
FROM accounting_ledgerentry e
CROSS JOIN LATERAL (
    SELECT coalesce(sum(a.amount_usd), 0) AS amount_usd, count(*) AS count FROM accounting_adjustment a
    WHERE a.entry_id = e.id
) j;

CREATE VIEW attempts AS
SELECT a.entry_id, e.request_id, a.position, a.alias, a.endpoint, a.provider, a.model,
       nullif(a.key_reference, '') AS key_reference, a.outcome, a.http_status, a.started_at,
       a.duration_ms, a.first_token_ms, a.input_tokens, a.cached_input_tokens, a.cache_write_tokens,
       a.cache_write_1h_tokens, a.audio_input_tokens, a.output_tokens, a.reasoning_tokens, a.audio_output_tokens,
       a.usage_source, a.tier, a.quantities, a.cost_usd, a.at_most_usd, nullif(a.error, '') AS error,
       nullif(a.next, '') AS next, a.price, nullif(a.provider_request_id, '') AS provider_request_id
FROM accounting_attempt a JOIN accounting_ledgerentry e ON e.id = a.entry_id;

-- What the views of spend below add up, but for those of providers: an entry as it was settled, and each of its adjustments by itself. Looking up the
-- adjustments of a million entries, one by one, would take longer than all the rest.
CREATE VIEW accounting_spend AS
SELECT created_at, alias, key, tags, 1 AS requests, (http_status >= 400 OR state = 'unknown')::int AS failed, input_tokens,
       output_tokens, cost_usd, (cost_usd IS NULL AND state = 'posted')::int AS unpriced
FROM accounting_ledgerentry
UNION ALL
SELECT e.created_at, e.alias, e.key, e.tags, 0, 0, 0, 0, sum(a.amount_usd), -(e.cost_usd IS NULL AND e.state = 'posted')::int
FROM accounting_adjustment a JOIN accounting_ledgerentry e ON e.id = a.entry_id GROUP BY e.id;

CREATE VIEW spend_by_hour AS
SELECT date_trunc('hour', created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS hour, sum(requests) AS requests,
       coalesce(sum(failed), 0) AS failed, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd, sum(unpriced) AS unpriced
FROM accounting_spend GROUP BY 1 ORDER BY 1;

CREATE VIEW spend_by_day AS
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, sum(requests) AS requests, coalesce(sum(failed), 0) AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd, sum(unpriced) AS unpriced
FROM accounting_spend GROUP BY 1 ORDER BY 1;

CREATE VIEW spend_by_alias AS
SELECT alias, sum(requests) AS requests, coalesce(sum(failed), 0) AS failed, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, coalesce(sum(cost_usd), 0) AS cost_usd, sum(unpriced) AS unpriced
FROM accounting_spend GROUP BY alias ORDER BY alias;

-- The owner is the one that the key has now; the view `ledger` has the one of each request's time.
CREATE VIEW spend_by_key AS
SELECT s.key, (SELECT nullif(k.owner, '') FROM accounting_apikey k WHERE k.name = s.key) AS owner, sum(requests) AS requests,
       coalesce(sum(failed), 0) AS failed, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, coalesce(sum(cost_usd), 0) AS cost_usd, sum(unpriced) AS unpriced
FROM accounting_spend s GROUP BY s.key ORDER BY s.key;

-- A request with several tags, or several values of one tag, counts for each of them, and one without tags for none.
CREATE VIEW spend_by_tag AS
SELECT t.key || '=' || t.value AS tag, t.key AS name, t.value, sum(requests) AS requests, coalesce(sum(failed), 0) AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
       coalesce(sum(cost_usd), 0) AS cost_usd, sum(unpriced) AS unpriced
FROM accounting_spend s CROSS JOIN LATERAL (
    SELECT given.key, said.value FROM jsonb_each(s.tags) given CROSS JOIN LATERAL jsonb_array_elements_text(
        CASE jsonb_typeof(given.value) WHEN 'array' THEN given.value ELSE jsonb_build_array(given.value) END) said
) t GROUP BY t.key, t.value ORDER BY t.key, t.value;

-- By provider the unit is the attempt: one request may have paid two. What no attempt accounts for (a worker that
-- died, charged at its hold; an adjustment) belongs to the provider of the entry.
CREATE VIEW spend_by_provider AS
SELECT provider, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd, sum(unpriced)::bigint AS unpriced
FROM (
    SELECT provider, count(*) AS requests, count(*) FILTER (WHERE outcome <> 'answered') AS failed,
           sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, coalesce(sum(cost_usd), 0) AS cost_usd,
           count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced
    FROM accounting_attempt GROUP BY provider
    UNION ALL
    SELECT l.provider, count(*) FILTER (WHERE l.attempts = 0), count(*) FILTER (WHERE l.attempts = 0), 0, 0,
           coalesce(sum(l.cost_usd), 0) - coalesce(sum(paid.cost_usd), 0), 0
    FROM (
        SELECT id FROM accounting_ledgerentry WHERE attempt_count = 0
        UNION SELECT entry_id FROM accounting_adjustment
    ) odd
    JOIN ledger l ON l.entry_id = odd.id
    CROSS JOIN LATERAL (
        SELECT sum(a.cost_usd) AS cost_usd FROM accounting_attempt a WHERE a.entry_id = l.entry_id) paid
    WHERE l.cost_usd IS NOT NULL AND l.state <> 'held'
    GROUP BY l.provider
) parts GROUP BY provider ORDER BY provider;

CREATE VIEW budget_status AS
SELECT b.name AS budget, b.scope, coalesce(nullif(b.scope_value, ''), k.name) AS scope_value, b.mode, b.enabled,
       p.period_start, p.period_end, b.limit_usd, p.posted_usd, p.held_usd,
       greatest(b.limit_usd - p.posted_usd - p.held_usd, 0) AS available_usd,
       -- Where the budget's kind of period or time zone was changed, the windows of before are open too, and count no more.
       p.period_start <= now() AND (p.period_end IS NULL OR now() < p.period_end)
       AND p.period IN ('', b.period) AND p.time_zone IN ('', b.time_zone) AS is_current
FROM accounting_budgetperiod p JOIN accounting_budget b ON b.id = p.budget_id
LEFT JOIN accounting_apikey k ON k.id = b.api_key_id
ORDER BY b.name, p.period_start DESC;

CREATE VIEW open_holds AS
SELECT id AS entry_id, request_id, created_at, key, alias, hold_usd, expires_at, writer_id
FROM accounting_ledgerentry WHERE state = 'held' ORDER BY created_at;

CREATE VIEW refusals AS
SELECT at, nullif(request_id, '') AS request_id, nullif(key, '') AS key, nullif(alias, '') AS alias,
       nullif(endpoint, '') AS endpoint, nullif(end_user, '') AS end_user, tags, code, nullif(message, '') AS message,
       nullif(budget, '') AS budget, limit_usd, spent_usd, held_usd, asked_usd, count
FROM accounting_refusedrequest ORDER BY at, id;
