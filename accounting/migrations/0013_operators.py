from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import Q

import accounting.models
from accounting.postgres import locks
from accounting.sql import load_frozen

# Requests are served meanwhile, and lock tables of the ledger in another order than this: one of us would be ended for a
# deadlock, and its request refused. So their transactions, of milliseconds, wait until this is over (lock_ledger.sql).
LOCK = f"SELECT pg_advisory_xact_lock({locks.LEDGER}, 0)"
# A row before these checks may break them (a price was once allowed to be negative), and a ledger is large: so they count
# for what is written from now on, and nobody reads the rest.
CHECKS = (
    ("ledgerentry", Q(hold_usd__gte=0), "entry_hold_not_negative"),
    ("ledgerentry", Q(cost_usd__gte=0), "entry_cost_not_negative"),
    ("attempt", Q(cost_usd__gte=0), "attempt_cost_not_negative"),
    ("attempt", Q(at_most_usd__gte=0), "attempt_at_most_not_negative"),
    ("charge", Q(posted_usd__gte=0) | Q(adjustment__isnull=False), "charge_posted_not_negative"),
)

#: How objects are called, and their fields, as SQL over a row `r`.
PRICE = "'price ' || {0}.provider || ' ' || {0}.model || to_char({0}.effective_from AT TIME ZONE 'UTC', '\" from \"YYYY-MM-DD HH24:MI')"
USER = "'user ' || (SELECT username FROM auth_user u WHERE u.id = r.user_id)"
PERMISSION = (
    "jsonb_build_object('permission', (SELECT t.app_label || '.' || p.codename FROM auth_permission p"
    " JOIN django_content_type t ON t.id = p.content_type_id WHERE p.id = r.permission_id))"
)
AUDITED = {
    "accounting_apikey": ("'key ' || r.name", "to_jsonb(r) - '{id,created_at}'::text[]"),
    "accounting_budget": (
        "'budget ' || r.name",
        "to_jsonb(r) - '{id,created_at,api_key_id}'::text[] || jsonb_build_object('api_key',"
        " (SELECT k.name FROM accounting_apikey k WHERE k.id = r.api_key_id))",
    ),
    "accounting_price": (PRICE.format("r"), "to_jsonb(r) - '{id,created_at}'::text[]"),
    "accounting_pricerate": (
        f"(SELECT {PRICE.format('p')} FROM accounting_price p WHERE p.id = r.price_id) || ', rate ' || concat_ws(' ',"
        " r.meter, nullif(r.qualifier, ''), r.tier, 'above ' || nullif(r.above_input_tokens, 0))",
        "to_jsonb(r) - '{id,price_id}'::text[]",
    ),
    "auth_user": ("'user ' || r.username", "to_jsonb(r) - '{id,last_login,date_joined}'::text[]"),
    "auth_group": ("'group ' || r.name", "to_jsonb(r) - 'id'"),
    "auth_user_groups": (
        USER, "jsonb_build_object('group', (SELECT g.name FROM auth_group g WHERE g.id = r.group_id))"
    ),
    "auth_user_user_permissions": (USER, PERMISSION),
    "auth_group_permissions": (
        "'group ' || (SELECT g.name FROM auth_group g WHERE g.id = r.group_id)", PERMISSION
    ),
}  # fmt: skip
TRIGGERS = """
CREATE TRIGGER accounting_audit_insert AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_audit_statement({arguments});
CREATE TRIGGER accounting_audit_update AFTER UPDATE ON {table} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_audit_statement({arguments});
CREATE TRIGGER accounting_audit_delete AFTER DELETE ON {table} REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_audit_statement({arguments});
"""
BOOKS = """
CREATE TRIGGER accounting_audit_adjustment AFTER INSERT ON accounting_adjustment FOR EACH ROW
    EXECUTE FUNCTION accounting_audit_row('adjustment of entry', 'entry_id', 'amount_usd reason author');
CREATE TRIGGER accounting_audit_resolution AFTER UPDATE ON accounting_ledgerentry FOR EACH ROW
    WHEN (OLD.state = 'unknown' AND NEW.resolved_by <> '')
    EXECUTE FUNCTION accounting_audit_row('entry', 'request_id', 'state cost_usd resolved_by resolution');
CREATE TRIGGER accounting_audit_guard BEFORE UPDATE OR DELETE ON accounting_change
    FOR EACH ROW EXECUTE FUNCTION accounting_refuse_change();
"""


def triggers() -> str:
    quoted = {
        table: ", ".join("'" + text.replace("'", "''") + "'" for text in texts) for table, texts in AUDITED.items()
    }
    return "".join(TRIGGERS.format(table=table, arguments=arguments) for table, arguments in quoted.items())


class Migration(migrations.Migration):
    """What operators do is bounded and on record."""

    dependencies = [
        ("accounting", "0012_refusals_and_windows"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.RunSQL(LOCK, migrations.RunSQL.noop),
        migrations.AddField(
            "adjustment", "form_token", models.UUIDField(editable=False, null=True, unique=True)
        ),
        *(
            AddConstraintNotValid(model_name=model, constraint=models.CheckConstraint(condition=condition, name=name))
            for model, condition, name in CHECKS
        ),
        migrations.CreateModel(
            "Change",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("actor", models.CharField(max_length=150)),
                ("road", models.CharField(max_length=16)),
                ("command", models.CharField(blank=True, max_length=64)),
                ("object", models.TextField()),
                ("before", models.JSONField(decoder=accounting.models.ExactNumbers)),
                ("after", models.JSONField(decoder=accounting.models.ExactNumbers)),
            ],
            options={
                "verbose_name_plural": "audit",
                "ordering": ("-pk",),
                "indexes": [
                    models.Index(fields=["actor"], name="change_actor"),
                    models.Index(fields=["object"], name="change_object"),
                ],
            },
        ),
        migrations.RunSQL(
            load_frozen("0013_bounded_adjustments"), "DROP FUNCTION accounting_bound_adjustment() CASCADE;"
        ),
        migrations.RunSQL(load_frozen("0013_last_superuser"), "DROP FUNCTION accounting_keep_a_superuser() CASCADE;"),
        migrations.RunSQL(
            load_frozen("0013_audit"),
            "DROP VIEW audit; DROP FUNCTION accounting_audit_statement() CASCADE;"
            "DROP FUNCTION accounting_audit_row() CASCADE; DROP FUNCTION accounting_record_change(text, jsonb, jsonb);"
            "DROP FUNCTION accounting_audited(text, jsonb);",
        ),
        migrations.RunSQL(triggers() + BOOKS, migrations.RunSQL.noop),  # gone with their functions and their table
        migrations.RunSQL(load_frozen("0013_reader_role"), migrations.RunSQL.noop),
    ]
