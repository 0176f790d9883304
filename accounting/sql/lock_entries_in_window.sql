-- Purpose: keep entries of a window from being settled or resolved while the window is filled (backfill_period.sql).
-- Locks:   the held and the unknown entries of the window, in id order. The transaction holds no period's lock yet.
-- Rows:    one an entry: id.
SELECT id FROM accounting_ledgerentry
WHERE (state = 'held' OR state = 'unknown') AND created_at >= %(period_start)s
  AND (%(period_end)s::timestamptz IS NULL OR created_at < %(period_end)s::timestamptz)
ORDER BY id FOR UPDATE
