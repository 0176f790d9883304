-- Purpose: some of the settled entries that wait to be rolled up. Those of the stretch that was never rolled up have their turn with it.
-- Locks:   none of its own; the caller holds lock_rollup.sql's.
-- Rows:    one an entry: entry_id.
SELECT u.entry_id FROM accounting_unrolledentry u JOIN accounting_ledgerentry e ON e.id = u.entry_id
WHERE NOT u.stays AND NOT (e.created_at >= %(from_at)s AND e.created_at < %(until_at)s) LIMIT %(most)s
