-- Purpose: replace what entries hold in their budget periods by what they cost. The rest of the hold is free again.
--          An entry that has expired meanwhile (unknown, charged at its hold) is corrected to its true cost.
-- Locks:   the caller holds the locks of the entries and of all their periods, so the entries' states cannot change.
--          Runs before settle_entries.sql, which makes the entries immutable.
-- Rows:    none. Entries that are settled already stay as they are, so repeating a batch changes nothing.
WITH settling AS (
    SELECT c.id, c.period_id, c.held_usd, c.posted_usd AS old_posted_usd, r.posted_usd AS new_posted_usd
    FROM json_to_recordset(%(rows)s::json) AS r(entry_id uuid, period_id bigint, posted_usd numeric)
    JOIN accounting_charge c ON c.entry_id = r.entry_id AND c.period_id = r.period_id AND c.adjustment_id IS NULL
    JOIN accounting_ledgerentry e ON e.id = c.entry_id AND e.state IN ('held', 'unknown')
), charged AS (
    UPDATE accounting_charge c SET held_usd = 0, posted_usd = s.new_posted_usd FROM settling s WHERE c.id = s.id
)
UPDATE accounting_budgetperiod p
SET held_usd = p.held_usd - t.held_usd, posted_usd = p.posted_usd + t.posted_usd
FROM (SELECT period_id, sum(held_usd) AS held_usd, sum(new_posted_usd - old_posted_usd) AS posted_usd
      FROM settling GROUP BY period_id) t
WHERE p.id = t.period_id
