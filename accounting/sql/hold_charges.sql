-- Purpose: weigh holds (and their top-ups) in the budget periods that they count against. move_balances.sql tells the
--          periods.
-- Locks:   the caller holds the periods' locks (lock_periods.sql).
-- Rows:    none.
INSERT INTO accounting_charge AS c (entry_id, period_id, adjustment_id, held_usd, posted_usd)
SELECT r.entry_id, r.period_id, NULL, r.held_usd, 0
FROM json_to_recordset(%(rows)s::json) AS r(entry_id uuid, period_id bigint, held_usd numeric)
ON CONFLICT (entry_id, period_id, adjustment_id) DO UPDATE SET held_usd = c.held_usd + EXCLUDED.held_usd
