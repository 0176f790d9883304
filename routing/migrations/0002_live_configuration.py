from django.db import migrations

BUMP = """
CREATE TRIGGER routing_live_{name} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON routing_{name}
    FOR EACH STATEMENT EXECUTE FUNCTION accounting_bump_configuration_version();
"""
TABLES = ("provider", "modelalias", "deployment", "fallbackstep")


class Migration(migrations.Migration):
    dependencies = [("routing", "0001_initial"), ("accounting", "0002_triggers_views_and_role")]

    operations = [
        migrations.RunSQL(
            "".join(BUMP.format(name=name) for name in TABLES),
            "".join(f"DROP TRIGGER IF EXISTS routing_live_{name} ON routing_{name};" for name in TABLES),
        ),
    ]
