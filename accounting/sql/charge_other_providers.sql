-- Purpose: what settled entries paid to another provider than the one they were admitted for counts in that provider's
--          budgets, also in those that are on no receipt: made, or opened for another window, while the request ran.
-- Locks:   the caller holds the entries' locks, so no charge can be added under it, and share_ledger.sql's, so no window
--          is being filled. Runs before entry_charges.sql, which finds what this adds.
-- Rows:    none. As a rule it adds nothing, as the top-up before such an attempt has charged it.
INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
SELECT DISTINCT e.id, p.id, NULL::bigint, 0, 0
FROM json_to_recordset(%(rows)s::json) AS r(entry_id uuid, provider text)
JOIN accounting_ledgerentry e ON e.id = r.entry_id AND e.state IN ('held', 'unknown')
JOIN accounting_budget b ON b.scope = 'provider' AND b.scope_value = r.provider AND b.enabled
JOIN accounting_budgetperiod p ON p.budget_id = b.id
    AND p.period_start <= e.created_at AND (p.period_end IS NULL OR e.created_at < p.period_end)
WHERE NOT EXISTS (SELECT 1 FROM accounting_charge c
                  WHERE c.entry_id = e.id AND c.period_id = p.id AND c.adjustment_id IS NULL)
