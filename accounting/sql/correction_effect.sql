-- Purpose: what a correction of an entry would make of its budgets: each period that the entry counts in, now and after.
--          Charges as adjust_charges.sql and settle_charges.sql do: a budget of an alias or a provider
--          only when the step that answered, or was tried last, was theirs.
-- Locks:   none; a look ahead, that running requests may overtake.
-- Rows:    one a period, in id order: budget, period_start, period_end, limit_usd, posted_usd, after_usd.
SELECT b.name AS budget, p.period_start, p.period_end, b.limit_usd, p.posted_usd,
       p.posted_usd - CASE WHEN %(replaces)s THEN c.posted_usd ELSE 0 END
       + CASE WHEN CASE b.scope
             WHEN 'provider' THEN b.scope_value = e.provider
             WHEN 'alias' THEN accounting_is_of_alias(b.scope_value, coalesce(nullif(e.step_alias, ''), e.alias))
             ELSE true END THEN %(amount_usd)s ELSE 0 END AS after_usd
FROM accounting_charge c
JOIN accounting_ledgerentry e ON e.id = c.entry_id
JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
WHERE c.entry_id = %(entry_id)s AND c.adjustment_id IS NULL
ORDER BY p.id
