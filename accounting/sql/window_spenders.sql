-- Purpose: who spent most in one window of a budget: by key, by alias and by end user. One pass over the window's charges
--          answers all three. Requests without an end user are left out of the third.
-- Locks:   none. Reads the charges by their index on period_id. Its time grows with the window's requests.
-- Rows:    at most %(most)s a dimension, the largest first: dimension (key, alias or end_user), name, requests,
--          posted_usd, held_usd.
WITH grouped AS (
    SELECT CASE WHEN grouping(e.key) = 0 THEN 'key' WHEN grouping(e.alias) = 0 THEN 'alias' ELSE 'end_user' END AS dimension,
           coalesce(e.key, e.alias, e.end_user) AS name,
           count(*) FILTER (WHERE c.adjustment_id IS NULL) AS requests, -- a request has one charge, and one an adjustment
           sum(c.posted_usd) AS posted_usd, sum(c.held_usd) AS held_usd
    FROM accounting_charge c JOIN accounting_ledgerentry e ON e.id = c.entry_id
    WHERE c.period_id = %(period_id)s
    GROUP BY GROUPING SETS ((e.key), (e.alias), (e.end_user))
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY dimension ORDER BY posted_usd + held_usd DESC, requests DESC, name) AS place
    FROM grouped WHERE name <> ''
)
SELECT dimension, name, requests, posted_usd, held_usd FROM placed WHERE place <= %(most)s ORDER BY dimension, place
