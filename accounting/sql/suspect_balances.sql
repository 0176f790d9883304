-- Purpose: periods whose balance is not what was added up of their settled charges, and of those that are newer or were open. It reads
--          only the latter, so its time does not grow with the ledger.
-- Locks:   none. One statement sees one moment.
-- Rows:    one a period: id.
WITH known AS (
    SELECT * FROM unnest(%(period_ids)s::bigint[], %(posted_usd)s::numeric[]) AS k(period_id, posted_usd)
), moving AS (
    SELECT period_id, sum(posted_usd) AS posted_usd, sum(held_usd) AS held_usd FROM accounting_charge
    WHERE id > %(last_id)s OR id = ANY(%(open_ids)s::bigint[]) GROUP BY period_id
)
SELECT p.id FROM accounting_budgetperiod p LEFT JOIN known k ON k.period_id = p.id LEFT JOIN moving m ON m.period_id = p.id
WHERE p.posted_usd <> coalesce(k.posted_usd, 0) + coalesce(m.posted_usd, 0) OR p.held_usd <> coalesce(m.held_usd, 0)
ORDER BY p.id
