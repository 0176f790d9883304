-- Purpose: remove what no process reads any more. Each process does so every few minutes.
-- Locks:   the removed rows. Rows that another process is removing or renewing are left to it.
-- Rows:    none.
DELETE FROM routing_breakeruse WHERE id IN (
    SELECT id FROM routing_breakeruse WHERE used_at < clock_timestamp() - interval '10 minutes'
    ORDER BY provider, model, key_id FOR UPDATE SKIP LOCKED
)
