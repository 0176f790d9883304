-- Purpose: sums of spend that are not what the entries that are rolled up come to, of one dimension or of all, in the buckets of
--          [first_at, last_at) or, where that is NULL, in all.
-- Locks:   none. One statement sees one moment, so it may run while entries are rolled up.
-- Rows:    one a sum: dimension, name, value, bucket, expected_usd, found_usd, expected_requests, found_requests.
SELECT dimension, name, value, bucket, sum(cost_usd) FILTER (WHERE sign = 1) AS expected_usd,
       sum(cost_usd) FILTER (WHERE sign = -1) AS found_usd, coalesce(sum(requests) FILTER (WHERE sign = 1), 0)::bigint AS expected_requests,
       coalesce(sum(requests) FILTER (WHERE sign = -1), 0)::bigint AS found_requests
FROM (
    SELECT 1 AS sign, s.dimension, s.name, s.value, s.bucket, s.requests, s.failed, s.input_tokens, s.output_tokens, s.cost_usd, s.unpriced
    FROM accounting_entryspend s CROSS JOIN accounting_rollup r
    WHERE s.state IN ('posted', 'voided') AND (s.created_at < r.from_at OR s.created_at >= r.until_at)
      AND NOT EXISTS (SELECT FROM accounting_unrolledentry u WHERE u.entry_id = s.entry_id)
      AND (%(first_at)s::timestamptz IS NULL OR s.created_at >= %(first_at)s::timestamptz)
      AND (%(last_at)s::timestamptz IS NULL OR s.created_at < %(last_at)s::timestamptz)
    UNION ALL
    SELECT -1, dimension, name, value, bucket, requests, failed, input_tokens, output_tokens, cost_usd, unpriced FROM accounting_spendsum
    WHERE (%(first_at)s::timestamptz IS NULL OR bucket >= %(first_at)s::timestamptz)
      AND (%(last_at)s::timestamptz IS NULL OR bucket < %(last_at)s::timestamptz)
) parts
WHERE %(dimension)s::text IS NULL OR dimension = %(dimension)s::text
GROUP BY dimension, name, value, bucket
HAVING sum(sign * requests) <> 0 OR sum(sign * failed) <> 0 OR sum(sign * input_tokens) <> 0 OR sum(sign * output_tokens) <> 0
    OR sum(sign * cost_usd) <> 0 OR sum(sign * unpriced) <> 0
ORDER BY bucket, dimension, name, value
