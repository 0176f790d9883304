-- Purpose: charge an adjustment to the budget periods of its entry. A budget of an alias or a
--          provider is charged only when the step that answered, or was tried last, was theirs.
-- Locks:   the caller holds the locks of the entry and of its periods.
-- Rows:    none.
WITH charged AS (
    INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
    SELECT c.entry_id, c.period_id, %(adjustment_id)s, 0, %(amount_usd)s
    FROM accounting_charge c
    JOIN accounting_ledgerentry e ON e.id = c.entry_id
    JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
    WHERE c.entry_id = %(entry_id)s AND c.adjustment_id IS NULL AND CASE b.scope
        WHEN 'provider' THEN b.scope_value = e.provider
        WHEN 'alias' THEN accounting_is_of_alias(b.scope_value, coalesce(nullif(e.step_alias, ''), e.alias))
        ELSE true END
    RETURNING period_id, posted_usd
)
UPDATE accounting_budgetperiod p SET posted_usd = p.posted_usd + c.posted_usd FROM charged c WHERE c.period_id = p.id
