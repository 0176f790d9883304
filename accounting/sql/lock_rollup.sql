-- Purpose: be the only one who rolls entries up. The sums are made by a later statement, whose snapshot is taken after this one.
-- Locks:   accounting_rollup's row. Waits for nobody: an adjustment that is being written holds it too.
-- Rows:    one: from_at, until_at. None: somebody has the lock, so come back later.
SELECT from_at, until_at FROM accounting_rollup FOR UPDATE SKIP LOCKED
