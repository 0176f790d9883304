-- Purpose: open one window of a budget, once, whoever comes first.
-- Locks:   a racing opener of the same window waits for the first one's commit.
-- Rows:    the id when this call created it, none when it was there.
INSERT INTO accounting_budgetperiod (budget_id, period_start, period_end, posted_usd, held_usd)
VALUES (%(budget_id)s, %(period_start)s, %(period_end)s, 0, 0)
ON CONFLICT (budget_id, period_start, period_end) DO NOTHING
RETURNING id
