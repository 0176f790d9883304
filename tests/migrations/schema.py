"""What a database is made of, as ordered lines of text, read from Postgres's catalogue.

Columns of a table are ordered by name: a column that a migration adds comes last in its table, wherever the model has
it, and no statement of ours depends on the place. The order of a view's columns counts: ``SELECT *`` shows it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from django.db.backends.utils import CursorWrapper

# Each query gives lines. `n` is the schema, which holds all that is ours.
QUERIES = {
    "columns": """
        SELECT format('table %s: column %s %s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                      CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
                      CASE a.attidentity WHEN 'd' THEN ' IDENTITY BY DEFAULT' WHEN 'a' THEN ' IDENTITY ALWAYS'
                      ELSE '' END,
                      coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), ''))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN n ON n.oid = c.relnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY c.relname, a.attname
    """,
    # 'n' is NOT NULL, which the columns' lines say.
    "constraints": """
        SELECT format('table %s: constraint %s %s', c.relname, k.conname, pg_get_constraintdef(k.oid))
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN n ON n.oid = c.relnamespace
        WHERE k.contype <> 'n' ORDER BY c.relname, k.conname
    """,
    "indexes": """
        SELECT format('index %s', pg_get_indexdef(c.oid)) FROM pg_class c JOIN n ON n.oid = c.relnamespace
        WHERE c.relkind = 'i' ORDER BY c.relname
    """,
    "triggers": """
        SELECT format('trigger %s%s', pg_get_triggerdef(t.oid),
                      CASE t.tgenabled WHEN 'D' THEN ' (disabled)' ELSE '' END)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal ORDER BY c.relname, t.tgname
    """,
    "functions": """
        SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_proc p JOIN n ON n.oid = p.pronamespace
        WHERE p.prokind IN ('f', 'p') ORDER BY p.oid::regprocedure::text
    """,
    "view columns": """
        SELECT format('view %s: column %s %s %s', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum),
                      a.attname, format_type(a.atttypid, a.atttypmod))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND a.attnum > 0 ORDER BY c.relname, a.attnum
    """,
    "views": """
        SELECT format('view %s: %s', c.relname, pg_get_viewdef(c.oid, true))
        FROM pg_class c JOIN n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') ORDER BY c.relname
    """,
    "sequences": """
        SELECT format('sequence %s %s from %s by %s between %s and %s', c.relname, format_type(s.seqtypid, NULL),
                      s.seqstart, s.seqincrement, s.seqmin, s.seqmax)
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN n ON n.oid = c.relnamespace ORDER BY c.relname
    """,
    # Rights of others than the owner, who has them all.
    "grants": """
        SELECT format('grant %s on %s %s to %s', g.privilege_type, g.kind, g.name, coalesce(r.rolname, 'public'))
        FROM (
            SELECT 'relation' AS kind, c.relname::text AS name, c.relowner AS owner, (aclexplode(c.relacl)).*
            FROM pg_class c JOIN n ON n.oid = c.relnamespace
            UNION ALL
            SELECT 'column', c.relname || '.' || a.attname, c.relowner, (aclexplode(a.attacl)).*
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN n ON n.oid = c.relnamespace
            UNION ALL
            SELECT 'function', p.oid::regprocedure::text, p.proowner, (aclexplode(p.proacl)).*
            FROM pg_proc p JOIN n ON n.oid = p.pronamespace
            UNION ALL
            SELECT 'schema', s.nspname, s.nspowner, (aclexplode(s.nspacl)).* FROM pg_namespace s JOIN n ON n.oid = s.oid
        ) g LEFT JOIN pg_roles r ON r.oid = g.grantee
        WHERE g.grantee <> g.owner ORDER BY 1
    """,
}


def read_schema(cursor: CursorWrapper) -> list[str]:
    lines: list[str] = []
    for query in QUERIES.values():
        cursor.execute(f"WITH n AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) {query}")
        for (text,) in cursor.fetchall():
            lines += text.splitlines()
    return lines


def difference(expected: Sequence[str], found: Sequence[str], *, of: str, by: str) -> str:
    """What ``found`` lacks (-) and has besides (+), empty when both are the same."""
    return "\n".join(difflib.unified_diff(expected, found, by, of, lineterm="", n=2))
