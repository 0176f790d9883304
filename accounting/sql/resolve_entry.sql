-- Purpose: resolve an unknown entry, as an operator decided: post it at what the provider's bill says, or void it.
-- Locks:   the entry's row; the caller holds it and the locks of its periods, and has run settle_charges.sql.
-- Rows:    one with the id when the entry was unknown, else none.
UPDATE accounting_ledgerentry
SET state = %(state)s, settled_at = clock_timestamp(), cost_usd = %(cost_usd)s, resolved_by = %(author)s, resolution = %(reason)s,
    overrun = coalesce(%(cost_usd)s::numeric > hold_usd, false)
WHERE id = %(entry_id)s AND state = 'unknown'
RETURNING id
