-- Purpose: one row a provider call, written when its request is settled.
-- Locks:   none beyond the new rows. ON CONFLICT: repeating a batch inserts nothing twice.
-- Rows:    none.
INSERT INTO accounting_attempt (
    entry_id, position, alias, provider, model, endpoint, key_reference, outcome, http_status, error, started_at,
    duration_ms, first_token_ms, input_tokens, cached_input_tokens, cache_write_tokens, cache_write_1h_tokens, audio_input_tokens, output_tokens,
    reasoning_tokens, audio_output_tokens, usage_source, quantities, tier, cost_usd,
    at_most_usd, price, provider_request_id, next)
SELECT r.entry_id, r.position, r.alias, r.provider, r.model, r.endpoint, r.key_reference, r.outcome, r.http_status,
       r.error, r.started_at, r.duration_ms, r.first_token_ms, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens,
       r.cache_write_1h_tokens, r.audio_input_tokens, r.output_tokens, r.reasoning_tokens, r.audio_output_tokens,
       r.usage_source, r.quantities, r.tier, r.cost_usd, r.at_most_usd, r.price, r.provider_request_id, r.next
FROM json_to_recordset(%(rows)s::json) AS r(
    entry_id uuid, position smallint, alias text, provider text, model text, endpoint text, key_reference text,
    outcome text, http_status smallint, error text, started_at timestamptz, duration_ms integer, first_token_ms integer, input_tokens bigint,
    cached_input_tokens bigint, cache_write_tokens bigint, cache_write_1h_tokens bigint, audio_input_tokens bigint,
    output_tokens bigint, reasoning_tokens bigint, audio_output_tokens bigint, usage_source text, quantities jsonb,
    tier text, cost_usd numeric, at_most_usd numeric, price jsonb, provider_request_id text, next text)
ON CONFLICT (entry_id, position) DO NOTHING
