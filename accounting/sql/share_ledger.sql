-- Purpose: keep a window from being filled during a transaction (lock_ledger.sql). It is the first statement of every
--          transaction that holds, tops up, settles or corrects: no statement before it may read an older snapshot.
-- Locks:   the ledger's advisory lock (accounting/postgres/locks.py), shared. Waits only while a window is being filled.
-- Rows:    one, without meaning.
SELECT pg_advisory_xact_lock_shared(7234, 0)
