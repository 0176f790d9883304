-- Purpose: count admitted requests, and correct the tokens of settled ones, in their keys' minute.
-- Locks:   the keys' rows. lock_rates.sql has locked those of admitted requests; this locks those of settled ones.
-- Rows:    none. A correction for a past minute changes nothing.
UPDATE accounting_keyrate r SET requests = r.requests + c.requests, tokens = greatest(0, r.tokens + c.tokens)
FROM (SELECT u.key_id, u.minute, sum(u.requests)::int AS requests, sum(u.tokens)::bigint AS tokens
      FROM json_to_recordset(%(rows)s::json) AS u(key_id bigint, minute timestamptz, requests int, tokens bigint)
      GROUP BY u.key_id, u.minute) c
WHERE r.key_id = c.key_id AND r.minute = c.minute
