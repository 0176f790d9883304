from django.db import migrations, models

#: As in accounting's 0013: how objects are called, and their fields, as SQL over a row `r`.
PROVIDER = "(SELECT p.name FROM routing_provider p WHERE p.id = r.provider_id)"
ALIAS = "'alias ' || (SELECT a.name FROM routing_modelalias a WHERE a.id = r.alias_id)"
AUDITED = {
    "routing_provider": ("'provider ' || r.name", "to_jsonb(r) - 'id'"),
    "routing_providerkey": (
        f"'provider ' || {PROVIDER} || ', further key ' || r.id", "to_jsonb(r) - '{id,provider_id}'::text[]"
    ),
    "routing_modelalias": (
        "'alias ' || r.name", f"to_jsonb(r) - '{{id,provider_id}}'::text[] || jsonb_build_object('provider', {PROVIDER})"
    ),
    "routing_deployment": (
        f"{ALIAS} || ', further deployment ' || r.position",
        f"to_jsonb(r) - '{{id,alias_id,provider_id}}'::text[] || jsonb_build_object('provider', {PROVIDER})",
    ),
    "routing_fallbackstep": (
        f"{ALIAS} || ', fallback ' || r.position || CASE r.kind WHEN 'general' THEN '' ELSE ' (' || r.kind || ')' END",
        "to_jsonb(r) - '{id,alias_id,target_id}'::text[]"
        " || jsonb_build_object('target', (SELECT a.name FROM routing_modelalias a WHERE a.id = r.target_id))",
    ),
}  # fmt: skip
TRIGGERS = """
CREATE TRIGGER routing_audit_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_audit_statement({arguments});
CREATE TRIGGER routing_audit_update AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_audit_statement({arguments});
CREATE TRIGGER routing_audit_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_audit_statement({arguments});
"""
NO_TRIGGERS = "".join(
    f"DROP TRIGGER IF EXISTS routing_audit_{event} ON {table};"
    for table in AUDITED
    for event in ("insert", "update", "delete")
)
BREAKER = """
CREATE TRIGGER routing_audit_close AFTER UPDATE ON routing_breakerstate FOR EACH ROW
    WHEN (NEW.reset_at IS DISTINCT FROM OLD.reset_at)
    EXECUTE FUNCTION accounting_audit_row('breaker', 'provider model', 'state reset_by');
"""


def triggers() -> str:
    quoted = {
        table: ", ".join("'" + text.replace("'", "''") + "'" for text in texts) for table, texts in AUDITED.items()
    }
    return "".join(TRIGGERS.format(table=table, arguments=arguments) for table, arguments in quoted.items())


class Migration(migrations.Migration):
    """Changes of the routing are on record, and sign-ins are counted."""

    dependencies = [("routing", "0009_optional_output_cap"), ("accounting", "0013_operators")]

    operations = [
        migrations.RunSQL(
            triggers() + BREAKER, NO_TRIGGERS + "DROP TRIGGER IF EXISTS routing_audit_close ON routing_breakerstate;"
        ),
        migrations.CreateModel(
            "SignInTries",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_name", models.CharField(blank=True, max_length=150)),
                ("address", models.CharField(blank=True, max_length=45)),
                ("tries", models.PositiveIntegerField()),
                ("since", models.DateTimeField()),
                ("signed_in_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "sign-in tries",
                "verbose_name_plural": "sign-in tries",
                "constraints": [
                    models.UniqueConstraint(fields=("user_name", "address"), name="signintries_one_a_pair")
                ],
            },
        ),
    ]
