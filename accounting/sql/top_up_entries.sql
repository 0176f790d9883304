-- Purpose: raise the holds of running requests before a further attempt.
-- Locks:   the entries' rows; the caller holds the locks of their periods.
-- Rows:    the ids of entries that are still held. The request of an entry that has expired meanwhile must stop.
UPDATE accounting_ledgerentry e SET hold_usd = e.hold_usd + r.more_usd
FROM json_to_recordset(%(rows)s::json) AS r(id uuid, more_usd numeric)
WHERE e.id = r.id AND e.id = ANY(%(entry_ids)s) AND e.state = 'held'
RETURNING e.id
