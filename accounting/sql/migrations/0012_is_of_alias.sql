-- Purpose: whether what an alias's budget names (an alias, or a wildcard such as openai/*) stands for that alias. As
--          accounting/wildcards.py.
-- Locks:   none.
CREATE OR REPLACE FUNCTION accounting_is_of_alias(scope_value text, alias text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT alias = scope_value OR strpos(scope_value, '*') > 0 AND alias LIKE replace(
        replace(replace(replace(scope_value, '\', '\\'), '%', '\%'), '_', '\_'), '*', '_%')
$$;
