-- Purpose: somebody may always do everything in the admin: the last active superuser is neither demoted, nor deactivated,
--          nor deleted, whoever tries.
-- Locks:   an advisory lock (accounting.postgres.locks.SUPERUSERS) until the end of the transaction, so that two superusers
--          who demote each other take turns, and the second sees what the first did. Not the users' rows: each transaction
--          holds one of them already, and would wait for the other's.
-- Rows:    raises SQLSTATE 23514 (check_violation).
CREATE OR REPLACE FUNCTION accounting_keep_a_superuser() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7235, 0);
    IF NOT EXISTS (SELECT 1 FROM auth_user WHERE is_superuser AND is_active) THEN
        RAISE EXCEPTION '% is the last active superuser, and somebody must be one.', OLD.username
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER accounting_last_superuser_changed AFTER UPDATE ON auth_user FOR EACH ROW
    WHEN (OLD.is_superuser AND OLD.is_active AND NOT (NEW.is_superuser AND NEW.is_active))
    EXECUTE FUNCTION accounting_keep_a_superuser();
CREATE OR REPLACE TRIGGER accounting_last_superuser_deleted AFTER DELETE ON auth_user FOR EACH ROW
    WHEN (OLD.is_superuser AND OLD.is_active) EXECUTE FUNCTION accounting_keep_a_superuser();
