-- Purpose: what an entry costs with its adjustments.
-- Locks:   none; who decides by it holds the entry's lock.
-- Rows:    one: total_usd, an unpriced entry counted as 0.
SELECT coalesce(e.cost_usd, 0) + coalesce(sum(a.amount_usd), 0) AS total_usd
FROM accounting_ledgerentry e LEFT JOIN accounting_adjustment a ON a.entry_id = e.id
WHERE e.id = %(entry_id)s GROUP BY e.id
