-- Purpose: the first statement of every transaction that holds, tops up, settles or corrects, before any statement whose
--          snapshot could be older than the filling of a window: see lock_ledger.sql.
-- Locks:   the ledger's advisory lock (accounting/postgres/locks.py), shared: it waits only while a window is being filled.
-- Rows:    one, which says nothing.
SELECT pg_advisory_xact_lock_shared(7234, 0)
