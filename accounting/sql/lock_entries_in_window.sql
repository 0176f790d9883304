-- Purpose: keep requests from settling, and operators from resolving, while a late window is opened over them
--          (backfill_period.sql).
-- Locks:   the held and the unknown entries of the window, in id order. Its transaction holds no period's lock yet.
-- Rows:    one an entry: id.
SELECT id FROM accounting_ledgerentry
WHERE (state = 'held' OR state = 'unknown') AND created_at >= %(period_start)s
  AND (%(period_end)s::timestamptz IS NULL OR created_at < %(period_end)s::timestamptz)
ORDER BY id FOR UPDATE
