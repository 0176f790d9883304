-- Purpose: which keys have called each deployment lately, and whose calls have failed. Each process reads it twice a second.
-- Locks:   none.
-- Rows:    one a key and deployment: provider, model, key, how many seconds ago it called, and failed (NULL: it has not).
SELECT provider, model, key_id,
    extract(epoch FROM clock_timestamp() - used_at)::float8, extract(epoch FROM clock_timestamp() - failed_at)::float8
FROM routing_breakeruse
WHERE used_at > clock_timestamp() - make_interval(secs => %(lately_s)s)
