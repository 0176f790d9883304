-- Purpose: add to the balances of budget periods what a transaction has changed in their charges: one sum a period, over all
--          that it holds, tops up and settles.
-- Locks:   the caller holds the periods' locks (lock_periods.sql).
-- Rows:    none.
UPDATE accounting_budgetperiod p SET held_usd = p.held_usd + r.held_usd, posted_usd = p.posted_usd + r.posted_usd
FROM json_to_recordset(%(rows)s::json) AS r(id bigint, held_usd numeric, posted_usd numeric)
WHERE p.id = r.id AND p.id = ANY(%(period_ids)s)
