-- Purpose: the providers' keys that their provider refused in the last day and that have not worked since, whichever
--          worker or replica called. An attempt names its key by reference.
-- Locks:   none. Reads the partial index attempt_key_refused, then by primary key the attempts that are newer than the
--          refusal. A key that works again has an answer among the first of these.
-- Rows:    one a key: provider, key_reference, at, http_status, error.
SELECT r.provider, r.key_reference, r.started_at AS at, r.http_status, r.error
FROM (
    SELECT DISTINCT ON (provider, key_reference) id, provider, key_reference, started_at, http_status, error
    FROM accounting_attempt
    WHERE outcome = 'authentication' AND started_at > now() - interval '1 day'
    ORDER BY provider, key_reference, started_at DESC
) r
LEFT JOIN LATERAL (
    SELECT a.id FROM accounting_attempt a
    WHERE a.id > r.id AND a.provider = r.provider AND a.key_reference = r.key_reference AND a.outcome = 'answered'
    ORDER BY a.id LIMIT 1 -- in the order of the ids, so that it reads the primary key's index and stops
) answered ON true
WHERE answered.id IS NULL
ORDER BY r.provider, r.key_reference
