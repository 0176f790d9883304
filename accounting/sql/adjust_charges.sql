-- Purpose: charge an adjustment to the budget periods of its entry. A provider's budget is charged only when the entry
--          was that provider's.
-- Locks:   the caller holds the locks of the entry and of its periods.
-- Rows:    none.
WITH charged AS (
    INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
    SELECT c.entry_id, c.period_id, %(adjustment_id)s, 0, %(amount_usd)s
    FROM accounting_charge c
    JOIN accounting_ledgerentry e ON e.id = c.entry_id
    JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
    WHERE c.entry_id = %(entry_id)s AND c.adjustment_id IS NULL AND (b.scope <> 'provider' OR b.scope_value = e.provider)
    RETURNING period_id, posted_usd
)
UPDATE accounting_budgetperiod p SET posted_usd = p.posted_usd + c.posted_usd FROM charged c WHERE c.period_id = p.id
