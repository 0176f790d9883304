-- Purpose: what all processes have decided, as each of them asks twice a second. What is not among it is closed.
-- Locks:   none.
-- Rows:    provider, model, the generation, how many seconds it stays open, how many seconds a probe has it (both
--          negative when over: the reader's own clock may be another one).
SELECT provider, model, generation,
    extract(epoch FROM open_until - clock_timestamp())::float8,
    coalesce(extract(epoch FROM probe_until - clock_timestamp())::float8, -1)
FROM routing_breakerstate
WHERE state = 'open'
