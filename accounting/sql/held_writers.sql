-- Purpose: which writers have running requests, and how many of those are past their time.
-- Locks:   none. Reads the partial index of held entries alone, whatever the ledger's size.
-- Rows:    one a writer: writer_id, overdue.
SELECT writer_id, bool_or(expires_at < now()) AS overdue FROM accounting_ledgerentry WHERE state = 'held' GROUP BY writer_id
