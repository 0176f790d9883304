-- Purpose: who changed what of the configuration, field by field. Triggers on its tables write a row an object into
--          accounting_change, whoever changes it and by whichever road. The admin and the commands name themselves in the
--          session (act_as.sql); whoever does not comes by plain SQL, under the name of the database user.
--          A trigger's arguments: how an object is called, and its fields, both as SQL over a row `r`. Secrets are not
--          among the values: accounting_audited() takes them out, after the comparison.
-- Locks:   none.
CREATE OR REPLACE FUNCTION accounting_audited(field text, value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN value IS NULL OR value = 'null' THEN NULL
        WHEN field ~ '(digest|password|secret)$' THEN '"(secret)"'
        WHEN field = 'key_reference' AND value #>> '{}' !~ '^([a-z][a-z0-9_-]*:|$)' THEN '"(secret)"'  -- a pasted key
        WHEN jsonb_typeof(value) = 'object' THEN (
            SELECT coalesce(jsonb_object_agg(name, CASE
                WHEN name ~* '(key|secret|token|password|credential)' AND inner_value #>> '{}' !~ '^os\.environ/'
                THEN '"(secret)"' ELSE inner_value END), '{}')
            FROM jsonb_each(value) AS inner_values(name, inner_value))
        ELSE value END
$$;

CREATE OR REPLACE FUNCTION accounting_record_change(object text, before jsonb, after jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO accounting_change (at, actor, road, command, object, before, after)
    SELECT clock_timestamp(), left(coalesce(nullif(current_setting('gateway.actor', true), ''), session_user), 150),
           coalesce(nullif(current_setting('gateway.road', true), ''), 'sql'),
           coalesce(current_setting('gateway.command', true), ''), coalesce(object, 'what is gone'), f.before, f.after
    FROM (
        SELECT jsonb_object_agg(name, CASE WHEN is_plain THEN before -> name ELSE accounting_audited(name, before -> name) END)
                   AS before,
               jsonb_object_agg(name, CASE WHEN is_plain THEN after -> name ELSE accounting_audited(name, after -> name) END)
                   AS after
        FROM (
            SELECT name, name !~ '(digest|password|secret|key_reference)$'
                         AND jsonb_typeof(coalesce(before -> name, after -> name)) <> 'object'
                         AND jsonb_typeof(coalesce(after -> name, before -> name)) <> 'object' AS is_plain
            FROM jsonb_object_keys(coalesce(before, '{}') || coalesce(after, '{}')) AS fields(name)
            WHERE nullif(before -> name, 'null') IS DISTINCT FROM nullif(after -> name, 'null')
        ) changed
    ) f
    WHERE f.before IS NOT NULL
$$;

-- For statements, in one pass over all rows that they changed: a large configuration is written in few of them.
CREATE OR REPLACE FUNCTION accounting_audit_statement() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    named text := format('r.id, (%s) AS object, (%s) AS fields', TG_ARGV[0], TG_ARGV[1]);
BEGIN
    IF TG_OP = 'INSERT' THEN
        EXECUTE format('SELECT accounting_record_change(object, NULL, fields) FROM (SELECT %s FROM new_rows r) n ORDER BY id', named);
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE format('SELECT accounting_record_change(object, fields, NULL) FROM (SELECT %s FROM old_rows r) o ORDER BY id', named);
    ELSE
        EXECUTE format('SELECT accounting_record_change(o.object, o.fields, n.fields) FROM (SELECT %s FROM old_rows r) o'
                       ' JOIN (SELECT %s FROM new_rows r) n USING (id) ORDER BY id', named, named);
    END IF;
    RETURN NULL;
END $$;

-- For the ledger's own tables, of whose changes only an operator's are on record: the trigger's WHEN says which. Its
-- arguments: what an object is, the columns of its name, and those that are compared, each list with spaces between.
CREATE OR REPLACE FUNCTION accounting_audit_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := CASE WHEN TG_OP = 'UPDATE' THEN to_jsonb(OLD) END;
    after jsonb := to_jsonb(NEW);
    object text := (SELECT TG_ARGV[0] || ' ' || string_agg(after ->> name, ' ')
                    FROM unnest(string_to_array(TG_ARGV[1], ' ')) AS names(name));
BEGIN
    PERFORM accounting_record_change(object, jsonb_object_agg(name, before -> name), jsonb_object_agg(name, after -> name))
    FROM unnest(string_to_array(TG_ARGV[2], ' ')) AS names(name);
    RETURN NULL;
END $$;

DROP VIEW IF EXISTS audit;
CREATE VIEW audit AS
SELECT c.id AS change_id, c.at, c.actor, c.road, nullif(c.command, '') AS command, c.object, f.field,
       CASE WHEN jsonb_typeof(c.before -> f.field) = 'number' THEN trim_scale((c.before ->> f.field)::numeric)::text
            ELSE c.before ->> f.field END AS before,
       CASE WHEN jsonb_typeof(c.after -> f.field) = 'number' THEN trim_scale((c.after ->> f.field)::numeric)::text
            ELSE c.after ->> f.field END AS after
FROM accounting_change c CROSS JOIN LATERAL jsonb_object_keys(c.before) AS f(field);
