-- Purpose: keep a probe that still runs. Should its process die, the next one may claim it soon.
-- Locks:   the breaker's row.
-- Rows:    none.
UPDATE routing_breakerstate SET probe_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE provider = %(provider)s AND model = %(model)s AND state = 'open' AND generation = %(generation)s
