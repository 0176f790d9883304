-- Purpose: the first statement of each ledger transaction: the configuration's version, and the database's
--          clock, which alone decides the budget period of an entry (replicas' clocks differ; this one does not).
-- Locks:   none.
-- Rows:    one: version, now.
SELECT (SELECT version FROM accounting_configurationversion WHERE id = 1) AS version, now() AS now
