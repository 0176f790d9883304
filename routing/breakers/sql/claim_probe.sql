-- Purpose: claim the probe of a half-open breaker. When several processes try at once, one succeeds.
-- Locks:   the breaker's row. The other processes wait for it, and then find the probe claimed.
-- Rows:    one with the probe's generation when the claim succeeded, else no row.
UPDATE routing_breakerstate SET
    probe_until = clock_timestamp() + make_interval(secs => %(lease_s)s), generation = generation + 1
WHERE provider = %(provider)s AND model = %(model)s AND state = 'open' AND open_until <= clock_timestamp()
    AND (probe_until IS NULL OR probe_until <= clock_timestamp())
RETURNING generation
