-- Purpose: renew the lease of a running probe. When its process dies, the lease ends and another may claim the probe.
-- Locks:   the breaker's row.
-- Rows:    none.
UPDATE routing_breakerstate SET probe_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE provider = %(provider)s AND model = %(model)s AND state = 'open' AND generation = %(generation)s
