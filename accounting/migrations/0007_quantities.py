from django.db import migrations, models

from accounting.sql import load_frozen

TIERS = [("standard", "standard"), ("flex", "flex"), ("priority", "priority"), ("batch", "batch")]


class Migration(migrations.Migration):
    """What was asked for, in which tier it was served, and what was consumed that has no column."""

    dependencies = [("accounting", "0006_budget_modes")]

    operations = [
        *(
            migrations.AddField(model, name, field)
            for model in ("ledgerentry", "attempt")
            for name, field in (
                ("endpoint", models.CharField(db_default="chat", default="chat", max_length=32)),
                ("tier", models.CharField(choices=TIERS, db_default="standard", default="standard", max_length=8)),
                ("quantities", models.JSONField(db_default={}, default=dict)),
            )
        ),
        migrations.AddField(
            "attempt", "key_reference", models.CharField(blank=True, db_default="", default="", max_length=300)
        ),
        migrations.AddField(
            "attempt", "at_most_usd", models.DecimalField(decimal_places=12, max_digits=20, null=True)
        ),
        migrations.AddField(
            "attempt", "next", models.CharField(blank=True, db_default="", default="", max_length=200)
        ),
        migrations.RunSQL(
            load_frozen("0007_views") + load_frozen("0005_reader_role"),
            load_frozen("0005_views") + load_frozen("0005_reader_role"),
        ),
    ]
