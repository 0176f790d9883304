from django.db import migrations

from accounting import sql


class Migration(migrations.Migration):
    """A change of a budget's mode marks its open windows too."""

    dependencies = [("accounting", "0005_faster_views")]

    operations = [migrations.RunSQL(sql.load("budget_gap"), migrations.RunSQL.noop)]
