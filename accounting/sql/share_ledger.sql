-- Purpose: the first statement of each ledger transaction, before the snapshot of any that reads: see lock_ledger.sql.
-- Locks:   the ledger's advisory lock, shared: it waits for nothing but the filling of a window.
-- Rows:    one: nothing.
SELECT pg_advisory_xact_lock_shared(7234, 0)
