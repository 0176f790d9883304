-- Purpose: post or void entries when their requests have ended.
-- Locks:   the entries' rows; the caller holds the locks of their periods.
-- Rows:    none. An entry that was settled before is not changed.
UPDATE accounting_ledgerentry e SET
    state = r.state, settled_at = clock_timestamp(), served_alias = r.served_alias, step_alias = r.step_alias, provider = r.provider, model = r.model,
    attempt_count = r.attempt_count, fallback = r.fallback, http_status = r.http_status, error_code = r.error_code,
    provider_request_id = r.provider_request_id, input_tokens = r.input_tokens,
    cached_input_tokens = r.cached_input_tokens, cache_write_tokens = r.cache_write_tokens,
    cache_write_1h_tokens = r.cache_write_1h_tokens, audio_input_tokens = r.audio_input_tokens,
    output_tokens = r.output_tokens, reasoning_tokens = r.reasoning_tokens, audio_output_tokens = r.audio_output_tokens,
    usage_source = r.usage_source, quantities = r.quantities, tier = r.tier, cost_usd = r.cost_usd,
    overrun = coalesce(r.cost_usd > e.hold_usd, false), price = r.price, first_token_ms = r.first_token_ms, duration_ms = r.duration_ms
FROM json_to_recordset(%(rows)s::json) AS r(
    id uuid, state text, served_alias text, step_alias text, provider text, model text, attempt_count smallint, fallback boolean,
    http_status smallint, error_code text, provider_request_id text, input_tokens bigint, cached_input_tokens bigint,
    cache_write_tokens bigint, cache_write_1h_tokens bigint, audio_input_tokens bigint, output_tokens bigint,
    reasoning_tokens bigint, audio_output_tokens bigint, usage_source text, quantities jsonb, tier text, cost_usd numeric,
    price jsonb, first_token_ms integer, duration_ms integer)
WHERE e.id = r.id AND e.id = ANY(%(entry_ids)s) AND e.state IN ('held', 'unknown')
