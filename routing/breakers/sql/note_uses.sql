-- Purpose: tell the other processes which keys have called a deployment, and whose calls have failed.
-- Locks:   the rows, in the order of deployment and key, so that no two processes can wait for each other.
-- Rows:    none.
INSERT INTO routing_breakeruse AS u (provider, model, key_id, used_at, failed_at)
SELECT r.provider, r.model, r.key_id, clock_timestamp() - make_interval(secs => r.used_s),
    clock_timestamp() - make_interval(secs => r.failed_s)
FROM json_to_recordset(%(rows)s::json) AS r(provider text, model text, key_id bigint, used_s float, failed_s float)
ORDER BY r.provider, r.model, r.key_id
ON CONFLICT (provider, model, key_id) DO UPDATE SET
    used_at = greatest(u.used_at, EXCLUDED.used_at), failed_at = greatest(u.failed_at, EXCLUDED.failed_at)
