-- Purpose: what finance queries. Stable and documented column by column in docs/sql-views.md; the tables behind
--          them are not. Costs include adjustments. Days are UTC days; for another zone group the view `ledger`.
-- Locks:   none. Reading them never waits for the gateway, nor makes it wait.
DROP VIEW IF EXISTS spend_by_hour, spend_by_day, spend_by_alias, spend_by_provider, spend_by_key, spend_by_tag, budget_status,
    open_holds, refusals, attempts, ledger, accounting_spend, accounting_entryspend;

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

-- What an entry weighs in each dimension that spend is summed by: a row each. The only definition of it: reports read it for
-- entries that are not rolled up, and the sums of those that are were made by it. Whoever asks for one dimension runs its part alone.
-- Times are quarters of an hour, of which the days of every time zone consist; all others are days of UTC.
-- All parts have the same types, or the planner would not leave out those that nobody asks for.
CREATE VIEW accounting_entryspend AS
SELECT e.id AS entry_id, e.created_at, e.state, w.dimension, w.name, w.value,
       CASE w.dimension WHEN 'time' THEN date_bin('15 minutes', e.created_at, '2000-01-01 00:00Z')
                        ELSE date_bin('1 day', e.created_at, '2000-01-01 00:00Z') END AS bucket,
       w.requests, w.failed, w.input_tokens, w.output_tokens, w.cost_usd, w.unpriced
FROM accounting_ledgerentry e
CROSS JOIN LATERAL (
    SELECT coalesce(sum(a.amount_usd), 0) AS amount_usd, count(*) AS count FROM accounting_adjustment a
    WHERE a.entry_id = e.id
) j
CROSS JOIN LATERAL (
    SELECT n.dimension, n.name, n.value, 1::bigint AS requests,
           coalesce(e.http_status >= 400 OR e.state = 'unknown', false)::int::bigint AS failed, e.input_tokens, e.output_tokens,
           coalesce(e.cost_usd, 0) + j.amount_usd AS cost_usd,
           (e.cost_usd IS NULL AND j.count = 0 AND e.state = 'posted')::int::bigint AS unpriced
    FROM (
        SELECT 'time'::text AS dimension, ''::text AS name, ''::text AS value
        UNION ALL SELECT 'alias'::text, e.alias::text, ''::text
        UNION ALL SELECT 'key'::text, e.key::text, ''::text
        UNION ALL SELECT 'served_alias'::text, e.served_alias::text, ''::text
        UNION ALL SELECT 'entry_provider'::text, e.provider::text, ''::text
        UNION ALL SELECT 'model'::text, e.model::text, ''::text
        UNION ALL SELECT 'owner'::text, e.owner::text, ''::text
        UNION ALL SELECT 'user'::text, e.end_user::text, ''::text
        UNION ALL SELECT 'tag'::text, t.key, e.tags ->> t.key FROM jsonb_each(e.tags) t
            WHERE jsonb_typeof(t.value) NOT IN ('array', 'null')
        UNION ALL SELECT 'tag_null'::text, t.key, ''::text FROM jsonb_each(e.tags) t WHERE jsonb_typeof(t.value) = 'null'
        UNION ALL SELECT 'tag_list'::text, t.key, e.tags ->> t.key FROM jsonb_each(e.tags) t WHERE jsonb_typeof(t.value) = 'array'
        UNION ALL SELECT 'tag_item'::text, t.key, i.value FROM jsonb_each(e.tags) t CROSS JOIN LATERAL jsonb_array_elements_text(
            CASE jsonb_typeof(t.value) WHEN 'array' THEN t.value ELSE '[]' END) i WHERE i.value IS NOT NULL
        UNION ALL SELECT 'tag_null'::text, t.key, ''::text FROM jsonb_each(e.tags) t CROSS JOIN LATERAL jsonb_array_elements_text(
            CASE jsonb_typeof(t.value) WHEN 'array' THEN t.value ELSE '[]' END) i WHERE i.value IS NULL
    ) n
    UNION ALL
    -- By provider the unit is the attempt: one request may have paid two. What no attempt accounts for (a worker that
    -- died, charged at its hold; an adjustment) belongs to the provider of the entry.
    SELECT 'provider'::text, a.provider::text, ''::text, 1::bigint, (a.outcome <> 'answered')::int::bigint, a.input_tokens, a.output_tokens,
           coalesce(a.cost_usd, 0), (a.cost_usd IS NULL)::int::bigint
    FROM accounting_attempt a WHERE a.entry_id = e.id
    UNION ALL
    SELECT 'provider'::text, e.provider::text, ''::text, (e.attempt_count = 0)::int::bigint, (e.attempt_count = 0)::int::bigint, 0::bigint, 0::bigint,
           coalesce(e.cost_usd, 0) + j.amount_usd - coalesce((
               SELECT sum(a.cost_usd) FROM accounting_attempt a WHERE a.entry_id = e.id), 0), 0::bigint
    WHERE (e.attempt_count = 0 OR j.count > 0) AND (e.cost_usd IS NOT NULL OR j.count > 0) AND e.state <> 'held'
) w;

-- What the views of spend below add up: the sums of all entries that are rolled up, and the entries that are not. Exact at any
-- moment, because a transaction that rolls an entry up does both at once. Not rolled up are running and unknown entries, those that
-- wait (rollup.sql), and those of a stretch of time that a new or rebuilt rollup has not come to yet: of all time, before it begins.
CREATE VIEW accounting_spend AS
SELECT dimension::text, name, value, bucket, requests, failed, input_tokens, output_tokens, cost_usd, unpriced
FROM accounting_spendsum
UNION ALL
SELECT s.dimension, s.name, s.value, s.bucket, s.requests, s.failed, s.input_tokens, s.output_tokens, s.cost_usd, s.unpriced
FROM accounting_unrolledentry u JOIN accounting_entryspend s ON s.entry_id = u.entry_id
UNION ALL
SELECT s.dimension, s.name, s.value, s.bucket, s.requests, s.failed, s.input_tokens, s.output_tokens, s.cost_usd, s.unpriced
FROM accounting_entryspend s WHERE s.state = 'held'
UNION ALL
SELECT s.dimension, s.name, s.value, s.bucket, s.requests, s.failed, s.input_tokens, s.output_tokens, s.cost_usd, s.unpriced
FROM accounting_entryspend s WHERE s.state = 'unknown'
UNION ALL
SELECT s.dimension, s.name, s.value, s.bucket, s.requests, s.failed, s.input_tokens, s.output_tokens, s.cost_usd, s.unpriced
FROM accounting_entryspend s
WHERE s.state IN ('posted', 'voided') AND coalesce((SELECT from_at < until_at FROM accounting_rollup), true)
  AND s.created_at >= coalesce((SELECT from_at FROM accounting_rollup), '-infinity')
  AND s.created_at < coalesce((SELECT until_at FROM accounting_rollup), 'infinity')
  -- Always true. It tells the planner that there are few such entries, as a rule none, or it would compile the query.
  AND s.created_at + interval '0 s' = s.created_at
  AND NOT EXISTS (SELECT FROM accounting_unrolledentry u WHERE u.entry_id = s.entry_id);

CREATE VIEW spend_by_hour AS
SELECT date_bin('1 hour', bucket, '2000-01-01 00:00Z') AS hour, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd,
       sum(unpriced)::bigint AS unpriced
FROM accounting_spend WHERE dimension = 'time' GROUP BY 1 ORDER BY 1;

CREATE VIEW spend_by_day AS
SELECT (bucket AT TIME ZONE 'UTC')::date AS day, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd,
       sum(unpriced)::bigint AS unpriced
FROM accounting_spend WHERE dimension = 'time' GROUP BY 1 ORDER BY 1;

CREATE VIEW spend_by_alias AS
SELECT name::varchar(100) AS alias, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd,
       sum(unpriced)::bigint AS unpriced
FROM accounting_spend WHERE dimension = 'alias' GROUP BY name ORDER BY name;

-- The owner is the one that the key has now; the view `ledger` has the one of each request's time.
CREATE VIEW spend_by_key AS
SELECT s.name::varchar(100) AS key, (SELECT nullif(k.owner, '') FROM accounting_apikey k WHERE k.name = s.name) AS owner,
       sum(requests)::bigint AS requests, sum(failed)::bigint AS failed, sum(input_tokens)::bigint AS input_tokens,
       sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd, sum(unpriced)::bigint AS unpriced
FROM accounting_spend s WHERE dimension = 'key' GROUP BY s.name ORDER BY s.name;

-- A request with several tags, or several values of one tag, counts for each of them, and one without tags for none.
CREATE VIEW spend_by_tag AS
SELECT name || '=' || value AS tag, name, value, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd,
       sum(unpriced)::bigint AS unpriced
FROM (
    SELECT name, CASE WHEN dimension <> 'tag_null' THEN value END AS value, requests, failed, input_tokens, output_tokens, cost_usd, unpriced
    FROM accounting_spend WHERE dimension IN ('tag', 'tag_item', 'tag_null')
) t GROUP BY name, value ORDER BY name, value;

CREATE VIEW spend_by_provider AS
SELECT name::varchar(100) AS provider, sum(requests)::bigint AS requests, sum(failed)::bigint AS failed,
       sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd,
       sum(unpriced)::bigint AS unpriced
FROM accounting_spend WHERE dimension = 'provider' GROUP BY name ORDER BY name;

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
