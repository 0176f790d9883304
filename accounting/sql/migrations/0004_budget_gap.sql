-- Purpose: a budget that counted by the month for a while and counts by the day again, or was disabled and is enabled
--          again, comes back to a window that lacks what was admitted meanwhile. Its change marks its open windows; the
--          first request that needs one fills it (backfill_period.sql).
-- Locks:   the budget's open windows, until the changing transaction commits.
CREATE OR REPLACE FUNCTION accounting_mark_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounting_budgetperiod SET has_gap = true
    WHERE budget_id = NEW.id AND (period_end IS NULL OR period_end > now());
    RETURN NULL;
END $$;

CREATE TRIGGER accounting_budget_gap AFTER UPDATE ON accounting_budget FOR EACH ROW
    WHEN ((NEW.scope, NEW.scope_value, NEW.api_key_id, NEW.period, NEW.time_zone, NEW.enabled)
          IS DISTINCT FROM (OLD.scope, OLD.scope_value, OLD.api_key_id, OLD.period, OLD.time_zone, OLD.enabled))
    EXECUTE FUNCTION accounting_mark_gap();
