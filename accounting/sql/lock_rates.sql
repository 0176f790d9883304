-- Purpose: lock and read what keys with rate limits have used in the current minute. A new minute begins at zero.
-- Locks:   one row a key, in key order, after the periods' locks (lock_entries.sql says the whole order).
-- Rows:    one a key: key_id, requests, tokens.
INSERT INTO accounting_keyrate AS r (key_id, minute, requests, tokens)
SELECT k.key_id, date_trunc('minute', now()), 0, 0 FROM unnest(%(key_ids)s::bigint[]) AS k(key_id) ORDER BY k.key_id
ON CONFLICT (key_id) DO UPDATE SET
    minute = EXCLUDED.minute,
    requests = CASE WHEN r.minute = EXCLUDED.minute THEN r.requests ELSE 0 END,
    tokens = CASE WHEN r.minute = EXCLUDED.minute THEN r.tokens ELSE 0 END
RETURNING key_id, requests, tokens
