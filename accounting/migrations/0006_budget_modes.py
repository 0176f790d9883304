from django.db import migrations

from accounting.sql import load_frozen


class Migration(migrations.Migration):
    """A change of a budget's mode marks its open windows too."""

    dependencies = [("accounting", "0005_faster_views")]

    operations = [migrations.RunSQL(load_frozen("0006_budget_gap"), migrations.RunSQL.noop)]
