-- Purpose: note of budget periods that it is told that their spending has reached the limit.
-- Locks:   the caller holds the periods' locks (lock_periods.sql).
-- Rows:    none.
UPDATE accounting_budgetperiod p SET told_limit_usd = r.limit_usd
FROM json_to_recordset(%(rows)s::json) AS r(id bigint, limit_usd numeric) WHERE p.id = r.id
