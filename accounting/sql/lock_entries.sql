-- Purpose: the entries that a ledger transaction changes, before it locks their periods. Every transaction locks
--          entries first, then periods, each in id order, so none deadlocks.
-- Locks:   the entries' rows, in id order.
-- Rows:    one an entry: id, state, hold_usd, provider, alias, resolved_by.
SELECT id, state, hold_usd, provider, alias, resolved_by FROM accounting_ledgerentry WHERE id = ANY(%(entry_ids)s) ORDER BY id FOR UPDATE
