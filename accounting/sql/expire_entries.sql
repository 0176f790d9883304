-- Purpose: resolve holds of a dead worker, or past their time, to unknown. They are charged at the hold, because the
--          provider may have billed them.
-- Locks:   the caller holds the locks of the entries and of their periods.
-- Rows:    one an entry: id, request_id, hold_usd.
WITH weighed AS (
    SELECT c.id, c.period_id, c.held_usd,
           -- The whole hold, whatever the budget held of it: nothing when it is soft or alert, a part after a change of mode.
           CASE WHEN b.scope = 'provider' AND b.scope_value <> e.provider
                  OR b.scope = 'alias' AND NOT accounting_is_of_alias(b.scope_value, coalesce(nullif(e.step_alias, ''), e.alias))
                THEN c.held_usd
                ELSE coalesce(e.hold_usd, 0) END AS posted_usd
    FROM accounting_charge c
    JOIN accounting_ledgerentry e ON e.id = c.entry_id
    JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
    WHERE c.entry_id = ANY(%(entry_ids)s) AND c.adjustment_id IS NULL
), charged AS (
    UPDATE accounting_charge c SET held_usd = 0, posted_usd = w.posted_usd FROM weighed w WHERE c.id = w.id
), balanced AS (
    UPDATE accounting_budgetperiod p
    SET held_usd = p.held_usd - t.held_usd, posted_usd = p.posted_usd + t.posted_usd
    FROM (SELECT period_id, sum(held_usd) AS held_usd, sum(posted_usd) AS posted_usd FROM weighed GROUP BY period_id) t
    WHERE p.id = t.period_id
)
UPDATE accounting_ledgerentry e
SET state = 'unknown', settled_at = clock_timestamp(), cost_usd = e.hold_usd, error_code = 'worker_lost'
WHERE e.id = ANY(%(entry_ids)s) AND e.state = 'held'
RETURNING e.id, e.request_id, e.hold_usd
