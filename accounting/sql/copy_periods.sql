-- Purpose: copies of windows for a rehearsal (rehearsal.py), which fills them. Until its transaction ends, its session's statements mean the
--          copies by the tables' names, so it locks no row that a true request needs, and none waits for it.
-- Locks:   none.
-- Rows:    none.
CREATE TEMP TABLE accounting_budgetperiod ON COMMIT DROP AS
SELECT * FROM accounting_budgetperiod WHERE id = ANY(%(period_ids)s::bigint[])
