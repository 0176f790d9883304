-- Purpose: how many requests of each key are running. Counted, not kept: a dead worker's are freed by their expiry.
-- Locks:   none; the caller holds the keys' rate locks (lock_rates.sql). Reads the index of held entries alone.
-- Rows:    one a key that has any: key_id, running.
SELECT key_id, count(*) AS running FROM accounting_ledgerentry
WHERE state = 'held' AND key_id = ANY(%(key_ids)s::bigint[]) GROUP BY key_id
