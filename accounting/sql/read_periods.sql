-- Purpose: the balances that a request would be admitted on, for a request that is only rehearsed (rehearsal.py). What is
--          read may be outdated at once, which nobody minds who spends nothing.
-- Locks:   none.
-- Rows:    as in lock_periods.sql.
SELECT p.id, p.posted_usd, p.held_usd, b.limit_usd, b.mode, b.name, p.period_end, p.has_gap, p.told_limit_usd,
       b.scope, b.scope_value
FROM accounting_budgetperiod p JOIN accounting_budget b ON b.id = p.budget_id
WHERE p.id = ANY(%(period_ids)s)
