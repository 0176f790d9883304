-- Purpose: a budget that counted by the month for a while and counts by the day again, or was disabled and is enabled
--          again, comes back to a window that lacks what was admitted meanwhile. One that was soft and is hard lacks what
--          running requests hold. Its change marks its open windows; the first request that needs one fills it
--          (backfill_period.sql).
-- Locks:   the budget's open windows, in id order as all who lock several, until the changing transaction commits.
CREATE OR REPLACE FUNCTION accounting_mark_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM accounting_budgetperiod
    WHERE budget_id = NEW.id AND (period_end IS NULL OR period_end > now()) ORDER BY id FOR NO KEY UPDATE;
    UPDATE accounting_budgetperiod SET has_gap = true
    WHERE budget_id = NEW.id AND (period_end IS NULL OR period_end > now());
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER accounting_budget_gap AFTER UPDATE ON accounting_budget FOR EACH ROW
    WHEN ((NEW.scope, NEW.scope_value, NEW.api_key_id, NEW.period, NEW.time_zone, NEW.enabled, NEW.mode)
          IS DISTINCT FROM (OLD.scope, OLD.scope_value, OLD.api_key_id, OLD.period, OLD.time_zone, OLD.enabled, OLD.mode))
    EXECUTE FUNCTION accounting_mark_gap();
