import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    """What the operators' first page reads: the results of reconcile, and the keys that providers refused."""

    dependencies = [("accounting", "0013_operators")]

    operations = [
        migrations.CreateModel(
            "Reconciliation",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("periods", models.BigIntegerField()),
                ("entries", models.BigIntegerField()),
                ("discrepancies", models.BigIntegerField()),
                (
                    "details",
                    django.contrib.postgres.fields.ArrayField(models.TextField(), default=list, size=None),
                ),
            ],
            options={"ordering": ("-at", "-pk")},
        ),
        migrations.AddIndex(
            "attempt",
            models.Index(
                condition=models.Q(outcome="authentication"), fields=["started_at"], name="attempt_key_refused"
            ),
        ),
    ]
