-- Purpose: begin the rollup, or begin it anew: all entries that are there belong to the stretch that was never rolled up. The ends of
--          those that run are noted by triggers (rollup.sql), as are all entries to come.
-- Locks:   accounting_rollup's row.
-- Rows:    none.
INSERT INTO accounting_rollup (id, from_at, until_at)
SELECT 1, '1970-01-01 00:00Z', greatest(clock_timestamp(), (SELECT max(created_at) FROM accounting_ledgerentry)) + interval '1 microsecond'
ON CONFLICT (id) DO NOTHING
