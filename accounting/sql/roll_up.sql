-- Purpose: roll up these settled entries: add what they weigh to the sums, and forget that they waited. The sums that they belong to
--          are replaced by sums with them, so of each there is one row as a rule. The stretch that was never rolled up begins at from_at
--          from now on; of what was in it before, those that an operator resolved stay out of the sums.
-- Locks:   the caller holds lock_rollup.sql's. The entries' rows are not locked: a settled entry does not change, and its adjustments
--          wait for that lock.
-- Rows:    none.
WITH fresh AS MATERIALIZED (
    SELECT s.dimension, s.name, s.value, s.bucket, sum(s.requests) AS requests, sum(s.failed) AS failed,
           sum(s.input_tokens) AS input_tokens, sum(s.output_tokens) AS output_tokens, sum(s.cost_usd) AS cost_usd,
           sum(s.unpriced) AS unpriced
    FROM accounting_entryspend s WHERE s.entry_id = ANY(%(entry_ids)s)
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
), waiting AS (
    DELETE FROM accounting_unrolledentry WHERE entry_id = ANY(%(entry_ids)s)
), moved AS (
    -- Also where it stays: a transaction whose snapshot is older is then refused to adjust (rollup.sql's FOR SHARE), as it would not see
    -- that its entry is in the sums by now.
    UPDATE accounting_rollup SET from_at = greatest(from_at, %(from_at)s)
)
INSERT INTO accounting_unrolledentry (entry_id, stays) SELECT unnest(%(staying_ids)s::uuid[]), true
