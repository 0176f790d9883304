-- Purpose: give a new session the settings that the gateway relies on, whatever the defaults of its role and its database
--          are. psycopg reads times in the ISO style alone; a limit on statements would end a migration, and a limit on
--          idle sessions the ledger's. What the server's own configuration says of read-only transactions stands: there
--          managed services protect a full disk. The search path is the role's, unless the URL names a schema or the
--          path leads to no schema.
-- Locks:   none.
-- Rows:    one, without meaning.
SELECT set_config('DateStyle', 'ISO, MDY', false),
       set_config('IntervalStyle', 'postgres', false),
       set_config('TimeZone', 'UTC', false),
       set_config('standard_conforming_strings', 'on', false),
       set_config('bytea_output', 'hex', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '0', false),
       set_config('idle_in_transaction_session_timeout', '0', false),
       set_config('idle_session_timeout', '0', false),
       CASE  -- Postgres 17 has it
           WHEN current_setting('transaction_timeout', true) IS NOT NULL
           THEN set_config('transaction_timeout', '0', false)
       END,
       CASE
           WHEN current_setting('default_transaction_read_only') = 'on'
                AND (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only')
                    IN ('database', 'user', 'database user')
           THEN set_config('default_transaction_read_only', 'off', false)
       END,
       CASE
           WHEN %(schema)s <> '' THEN set_config('search_path', quote_ident(%(schema)s), false)
           WHEN current_schema() IS NULL THEN set_config('search_path', 'public', false)
       END
