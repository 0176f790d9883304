-- Purpose: how many requests of each key are running. Counted each time, so a dead worker's requests
--          stop counting when they expire.
-- Locks:   none; the caller holds the keys' rate locks (lock_rates.sql). Reads only the index of held entries.
-- Rows:    one a key with running requests: key_id, running.
SELECT key_id, count(*) AS running FROM accounting_ledgerentry
WHERE state = 'held' AND key_id = ANY(%(key_ids)s::bigint[]) GROUP BY key_id
