-- Purpose: lock and read the balances that a ledger transaction decides on and changes.
-- Locks:   the named period rows, in id order, after the entries' locks (lock_entries.sql says the whole order). Every
--          writer of balances locks here before it reads or changes a balance, so no writer decides on an old one.
--          FOR NO KEY UPDATE, which is weaker than FOR UPDATE, so that the foreign keys of new charges do not wait.
-- Rows:    one a period: id, posted_usd, held_usd, limit_usd, mode, name, period_end, has_gap, told_limit_usd, scope,
--          scope_value.
SELECT p.id, p.posted_usd, p.held_usd, b.limit_usd, b.mode, b.name, p.period_end, p.has_gap, p.told_limit_usd,
       b.scope, b.scope_value
FROM accounting_budgetperiod p JOIN accounting_budget b ON b.id = p.budget_id
WHERE p.id = ANY(%(period_ids)s)
ORDER BY p.id
FOR NO KEY UPDATE OF p
