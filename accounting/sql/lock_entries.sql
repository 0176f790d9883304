-- Purpose: lock the entries that a ledger transaction changes, before it locks their periods.
--          Every transaction locks in the same order, so that two never deadlock: entries, then budget periods
--          (lock_periods.sql), then keys' rates (lock_rates.sql), each by id.
-- Locks:   the entries' rows, in id order.
-- Rows:    one an entry: id, state, provider, resolved_by, alias (of its step).
SELECT id, state, provider, resolved_by, coalesce(nullif(step_alias, ''), alias) AS alias
FROM accounting_ledgerentry WHERE id = ANY(%(entry_ids)s) ORDER BY id FOR UPDATE
