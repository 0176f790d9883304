-- Purpose: lock the holds to expire: all holds of a dead writer, or a living writer's holds that are past their time.
-- Locks:   the entries' rows, in id order.
-- Rows:    one an entry: id.
SELECT id FROM accounting_ledgerentry
WHERE state = 'held' AND writer_id = %(writer_id)s AND (%(writer_dead)s OR expires_at < now())
ORDER BY id FOR UPDATE
