-- Purpose: write a probe's result: the breaker closes, or stays open for open_s. With 0 s the probe had no result, so
--          the next request may probe at once. Without a generation, Postgres was away and the probe was not claimed.
-- Locks:   the breaker's row.
-- Rows:    none. Nothing changes when an operator or a later probe has decided meanwhile.
UPDATE routing_breakerstate SET
    state = %(state)s::text,
    since = CASE state WHEN %(state)s::text THEN since ELSE clock_timestamp() END,
    open_until = CASE WHEN %(open_s)s > 0 THEN clock_timestamp() + make_interval(secs => %(open_s)s) ELSE open_until END,
    probe_until = NULL,
    failures = failures + (%(kind)s::text IS NOT NULL)::int,
    last_kind = coalesce(%(kind)s::text, last_kind),
    generation = generation + 1
WHERE provider = %(provider)s AND model = %(model)s AND state = 'open'
    AND (%(generation)s::bigint IS NULL OR generation = %(generation)s::bigint)
