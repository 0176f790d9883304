-- Purpose: the durable rows of admitted requests, before any provider is called.
-- Locks:   none beyond the new rows. ON CONFLICT: a batch repeated after a lost connection inserts nothing twice.
-- Rows:    none.
INSERT INTO accounting_ledgerentry (
    id, created_at, expires_at, writer_id, state, request_id, key, key_id, owner, alias, step_alias, endpoint, served_alias,
    provider, model, attempt_count, fallback, streamed, error_code, provider_request_id, input_tokens, cached_input_tokens,
    cache_write_tokens, cache_write_1h_tokens, audio_input_tokens, output_tokens, reasoning_tokens,
    audio_output_tokens, usage_source, hold_usd, overrun, end_user, tags, resolved_by, resolution)
SELECT r.id, now(), now() + make_interval(secs => r.expires_after_s), r.writer_id, 'held', r.request_id, r.key, r.key_id,
       coalesce(r.owner, ''), r.alias, r.step_alias, r.endpoint, '', r.provider, r.model, 0, false, r.streamed, '', '', 0, 0, 0, 0, 0, 0, 0, 0,
       'none', r.hold_usd, false, r.end_user, r.tags, '', ''
FROM json_to_recordset(%(rows)s::json) AS r(
    id uuid, expires_after_s float, writer_id bigint, request_id text, key text, key_id bigint, owner text, alias text,
    step_alias text, endpoint text, provider text, model text, streamed boolean, hold_usd numeric, end_user text, tags jsonb)
ON CONFLICT (id) DO NOTHING
