from django.db import migrations

from accounting.sql import load_frozen

BUMP = """
CREATE TRIGGER accounting_live_{name} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_bump_configuration_version();
"""


class Migration(migrations.Migration):
    dependencies = [("accounting", "0001_initial")]

    operations = [
        migrations.RunSQL(
            load_frozen("0002_configuration_version"),
            "DROP FUNCTION accounting_bump_configuration_version() CASCADE;"
            "DROP SEQUENCE accounting_configuration_version; DROP SEQUENCE accounting_writer_id;",
        ),
        migrations.RunSQL(
            "".join(BUMP.format(name=name, table=f"accounting_{name}") for name in ("apikey", "budget", "price")),
            migrations.RunSQL.noop,  # gone with their function
        ),
        migrations.RunSQL(
            load_frozen("0002_immutable_ledger"),
            "DROP FUNCTION accounting_guard_entry() CASCADE; DROP FUNCTION accounting_refuse_change() CASCADE;"
            "DROP FUNCTION accounting_guard_charge() CASCADE;",
        ),
        migrations.RunSQL(
            load_frozen("0002_views"),
            # `accounting_spend` came with 0005, whose way back leaves it.
            "DROP VIEW IF EXISTS spend_by_day, spend_by_alias, spend_by_provider, spend_by_key, budget_status, open_holds, attempts,"
            " ledger, accounting_spend;",
        ),
        # The role stays on the way back: other databases of the server may use it.
        migrations.RunSQL(load_frozen("0002_reader_role"), migrations.RunSQL.noop),
    ]
