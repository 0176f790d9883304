-- Purpose: the id of one window of a budget.
-- Locks:   none. Uses the unique index on (budget_id, period_start, period_end).
-- Rows:    one or none: id, has_gap.
SELECT id, has_gap FROM accounting_budgetperiod
WHERE budget_id = %(budget_id)s AND period_start = %(period_start)s
  AND period_end IS NOT DISTINCT FROM %(period_end)s::timestamptz
