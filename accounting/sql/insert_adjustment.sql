-- Purpose: a correction of a settled entry, by whom and why.
-- Locks:   none beyond the new row; the caller holds the entry's lock.
-- Rows:    id, created_at.
INSERT INTO accounting_adjustment (entry_id, amount_usd, reason, author, created_at)
VALUES (%(entry_id)s, %(amount_usd)s, %(reason)s, %(author)s, clock_timestamp())
RETURNING id, created_at
