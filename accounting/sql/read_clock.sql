-- Purpose: the configuration's version, and the time by the database's clock. That clock alone decides the budget period
--          of an entry, because replicas' clocks differ. Runs right after share_ledger.sql or lock_ledger.sql.
-- Locks:   none.
-- Rows:    one: version, now.
SELECT (SELECT version FROM accounting_configurationversion WHERE id = 1) AS version, now() AS now
