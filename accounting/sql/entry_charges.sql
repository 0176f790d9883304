-- Purpose: what entries weigh in which budget periods. Their holds do not name a budget that was made while they ran.
-- Locks:   none; the caller holds the entries' locks, so nobody adds or changes charges meanwhile.
-- Rows:    one a charge: id, entry_id, period_id, held_usd, posted_usd.
SELECT id, entry_id, period_id, held_usd, posted_usd
FROM accounting_charge WHERE entry_id = ANY(%(entry_ids)s) AND adjustment_id IS NULL
