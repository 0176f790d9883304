from django.db import migrations

from accounting.sql import load_frozen


class Migration(migrations.Migration):
    """Views that add up entries and adjustments side by side, and the role's rights on them."""

    dependencies = [("accounting", "0004_budget_gaps")]

    operations = [
        migrations.RunSQL(load_frozen("0005_views"), migrations.RunSQL.noop),
        migrations.RunSQL(load_frozen("0005_reader_role"), migrations.RunSQL.noop),
    ]
