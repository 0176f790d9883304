-- Purpose: a window opened late (a new budget, or one whose period, time zone or scope was changed) begins with what
--          its scope has already spent in it, so that changing a budget loses nothing. At an ordinary
--          rollover the window is empty and this touches no row.
-- Locks:   the running entries in scope (lock_entries_in_window.sql ran before); the new period's row is invisible to
--          others until commit. Reads entries by their created_at index.
--          Not promised: requests admitted at the very moment of the change are in the old windows only.
-- Rows:    none.
WITH scope AS (
    SELECT b.scope, b.api_key_id, b.scope_value, b.mode FROM accounting_budget b WHERE b.id = %(budget_id)s
), spent AS (
    SELECT e.id AS entry_id, e.state,
           CASE WHEN e.state = 'held' AND s.mode = 'hard' AND (s.scope <> 'provider' OR e.provider = s.scope_value)
                THEN coalesce(e.hold_usd, 0) ELSE 0 END AS held_usd,
           CASE WHEN e.state = 'held' THEN 0
                WHEN s.scope = 'provider' THEN coalesce((
                    SELECT sum(a.cost_usd) FROM accounting_attempt a
                    WHERE a.entry_id = e.id AND a.provider = s.scope_value), 0)
                ELSE coalesce(e.cost_usd, 0) END
           + CASE WHEN s.scope = 'provider' AND e.provider <> s.scope_value THEN 0
                  ELSE coalesce((SELECT sum(j.amount_usd) FROM accounting_adjustment j WHERE j.entry_id = e.id), 0)
             END AS posted_usd
    FROM accounting_ledgerentry e CROSS JOIN scope s
    WHERE e.created_at >= %(period_start)s
      AND (%(period_end)s::timestamptz IS NULL OR e.created_at < %(period_end)s::timestamptz)
      AND CASE s.scope
            WHEN 'global' THEN true
            WHEN 'key' THEN e.key_id = s.api_key_id
            WHEN 'alias' THEN e.alias = s.scope_value
            WHEN 'user' THEN e.end_user = s.scope_value
            WHEN 'tag' THEN e.tags ->> split_part(s.scope_value, '=', 1)
                            = substr(s.scope_value, strpos(s.scope_value, '=') + 1)
            WHEN 'provider' THEN e.provider = s.scope_value OR EXISTS (
                SELECT 1 FROM accounting_attempt a WHERE a.entry_id = e.id AND a.provider = s.scope_value)
          END
), charged AS (
    INSERT INTO accounting_charge (entry_id, period_id, adjustment_id, held_usd, posted_usd)
    SELECT entry_id, %(period_id)s, NULL, held_usd, posted_usd FROM spent
    RETURNING held_usd, posted_usd
)
UPDATE accounting_budgetperiod p
SET held_usd = p.held_usd + t.held_usd, posted_usd = p.posted_usd + t.posted_usd
FROM (SELECT sum(held_usd) AS held_usd, sum(posted_usd) AS posted_usd FROM charged) t
WHERE p.id = %(period_id)s AND t.held_usd IS NOT NULL
