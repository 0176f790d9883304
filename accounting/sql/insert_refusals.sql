-- Purpose: put refused requests on the books: a row for each, and for those that are only counted one row a minute and kind,
--          to which every process adds.
-- Locks:   the counts' rows, in the order of their keys, so that no two processes wait for each other.
-- Rows:    none.
INSERT INTO accounting_refusedrequest AS known (
    at, request_id, key, key_id, alias, endpoint, end_user, tags, code, message, budget, limit_usd, spent_usd, held_usd,
    asked_usd, count)
SELECT r.at, r.request_id, r.key, r.key_id, r.alias, r.endpoint, r.end_user, r.tags, r.code, r.message, r.budget, r.limit_usd,
       r.spent_usd, r.held_usd, r.asked_usd, r.count
FROM json_to_recordset(%(rows)s::json) AS r(
    at timestamptz, request_id text, key text, key_id bigint, alias text, endpoint text, end_user text, tags jsonb, code text,
    message text, budget text, limit_usd numeric, spent_usd numeric, held_usd numeric, asked_usd numeric, count integer)
ORDER BY r.at, r.key, r.alias, r.endpoint, r.code, r.budget
ON CONFLICT (at, key, alias, endpoint, code, budget) WHERE request_id = '' DO UPDATE
SET count = known.count + EXCLUDED.count, message = EXCLUDED.message, limit_usd = EXCLUDED.limit_usd,
    spent_usd = EXCLUDED.spent_usd, held_usd = EXCLUDED.held_usd, asked_usd = EXCLUDED.asked_usd
