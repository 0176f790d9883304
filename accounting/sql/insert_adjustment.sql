-- Purpose: a correction of a settled entry, by whom and why.
-- Locks:   none beyond the new row; the caller holds the entry's lock.
-- Rows:    id; none when the form with this token has made its adjustment already.
INSERT INTO accounting_adjustment (entry_id, amount_usd, reason, author, form_token, created_at)
VALUES (%(entry_id)s, %(amount_usd)s, %(reason)s, %(author)s, %(form_token)s, clock_timestamp())
ON CONFLICT (form_token) DO NOTHING
RETURNING id
