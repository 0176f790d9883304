-- Purpose: make sure that no ledger transaction runs while a window is filled (backfill_period.sql). A transaction that
--          has read an older configuration, or an entry's charges before the filling, would be missing in the window.
-- Locks:   the ledger's advisory lock (accounting/postgres/locks.py), exclusive. Waits some milliseconds for running ledger
--          transactions, and new ones wait until the window is filled. Taken before any row is locked.
-- Rows:    one, without meaning.
SELECT pg_advisory_xact_lock(7234, 0)
