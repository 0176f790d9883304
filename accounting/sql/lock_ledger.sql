-- Purpose: fill a window (backfill_period.sql) while no ledger transaction is under way: one that had read an older
--          configuration, or an entry's charges without the new window's, would be missing in it.
-- Locks:   the ledger's advisory lock (accounting/postgres/locks.py), exclusive: waits some milliseconds for the ledger
--          transactions under way, and keeps new ones waiting until the window is filled. Taken before any row is locked.
-- Rows:    one, which says nothing.
SELECT pg_advisory_xact_lock(7234, 0)
