-- Purpose: what entries weigh in which budget periods. Their holds do not name a budget that was made while they ran.
-- Locks:   none; the caller holds the entries' locks, so nobody adds charges meanwhile.
-- Rows:    one a charge: entry_id, period_id, held_usd, posted_usd, scope, scope_value.
SELECT c.entry_id, c.period_id, c.held_usd, c.posted_usd, b.scope, b.scope_value
FROM accounting_charge c
JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
WHERE c.entry_id = ANY(%(entry_ids)s) AND c.adjustment_id IS NULL
