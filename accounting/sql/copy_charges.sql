-- Purpose: copies of the charges to windows that a rehearsal fills (copy_periods.sql).
-- Locks:   none.
-- Rows:    none.
CREATE TEMP TABLE accounting_charge ON COMMIT DROP AS
SELECT * FROM accounting_charge WHERE period_id = ANY(%(period_ids)s::bigint[])
