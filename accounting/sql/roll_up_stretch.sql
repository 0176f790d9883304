-- Purpose: roll up the next settled entries of the stretch that was never rolled up, in the order of their admission, and shorten it
--          by them. Entries that were settled meanwhile wait already, and roll_up.sql takes them; those that an operator resolved stay.
-- Locks:   the caller holds lock_rollup.sql's. Entries are read by their created_at index.
-- Rows:    one: how many entries were rolled up.
WITH stretch AS (
    SELECT from_at, until_at, coalesce((
        -- Entries of one transaction have the same time, and go together.
        SELECT e.created_at FROM accounting_ledgerentry e, (
            SELECT created_at FROM accounting_ledgerentry
            WHERE created_at >= (SELECT from_at FROM accounting_rollup) ORDER BY created_at OFFSET %(most)s - 1 LIMIT 1) last
        WHERE e.created_at > last.created_at ORDER BY e.created_at LIMIT 1), until_at) AS next_at
    FROM accounting_rollup
), seen AS MATERIALIZED (
    SELECT e.id AS entry_id, e.resolved_by <> '' AS stays FROM stretch t JOIN accounting_ledgerentry e
        ON e.created_at >= t.from_at AND e.created_at < least(t.next_at, t.until_at)
    WHERE e.state IN ('posted', 'voided') AND NOT EXISTS (SELECT FROM accounting_unrolledentry u WHERE u.entry_id = e.id)
), staying AS (
    INSERT INTO accounting_unrolledentry (entry_id, stays) SELECT entry_id, true FROM seen WHERE stays
), taken AS (
    SELECT entry_id FROM seen WHERE NOT stays
), fresh AS MATERIALIZED (
    SELECT s.dimension, s.name, s.value, s.bucket, sum(s.requests) AS requests, sum(s.failed) AS failed,
           sum(s.input_tokens) AS input_tokens, sum(s.output_tokens) AS output_tokens, sum(s.cost_usd) AS cost_usd,
           sum(s.unpriced) AS unpriced
    FROM taken t JOIN accounting_entryspend s ON s.entry_id = t.entry_id
    GROUP BY s.dimension, s.name, s.value, s.bucket
), old AS (
    DELETE FROM accounting_spendsum s USING fresh f
    WHERE s.dimension = f.dimension AND s.bucket = f.bucket AND s.name = f.name AND md5(s.value) = md5(f.value) AND s.value = f.value
    RETURNING s.dimension, s.name, s.value, s.bucket, s.requests, s.failed, s.input_tokens, s.output_tokens, s.cost_usd, s.unpriced
), written AS (
    INSERT INTO accounting_spendsum
        (dimension, name, value, bucket, requests, failed, input_tokens, output_tokens, cost_usd, unpriced)
    SELECT dimension, name, value, bucket, sum(requests), sum(failed), sum(input_tokens), sum(output_tokens), sum(cost_usd), sum(unpriced)
    FROM (SELECT * FROM fresh UNION ALL SELECT * FROM old) s GROUP BY dimension, name, value, bucket
), moved AS (
    UPDATE accounting_rollup r SET from_at = least(t.next_at, t.until_at) FROM stretch t
)
SELECT count(*) FROM taken
