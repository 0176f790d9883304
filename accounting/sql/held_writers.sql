-- Purpose: which writers have running requests, and whether a request is past its time.
-- Locks:   none. Reads only the partial index of held entries, so the ledger's size does not matter.
-- Rows:    one a writer: writer_id, overdue.
SELECT writer_id, bool_or(expires_at < now()) AS overdue FROM accounting_ledgerentry WHERE state = 'held' GROUP BY writer_id
