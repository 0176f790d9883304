-- Purpose: what keys with rate limits have used in the current minute, for a request that is only rehearsed
--          (rehearsal.py). A key without a row, or with one of an earlier minute, has used nothing.
-- Locks:   none.
-- Rows:    one a key that has used something: key_id, requests, tokens.
SELECT key_id, requests, tokens FROM accounting_keyrate
WHERE key_id = ANY(%(key_ids)s::bigint[]) AND minute = date_trunc('minute', now())
