-- Purpose: add charges for entries about to settle that paid for another step than they were admitted for, in the budgets of
--          that step's alias and provider. Those include budgets and windows that were made while the request ran, which
--          are not on its receipt.
-- Locks:   the caller holds the entries' locks, so nobody adds charges meanwhile, and share_ledger.sql's lock, so no
--          window is being filled. Runs before entry_charges.sql, which finds what this adds.
-- Rows:    none. Usually it adds nothing, because the top-up before the attempt has added the charge.
INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
SELECT DISTINCT e.id, p.id, NULL::bigint, 0, 0
FROM json_to_recordset(%(rows)s::json) AS r(entry_id uuid, alias text, provider text)
JOIN accounting_ledgerentry e ON e.id = r.entry_id AND e.id = ANY(%(entry_ids)s) AND e.state IN ('held', 'unknown')
JOIN accounting_budget b ON b.enabled AND (b.scope = 'provider' AND b.scope_value = r.provider
                                           OR b.scope = 'alias' AND accounting_is_of_alias(b.scope_value, r.alias))
JOIN accounting_budgetperiod p ON p.budget_id = b.id
    AND p.period_start <= e.created_at AND (p.period_end IS NULL OR e.created_at < p.period_end)
WHERE NOT EXISTS (SELECT 1 FROM accounting_charge c
                  WHERE c.entry_id = e.id AND c.period_id = p.id AND c.adjustment_id IS NULL)
