-- Purpose: add up charges by their periods: those of (first_id, last_id] and those named. A charge of a settled entry never changes,
--          so it counts for good; the others are named in the result, to be looked at again.
-- Locks:   none.
-- Rows:    one a period: period_id, posted_usd of the settled ones, the ids of the others.
SELECT c.period_id, coalesce(sum(c.posted_usd) FILTER (WHERE s.is_settled), 0) AS posted_usd,
       coalesce(array_agg(c.id) FILTER (WHERE NOT s.is_settled), '{}') AS open_ids
FROM accounting_charge c JOIN accounting_ledgerentry e ON e.id = c.entry_id
CROSS JOIN LATERAL (SELECT e.state IN ('posted', 'voided') AND c.held_usd = 0 AS is_settled) s
WHERE c.id > %(first_id)s AND c.id <= %(last_id)s OR c.id = ANY(%(open_ids)s::bigint[])
GROUP BY c.period_id
