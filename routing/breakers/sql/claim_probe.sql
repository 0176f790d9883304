-- Purpose: of all who find a breaker half-open at once, let one be its probe.
-- Locks:   the breaker's row: the others wait for the winner, look again, and find it claimed.
-- Rows:    the probe's generation; none for whoever came too late.
UPDATE routing_breakerstate SET
    probe_until = clock_timestamp() + make_interval(secs => %(lease_s)s), generation = generation + 1
WHERE provider = %(provider)s AND model = %(model)s AND state = 'open' AND open_until <= clock_timestamp()
    AND (probe_until IS NULL OR probe_until <= clock_timestamp())
RETURNING generation
