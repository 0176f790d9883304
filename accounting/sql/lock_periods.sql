-- Purpose: the balances that a ledger transaction decides on and changes.
-- Locks:   the named period rows, FOR NO KEY UPDATE, in id order: every writer of balances locks here, in this
--          order, before it reads or changes an entry, so none deadlocks and none sees a stale balance. Weaker than FOR
--          UPDATE so that the foreign keys of new charges do not wait.
-- Rows:    one a period: id, posted_usd, held_usd, limit_usd, mode, name, period_end, has_gap.
SELECT p.id, p.posted_usd, p.held_usd, b.limit_usd, b.mode, b.name, p.period_end, p.has_gap
FROM accounting_budgetperiod p JOIN accounting_budget b ON b.id = p.budget_id
WHERE p.id = ANY(%(period_ids)s)
ORDER BY p.id
FOR NO KEY UPDATE OF p
