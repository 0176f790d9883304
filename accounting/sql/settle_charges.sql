-- Purpose: replace what entries hold in their budget periods by what they cost. An entry that has expired meanwhile
--          (unknown, charged at its hold) is corrected to its true cost. move_balances.sql tells the periods.
-- Locks:   the caller holds the locks of the entries, has read their states and charges since (entry_charges.sql), and
--          names charges of unsettled entries alone. Runs before settle_entries.sql, which makes the entries immutable.
-- Rows:    none.
UPDATE accounting_charge c SET held_usd = 0, posted_usd = r.posted_usd
FROM json_to_recordset(%(rows)s::json) AS r(id bigint, posted_usd numeric)
WHERE c.id = r.id AND c.id = ANY(%(charge_ids)s)
