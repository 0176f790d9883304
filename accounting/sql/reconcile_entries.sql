-- Purpose: entries that contradict themselves, of those admitted in [first_at, last_at) or, where that is NULL, of all. A charge differs from the entry's cost or hold, a charge to a budget that
--          counts everything is missing, or the entry's cost differs from its attempts'.
-- Locks:   none; runs in a REPEATABLE READ transaction, so that all statements of reconcile see the same moment.
-- Rows:    one a contradiction: entry_id, request_id, created_at, what, expected_usd, found_usd.
WITH entries AS NOT MATERIALIZED (
    SELECT * FROM accounting_ledgerentry
    WHERE (%(first_at)s::timestamptz IS NULL OR created_at >= %(first_at)s::timestamptz)
      AND (%(last_at)s::timestamptz IS NULL OR created_at < %(last_at)s::timestamptz)
), adjusted AS (
    SELECT a.entry_id, sum(a.amount_usd) AS amount_usd
    FROM accounting_adjustment a JOIN entries e ON e.id = a.entry_id GROUP BY a.entry_id
), charged_adjustments AS (
    SELECT c.entry_id, c.period_id, sum(c.posted_usd) AS posted_usd
    FROM accounting_adjustment a JOIN entries e ON e.id = a.entry_id
    JOIN accounting_charge c ON c.entry_id = e.id AND c.adjustment_id = a.id GROUP BY c.entry_id, c.period_id
), charged AS (
    SELECT e.id, e.request_id, e.created_at, e.state, b.name AS budget, c.held_usd, p.has_gap, p.period_end,
           coalesce(e.hold_usd, 0) AS hold_usd, c.posted_usd + coalesce(r.posted_usd, 0) AS posted_usd,
           b.scope IN ('provider', 'alias') AS is_of_steps,
           -- An entry without a step is of a version that counted an alias's requests whole.
           CASE WHEN b.scope NOT IN ('provider', 'alias') OR b.scope = 'alias' AND e.step_alias = ''
                THEN coalesce(e.cost_usd, 0)
                -- Nobody knows which steps a lost worker called, so the entry weighs in the budgets that it held in.
                WHEN e.state = 'unknown' THEN c.posted_usd
                -- An entry whose worker died has no attempts, so its cost counts for the step that it was admitted for.
                WHEN e.attempt_count = 0 THEN CASE WHEN o.is_ours THEN coalesce(e.cost_usd, 0) ELSE 0 END
                ELSE coalesce((SELECT sum(a.cost_usd) FROM accounting_attempt a
                               WHERE a.entry_id = e.id AND CASE b.scope WHEN 'provider' THEN a.provider = b.scope_value
                                                           ELSE accounting_is_of_alias(b.scope_value, a.alias) END), 0)
           END + CASE WHEN o.is_ours THEN coalesce(j.amount_usd, 0) ELSE 0 END AS should_be_usd
    FROM accounting_charge c
    JOIN entries e ON e.id = c.entry_id
    JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id
    LEFT JOIN adjusted j ON j.entry_id = c.entry_id
    LEFT JOIN charged_adjustments r ON r.entry_id = c.entry_id AND r.period_id = c.period_id
    CROSS JOIN LATERAL (
        SELECT CASE b.scope WHEN 'provider' THEN e.provider = b.scope_value
                            WHEN 'alias' THEN accounting_is_of_alias(b.scope_value, coalesce(nullif(e.step_alias, ''), e.alias))
                            ELSE true END AS is_ours) o
    WHERE c.adjustment_id IS NULL
)
SELECT id AS entry_id, request_id, created_at, 'a settled entry still holds' AS what, 0::numeric AS expected_usd, held_usd AS found_usd
FROM charged WHERE state <> 'held' AND held_usd <> 0
UNION ALL
-- A budget holds the whole hold, and that of an alias or a provider what its own steps need. A soft or alert budget, or
-- that of another step, holds nothing. A budget whose mode has
-- changed may hold what a top-up added, until its window is filled, or forever in a window that ended before the change.
SELECT id, request_id, created_at, 'it holds otherwise in the budget ''' || budget || '''', hold_usd, held_usd
FROM charged WHERE state = 'held'
  AND (held_usd > hold_usd OR NOT is_of_steps AND held_usd NOT IN (0, hold_usd) AND NOT has_gap AND coalesce(period_end, 'infinity') > now())
UNION ALL
SELECT id, request_id, created_at, 'a running entry is charged to the budget ''' || budget || '''', 0, posted_usd
FROM charged WHERE state = 'held' AND posted_usd <> 0
UNION ALL
SELECT id, request_id, created_at, 'its charge to the budget ''' || budget || ''' is not its cost', should_be_usd, posted_usd
FROM charged WHERE state <> 'held' AND posted_usd <> should_be_usd
UNION ALL
-- A window with a gap (budget_gap.sql) is filled by the first request that needs it. A window of another kind than its
-- budget counts in now gets a gap when the budget comes back to it.
SELECT e.id, e.request_id, e.created_at, 'it is not charged to the budget ''' || b.name || '''', coalesce(e.cost_usd, e.hold_usd), 0
FROM accounting_budgetperiod p
JOIN accounting_budget b ON b.id = p.budget_id AND b.scope = 'global' AND b.enabled
JOIN entries e ON e.created_at >= p.period_start AND e.created_at < coalesce(p.period_end, 'infinity')
WHERE NOT p.has_gap AND p.period IN ('', b.period) AND p.time_zone IN ('', b.time_zone) AND coalesce(e.cost_usd, e.hold_usd) <> 0
  AND NOT EXISTS (SELECT 1 FROM accounting_charge c WHERE c.entry_id = e.id AND c.period_id = p.id)
UNION ALL
SELECT e.id, e.request_id, e.created_at, 'its cost is not that of its attempts', coalesce(a.cost_usd, 0), e.cost_usd
FROM entries e
LEFT JOIN LATERAL (
    -- Unpriced is not free. When an attempt that consumed something has no price, the entry has no cost either.
    SELECT sum(t.cost_usd) AS cost_usd,
           bool_or(t.cost_usd IS NULL AND (t.input_tokens + t.output_tokens > 0 OR t.quantities <> '{}')) AS unpriced
    FROM accounting_attempt t WHERE t.entry_id = e.id
) a ON true
WHERE e.state IN ('posted', 'voided') AND e.resolved_by = ''
  AND e.cost_usd IS DISTINCT FROM CASE WHEN a.unpriced THEN NULL ELSE coalesce(a.cost_usd, 0) END
ORDER BY created_at, entry_id
