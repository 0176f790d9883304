-- Purpose: forget all sums. All entries that are there are then of the stretch that was never rolled up, so reports read them
--          themselves until they are rolled up again.
-- Locks:   the sums' rows; the caller holds the lock of accounting_rollup's row, so nobody rolls up and nobody adjusts.
-- Rows:    none.
WITH forgotten AS (
    DELETE FROM accounting_spendsum
)
UPDATE accounting_rollup SET from_at = '1970-01-01 00:00Z',
    until_at = greatest(until_at, clock_timestamp(), (SELECT max(created_at) FROM accounting_ledgerentry)) + interval '1 microsecond'
