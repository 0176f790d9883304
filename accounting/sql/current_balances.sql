-- Purpose: the balances of many budgets, each in the window that it is in now. A window that nobody has opened has no row.
-- Locks:   none. Uses the unique index on (budget_id, period_start, period_end).
-- Rows:    one an open window: budget_id, id, posted_usd, held_usd, has_gap.
SELECT p.budget_id, p.id, p.posted_usd, p.held_usd, p.has_gap
FROM unnest(%(budget_ids)s::bigint[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) w (budget_id, period_start, period_end)
JOIN accounting_budgetperiod p
  ON p.budget_id = w.budget_id AND p.period_start = w.period_start AND p.period_end IS NOT DISTINCT FROM w.period_end
