-- Purpose: the ledger's writers, of all workers and replicas, that are longer at one transaction than they should be.
--          Their requests wait for them.
-- Locks:   none. Another database role's sessions do not show.
-- Rows:    one: how many, and for how many seconds the slowest.
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'gateway ledger writer'
  AND clock_timestamp() - xact_start > %(busy_s)s * interval '1 second'
