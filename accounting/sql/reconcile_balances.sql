-- Purpose: budget periods, of those named or of all, whose balance is not the sum of their charges.
-- Locks:   none; runs in a REPEATABLE READ transaction, so that all statements of reconcile see the same moment.
-- Rows:    one a period that is off: budget, period_start, posted_usd, charged_posted_usd, held_usd, charged_held_usd,
--          since (the oldest entry charged to it).
SELECT b.name AS budget, p.period_start, p.posted_usd, coalesce(c.posted_usd, 0) AS charged_posted_usd,
       p.held_usd, coalesce(c.held_usd, 0) AS charged_held_usd, c.since
FROM accounting_budgetperiod p
JOIN accounting_budget b ON b.id = p.budget_id
LEFT JOIN (
    SELECT c.period_id, sum(c.posted_usd) AS posted_usd, sum(c.held_usd) AS held_usd, min(e.created_at) AS since
    FROM accounting_charge c JOIN accounting_ledgerentry e ON e.id = c.entry_id
    WHERE %(period_ids)s::bigint[] IS NULL OR c.period_id = ANY(%(period_ids)s::bigint[]) GROUP BY c.period_id
) c ON c.period_id = p.id
WHERE (p.posted_usd <> coalesce(c.posted_usd, 0) OR p.held_usd <> coalesce(c.held_usd, 0))
  AND (%(period_ids)s::bigint[] IS NULL OR p.id = ANY(%(period_ids)s::bigint[]))
ORDER BY b.name, p.period_start
