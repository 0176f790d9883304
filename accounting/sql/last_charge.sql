-- Purpose: the last charge on the books. Every charge up to it is committed: the caller holds lock_ledger.sql's lock, so no
--          transaction runs that has a smaller id and has not committed.
-- Locks:   none of its own.
-- Rows:    one: the charge's id; 0 when there is none.
SELECT coalesce(max(id), 0) FROM accounting_charge
