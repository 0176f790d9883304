-- Purpose: the open breakers. Each process reads them twice a second. All other breakers are closed.
-- Locks:   none.
-- Rows:    one a breaker: provider, model, generation, for how many seconds it stays open, for how many seconds a probe
--          has it. Both are relative, because the reader's clock may differ, and negative when they have passed.
SELECT provider, model, generation,
    extract(epoch FROM open_until - clock_timestamp())::float8,
    coalesce(extract(epoch FROM probe_until - clock_timestamp())::float8, -1)
FROM routing_breakerstate
WHERE state = 'open'
