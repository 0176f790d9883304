-- Purpose: forget refused requests that are older than the gateway keeps them.
-- Locks:   the deleted rows; those that another process is deleting are left to it.
-- Rows:    none. As many are deleted as the driver's row count says, so that the caller knows whether to go on.
DELETE FROM accounting_refusedrequest WHERE id IN (
    SELECT id FROM accounting_refusedrequest WHERE at < now() - make_interval(days => %(days)s)
    ORDER BY at LIMIT %(rows)s FOR UPDATE SKIP LOCKED)
