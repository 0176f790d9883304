-- Purpose: the configuration's version, and the database's clock, which alone decides the budget period of an entry:
--          replicas' clocks differ, the database has one. Runs right after share_ledger.sql or lock_ledger.sql.
-- Locks:   none.
-- Rows:    one: version, now.
SELECT (SELECT version FROM accounting_configurationversion WHERE id = 1) AS version, now() AS now
