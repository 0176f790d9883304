-- Purpose: the function behind the statement triggers that make configuration "live". Each committed change of a
--          configuration table (by the admin, a command, or plain SQL) leaves a version never seen before.
-- Locks:   the single version row, until the changing transaction commits. Readers (every hold) never wait for it.
CREATE SEQUENCE IF NOT EXISTS accounting_configuration_version;

CREATE OR REPLACE FUNCTION accounting_bump_configuration_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accounting_configurationversion (id, version)
    VALUES (1, nextval('accounting_configuration_version'))
    ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version;
    RETURN NULL;
END $$;

INSERT INTO accounting_configurationversion (id, version)
VALUES (1, nextval('accounting_configuration_version')) ON CONFLICT (id) DO NOTHING;

CREATE SEQUENCE IF NOT EXISTS accounting_writer_id;  -- one number a ledger writer; its advisory lock's key
