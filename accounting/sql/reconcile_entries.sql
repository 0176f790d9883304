-- Purpose: entries that contradict themselves: charged otherwise than they cost, holding after they were settled, or
--          costing otherwise than their attempts.
-- Locks:   none; run in a REPEATABLE READ transaction, so that all of reconcile sees one moment.
-- Rows:    one a contradiction: entry_id, request_id, created_at, what, expected_usd, found_usd.
WITH charged AS (
    SELECT e.id, e.request_id, e.created_at, e.state, coalesce(e.cost_usd, 0) AS cost_usd, coalesce(e.hold_usd, 0) AS hold_usd,
           c.held_usd, c.posted_usd, b.scope, b.mode
    FROM accounting_charge c
    JOIN accounting_ledgerentry e ON e.id = c.entry_id
    JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
    WHERE c.adjustment_id IS NULL
)
SELECT id AS entry_id, request_id, created_at, 'a settled entry still holds' AS what, 0::numeric AS expected_usd, held_usd AS found_usd
FROM charged WHERE state <> 'held' AND held_usd <> 0
UNION ALL
-- A provider's budget carries a part of the cost; a budget whose mode was changed under a running request may hold
-- otherwise than its mode says, until the request settles.
SELECT id, request_id, created_at, 'its charge is not its cost', cost_usd, posted_usd
FROM charged WHERE state IN ('posted', 'voided') AND scope <> 'provider' AND posted_usd <> cost_usd
UNION ALL
SELECT e.id, e.request_id, e.created_at, 'its cost is not that of its attempts', sum(a.cost_usd), e.cost_usd
FROM accounting_ledgerentry e JOIN accounting_attempt a ON a.entry_id = e.id
WHERE e.state IN ('posted', 'voided') AND e.cost_usd IS NOT NULL AND e.resolved_by = ''
GROUP BY e.id HAVING coalesce(sum(a.cost_usd), 0) <> e.cost_usd
ORDER BY created_at, entry_id
