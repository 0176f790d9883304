-- Purpose: tell the other processes that this process opened a breaker, or keeps it open for longer. A breaker that is
--          open already only stays open for longer, and a probe that was claimed meanwhile keeps its generation.
-- Locks:   the breaker's row.
-- Rows:    none.
INSERT INTO routing_breakerstate AS b
    (provider, model, state, since, open_until, failures, last_kind, generation, reset_by)
VALUES (%(provider)s, %(model)s, 'open', clock_timestamp(), clock_timestamp() + make_interval(secs => %(open_s)s),
    %(failures)s, %(kind)s, 1, '')
ON CONFLICT (provider, model) DO UPDATE SET
    state = 'open',
    since = CASE b.state WHEN 'open' THEN b.since ELSE EXCLUDED.since END,
    open_until = CASE b.state WHEN 'open' THEN greatest(b.open_until, EXCLUDED.open_until) ELSE EXCLUDED.open_until END,
    probe_until = CASE b.state WHEN 'open' THEN b.probe_until END,
    generation = CASE b.state WHEN 'open' THEN b.generation ELSE b.generation + 1 END,
    failures = CASE b.state WHEN 'open' THEN greatest(b.failures, EXCLUDED.failures) ELSE EXCLUDED.failures END,
    last_kind = EXCLUDED.last_kind
