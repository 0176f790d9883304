-- Purpose: the role gateway_reader: may read the reporting views and nothing else. Grant it to whoever writes reports:
--          GRANT gateway_reader TO alice.
-- Locks:   none. A database user that may not create roles (some managed services) is told so, and goes on without.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'gateway_reader') THEN
        CREATE ROLE gateway_reader NOLOGIN;
    END IF;
    GRANT USAGE ON SCHEMA public TO gateway_reader;
    GRANT SELECT ON ledger, attempts, spend_by_hour, spend_by_day, spend_by_alias, spend_by_provider, spend_by_key, spend_by_tag,
                    budget_status, open_holds, refusals, audit TO gateway_reader;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of the same server made it meanwhile
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'gateway_reader: this user may not create roles; see docs/sql-views.md';
END $$;
