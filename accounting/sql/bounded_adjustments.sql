-- Purpose: an adjustment gives back at most what its entry costs, earlier adjustments included. accounting.ledger.corrections
--          refuses it first, in more words; this holds for whoever else writes.
-- Locks:   the entry's row, before its adjustments are added up, so that two adjustments of one entry take turns.
-- Rows:    raises SQLSTATE 23514 (check_violation).
CREATE OR REPLACE FUNCTION accounting_bound_adjustment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total numeric;
BEGIN
    SELECT coalesce(cost_usd, 0) INTO total FROM accounting_ledgerentry WHERE id = NEW.entry_id FOR UPDATE;
    total := total + (SELECT coalesce(sum(amount_usd), 0) FROM accounting_adjustment WHERE entry_id = NEW.entry_id);
    IF NEW.amount_usd < 0 AND total + NEW.amount_usd < 0 THEN
        RAISE EXCEPTION 'ledger entry % costs % USD, adjustments included; % more would take it below zero',
            NEW.entry_id, trim_scale(total), trim_scale(NEW.amount_usd) USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER accounting_adjustment_bounds BEFORE INSERT ON accounting_adjustment
    FOR EACH ROW EXECUTE FUNCTION accounting_bound_adjustment();
