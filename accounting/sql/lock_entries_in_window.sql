-- Purpose: keep running requests from settling while a late window is opened over them (backfill_period.sql).
-- Locks:   the held entries of the window, in id order. Its transaction holds no period's lock yet.
-- Rows:    one an entry: id.
SELECT id FROM accounting_ledgerentry
WHERE state = 'held' AND created_at >= %(period_start)s
  AND (%(period_end)s::timestamptz IS NULL OR created_at < %(period_end)s::timestamptz)
ORDER BY id FOR UPDATE
