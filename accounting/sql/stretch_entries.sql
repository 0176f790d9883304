-- Purpose: the settled entries of a part of the stretch that was never rolled up. Those that were settled since it was begun wait
--          already (waiting_entries.sql).
-- Locks:   none of its own; the caller holds lock_rollup.sql's. Entries are read by their created_at index.
-- Rows:    one an entry: entry_id, whether it stays out of the sums.
SELECT e.id, e.resolved_by <> '' FROM accounting_ledgerentry e
WHERE e.created_at >= %(from_at)s AND e.created_at < %(next_at)s AND e.state IN ('posted', 'voided')
  AND NOT EXISTS (SELECT FROM accounting_unrolledentry u WHERE u.entry_id = e.id)
