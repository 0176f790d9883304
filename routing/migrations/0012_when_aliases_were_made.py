"""An alias knows when it was made. Those that are there already do not: nobody wrote it down."""

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("routing", "0011_breaker_uses")]

    operations = [
        # In two steps: with its default at once, Postgres would give the rows of today the moment of the migration.
        migrations.AddField("modelalias", "created_at", models.DateTimeField(editable=False, null=True)),
        migrations.AlterField(
            "modelalias", "created_at", models.DateTimeField(db_default=Now(), editable=False, null=True)
        ),
    ]
