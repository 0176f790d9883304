-- Purpose: the days of UTC whose sums of spend are to be compared with their entries: those that have sums, and those that have entries and
--          so ought to have them.
-- Locks:   none. Reads one entry a day, by the created_at index.
-- Rows:    one a day: day, requests (as its sums say).
WITH RECURSIVE entry_day AS (
    SELECT date_trunc('day', min(created_at), 'UTC') AS day FROM accounting_ledgerentry
    UNION ALL
    SELECT date_trunc('day', (SELECT min(created_at) FROM accounting_ledgerentry WHERE created_at >= day + interval '24 hours'), 'UTC')
    FROM entry_day WHERE day IS NOT NULL
)
SELECT day, sum(requests)::bigint AS requests
FROM (
    SELECT day, 0 AS requests FROM entry_day WHERE day IS NOT NULL
    UNION ALL
    SELECT date_trunc('day', bucket, 'UTC'), requests FROM accounting_spendsum WHERE dimension = 'time'
) days GROUP BY day ORDER BY day
