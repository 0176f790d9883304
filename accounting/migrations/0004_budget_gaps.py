from django.db import migrations, models

from accounting.sql import load_frozen


class Migration(migrations.Migration):
    dependencies = [("accounting", "0003_rate_limits")]

    operations = [
        migrations.AddField(
            "budgetperiod", "has_gap", models.BooleanField(db_default=False, default=False)
        ),
        migrations.RunSQL(load_frozen("0004_budget_gap"), "DROP FUNCTION accounting_mark_gap() CASCADE;"),
    ]
