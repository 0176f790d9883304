-- Purpose: what is settled stays as it is, whoever writes. Entries go held -> posted | voided | unknown and
--          unknown -> posted | voided, once each; attempts and adjustments are never changed; nothing is deleted.
-- Rows:    raises SQLSTATE 23514 (check_violation) with a sentence that says what to do instead.
CREATE OR REPLACE FUNCTION accounting_guard_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'ledger entries are not deleted' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state IN ('posted', 'voided') THEN
        RAISE EXCEPTION 'ledger entry % is settled; correct it with an adjustment', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state = 'unknown' AND NEW.state NOT IN ('posted', 'voided') THEN
        RAISE EXCEPTION 'ledger entry % is unknown; it can only be posted or voided', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF (NEW.id, NEW.created_at, NEW.request_id, NEW.key, NEW.alias, NEW.writer_id)
       IS DISTINCT FROM (OLD.id, OLD.created_at, OLD.request_id, OLD.key, OLD.alias, OLD.writer_id) THEN
        RAISE EXCEPTION 'ledger entry %: who asked for what, and when, is not changed', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER accounting_entry_guard BEFORE UPDATE OR DELETE ON accounting_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION accounting_guard_entry();

CREATE OR REPLACE FUNCTION accounting_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are not changed or deleted', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;

CREATE TRIGGER accounting_attempt_guard BEFORE UPDATE OR DELETE ON accounting_attempt
    FOR EACH ROW EXECUTE FUNCTION accounting_refuse_change();
CREATE TRIGGER accounting_adjustment_guard BEFORE UPDATE OR DELETE ON accounting_adjustment
    FOR EACH ROW EXECUTE FUNCTION accounting_refuse_change();

CREATE OR REPLACE FUNCTION accounting_guard_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'charges are not deleted' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.adjustment_id IS NOT NULL OR (NEW.entry_id, NEW.period_id) IS DISTINCT FROM (OLD.entry_id, OLD.period_id)
       OR (SELECT state FROM accounting_ledgerentry WHERE id = OLD.entry_id) IN ('posted', 'voided') THEN
        RAISE EXCEPTION 'charge % is settled; correct its entry with an adjustment', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER accounting_charge_guard BEFORE UPDATE OR DELETE ON accounting_charge
    FOR EACH ROW EXECUTE FUNCTION accounting_guard_charge();
