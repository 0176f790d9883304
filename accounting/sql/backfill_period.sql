-- Purpose: fill a window, so that changing a budget loses nothing. A window that is opened late (for a new budget, or
--          after a change of period or time zone) gets what its scope has already spent in it. A window with a gap
--          (budget_gap.sql) gets what it lacks. Running requests hold in the window when the budget is hard now, and hold
--          nothing when it is not. Its mode when they were admitted does not count. At an ordinary rollover no entry is
--          charged.
-- Locks:   the unsettled entries of the window (lock_entries_in_window.sql runs before) and the period's row. A new row
--          needs no lock, because other transactions cannot see it. lock_ledger.sql runs before both, so no request is
--          admitted, settled or adjusted meanwhile. Reads entries by their created_at index.
-- Rows:    none.
WITH scope AS (
    SELECT b.scope, b.api_key_id, b.scope_value, b.mode FROM accounting_budget b WHERE b.id = %(budget_id)s
), spent AS (
    SELECT e.id AS entry_id, e.state,
           CASE WHEN e.state = 'held' AND s.mode = 'hard' AND o.is_ours THEN coalesce(e.hold_usd, 0) ELSE 0 END AS held_usd,
           CASE WHEN e.state = 'held' THEN 0
                -- An entry whose worker died has no attempts, so its cost counts for the step that it was admitted for. An
                -- entry without a step is of a version that counted an alias's requests whole.
                WHEN s.scope IN ('provider', 'alias') AND (e.attempt_count = 0 OR s.scope = 'alias' AND e.step_alias = '')
                THEN CASE WHEN o.is_ours THEN coalesce(e.cost_usd, 0) ELSE 0 END
                WHEN s.scope IN ('provider', 'alias') THEN coalesce((
                    SELECT sum(a.cost_usd) FROM accounting_attempt a
                    WHERE a.entry_id = e.id AND CASE s.scope WHEN 'provider' THEN a.provider = s.scope_value
                                                ELSE accounting_is_of_alias(s.scope_value, a.alias) END), 0)
                ELSE coalesce(e.cost_usd, 0) END AS posted_usd,
           o.is_ours AS is_adjusted
    FROM accounting_ledgerentry e CROSS JOIN scope s
    CROSS JOIN LATERAL (
        SELECT CASE s.scope WHEN 'provider' THEN e.provider = s.scope_value
                            WHEN 'alias' THEN accounting_is_of_alias(s.scope_value, coalesce(nullif(e.step_alias, ''), e.alias))
                            ELSE true END AS is_ours) o
    WHERE e.created_at >= %(period_start)s
      AND (%(period_end)s::timestamptz IS NULL OR e.created_at < %(period_end)s::timestamptz)
      AND CASE s.scope
            WHEN 'global' THEN true
            WHEN 'key' THEN e.key_id = s.api_key_id
            WHEN 'alias' THEN o.is_ours OR e.step_alias <> '' AND EXISTS (
                SELECT 1 FROM accounting_attempt a WHERE a.entry_id = e.id AND accounting_is_of_alias(s.scope_value, a.alias))
            WHEN 'user' THEN e.end_user = s.scope_value
            -- A list contains each of its texts, and a text contains itself.
            WHEN 'tag' THEN e.tags -> split_part(s.scope_value, '=', 1)
                            @> to_jsonb(substr(s.scope_value, strpos(s.scope_value, '=') + 1))
            WHEN 'provider' THEN o.is_ours OR EXISTS (
                SELECT 1 FROM accounting_attempt a WHERE a.entry_id = e.id AND a.provider = s.scope_value)
          END
      AND NOT EXISTS (SELECT 1 FROM accounting_charge c WHERE c.period_id = %(period_id)s AND c.entry_id = e.id)
), charged AS (
    INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
    SELECT entry_id, %(period_id)s, NULL, held_usd, posted_usd FROM spent
    UNION ALL
    SELECT j.entry_id, %(period_id)s, j.id, 0, j.amount_usd
    FROM spent JOIN accounting_adjustment j USING (entry_id) WHERE is_adjusted
    RETURNING held_usd, posted_usd
), standing AS (
    SELECT c.id, c.held_usd AS old_held_usd, CASE WHEN s.mode = 'hard' THEN coalesce(e.hold_usd, 0) ELSE 0 END AS held_usd
    FROM accounting_ledgerentry e JOIN accounting_charge c ON c.entry_id = e.id CROSS JOIN scope s
    WHERE e.state = 'held' AND c.period_id = %(period_id)s AND c.adjustment_id IS NULL
), held_again AS (
    UPDATE accounting_charge c SET held_usd = s.held_usd FROM standing s WHERE c.id = s.id AND s.held_usd <> s.old_held_usd
)
UPDATE accounting_budgetperiod p
SET held_usd = p.held_usd + t.held_usd, posted_usd = p.posted_usd + t.posted_usd, has_gap = false,
    period = %(period)s, time_zone = %(time_zone)s
FROM (SELECT coalesce(sum(held_usd), 0) AS held_usd, coalesce(sum(posted_usd), 0) AS posted_usd
      FROM (SELECT held_usd, posted_usd FROM charged UNION ALL SELECT held_usd - old_held_usd, 0 FROM standing) changes) t
WHERE p.id = %(period_id)s
