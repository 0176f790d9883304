-- Purpose: where the next so many entries end, in the order of their admission. Entries of one transaction have the same time.
-- Locks:   none. Reads the created_at index.
-- Rows:    at most one: the time of the first entry after them.
SELECT created_at FROM accounting_ledgerentry
WHERE created_at > (SELECT created_at FROM accounting_ledgerentry WHERE created_at >= %(first_at)s ORDER BY created_at OFFSET %(most)s - 1 LIMIT 1)
ORDER BY created_at LIMIT 1
