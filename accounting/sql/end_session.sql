-- Purpose: end a ledger writer's former session when it still holds the writer's advisory lock, because Postgres has not
--          noticed yet that its connection was lost.
-- Locks:   none.
-- Rows:    one when there was such a session. 7233 is WRITER in accounting/postgres/locks.py.
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND classid = 7233 AND objid = %(writer_id)s AND objsubid = 2 AND granted AND pid = %(pid)s
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
