-- Purpose: remember what reconcile found, for the operators' first page. Rows older than 30 days go.
-- Locks:   the new row, and those that go.
-- Rows:    none.
WITH old AS (
    DELETE FROM accounting_reconciliation WHERE at < now() - interval '30 days'
)
INSERT INTO accounting_reconciliation (at, periods, entries, discrepancies, details, is_whole)
VALUES (clock_timestamp(), %(periods)s, %(entries)s, %(discrepancies)s, %(details)s, %(is_whole)s)
