-- Purpose: open a window of a budget. When several transactions try at once, one of them opens it.
-- Locks:   another transaction that opens the same window waits for this one's commit.
-- Rows:    one with the id when this statement created the window, none when it was there.
INSERT INTO accounting_budgetperiod (budget_id, period_start, period_end, posted_usd, held_usd, period, time_zone)
VALUES (%(budget_id)s, %(period_start)s, %(period_end)s, 0, 0, %(period)s, %(time_zone)s)
ON CONFLICT (budget_id, period_start, period_end) DO NOTHING
RETURNING id
