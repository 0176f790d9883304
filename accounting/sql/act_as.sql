-- Purpose: name who changes the configuration in this session from now on, for the audit (audit.sql). Empty: nobody.
-- Locks:   none.
-- Rows:    one, of no use.
SELECT set_config('gateway.actor', %(actor)s, false), set_config('gateway.road', %(road)s, false),
       set_config('gateway.command', %(command)s, false)
