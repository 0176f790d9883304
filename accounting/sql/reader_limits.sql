-- Purpose: what gateway_reader, and whoever else may merely connect, must not do to the gateway: take the advisory locks
--          that the ledger waits for, fill the disk with temporary tables and large objects, use up the connections.
--          Every user has these rights by default, so they are taken from PUBLIC and given to whoever writes the ledger.
--          A role's settings hold for those who log in as that role; docs/sql-views.md has them for other users.
-- Locks:   none. Each measure that this user may not take (some managed services) is named in a notice, and left out.
DO $$
DECLARE
    advisory_locks text;
    large_objects text;
    writers text;
    measure text;
BEGIN
    SELECT string_agg(oid::regprocedure::text, ', ') INTO advisory_locks FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_';
    SELECT string_agg(oid::regprocedure::text, ', ') INTO large_objects FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^(lo_.*|loread|lowrite)$';
    SELECT string_agg(quote_ident(rolname), ', ') INTO writers FROM pg_roles
    WHERE rolname = current_user
       OR (NOT rolsuper AND rolname !~ '^pg_' AND has_table_privilege(oid, 'accounting_ledgerentry', 'INSERT'));
    FOREACH measure IN ARRAY ARRAY[
        format('GRANT EXECUTE ON FUNCTION %s TO %s', advisory_locks, writers)
        || format('; REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', advisory_locks),
        format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', large_objects),
        format('GRANT TEMPORARY ON DATABASE %I TO %s', current_database(), writers)
        || format('; REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()),
        'ALTER ROLE gateway_reader CONNECTION LIMIT 10',
        'ALTER ROLE gateway_reader SET default_transaction_read_only = on',
        'ALTER ROLE gateway_reader SET statement_timeout = ''5min''',
        'ALTER ROLE gateway_reader SET idle_in_transaction_session_timeout = ''1min'''
    ] LOOP
        BEGIN
            EXECUTE measure;
        EXCEPTION
            WHEN insufficient_privilege OR undefined_object  -- not ours to do, or no such role here
              OR internal_error THEN  -- another database of the same server changes the role at this moment
                RAISE NOTICE 'gateway_reader: left out, see docs/sql-views.md: %… (%)', left(measure, 60), SQLERRM;
        END;
    END LOOP;
END $$;
