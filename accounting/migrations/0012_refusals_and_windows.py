from django.db import migrations, models
from django.db.models import Q

from accounting.postgres import locks
from accounting.sql import load_frozen

# Requests are served meanwhile, and lock tables of the ledger in another order than this: one of us would be ended for a
# deadlock, and its request refused. So their transactions, of milliseconds, wait until this is over (lock_ledger.sql).
LOCK = f"SELECT pg_advisory_xact_lock({locks.LEDGER}, 0)"
# How an open window counts is seen from its length. A budget that has spent its limit was told of already, or is no news.
KNOW_OPEN_WINDOWS = """
    UPDATE accounting_budgetperiod p
    SET period = CASE WHEN p.period_end IS NULL THEN 'total'
                      WHEN p.period_end - p.period_start < interval '2 hours' THEN 'hour'
                      WHEN p.period_end - p.period_start < interval '2 days' THEN 'day'
                      WHEN p.period_end - p.period_start < interval '9 days' THEN 'week' ELSE 'month' END,
        told_limit_usd = CASE WHEN p.posted_usd >= b.limit_usd THEN b.limit_usd END
    FROM accounting_budget b WHERE b.id = p.budget_id AND (p.period_end IS NULL OR p.period_end > now())
"""


def _usd() -> "models.DecimalField[object, object]":
    return models.DecimalField(decimal_places=12, max_digits=20, null=True)


class Migration(migrations.Migration):
    """Refused requests, spend by hour and by tag, and the step and the kind of window that money was counted for."""

    dependencies = [("accounting", "0011_whose_money")]

    operations = [
        migrations.RunSQL(LOCK, migrations.RunSQL.noop),
        migrations.CreateModel(
            "RefusedRequest",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("request_id", models.CharField(blank=True, max_length=128)),
                ("key", models.CharField(blank=True, max_length=100)),
                ("key_id", models.BigIntegerField(null=True)),
                ("alias", models.CharField(blank=True, max_length=100)),
                ("endpoint", models.CharField(blank=True, max_length=32)),
                ("end_user", models.CharField(blank=True, max_length=200)),
                ("tags", models.JSONField(default=dict)),
                ("code", models.CharField(max_length=64)),
                ("message", models.CharField(blank=True, max_length=500)),
                ("budget", models.CharField(blank=True, max_length=100)),
                ("limit_usd", _usd()),
                ("spent_usd", _usd()),
                ("held_usd", _usd()),
                ("asked_usd", _usd()),
                ("count", models.PositiveIntegerField(default=1)),
            ],
            {
                "verbose_name": "refused request",
                "ordering": ("-at", "-pk"),
                "indexes": [
                    models.Index(fields=("-at", "-id"), name="refused_at"),
                    models.Index(fields=("request_id",), name="refused_request_id", condition=~Q(request_id="")),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("at", "key", "alias", "endpoint", "code", "budget"),
                        name="refused_one_count_a_minute",
                        condition=Q(request_id=""),
                    )
                ],
            },
        ),
        migrations.AddField("ledgerentry", "step_alias", models.CharField(db_default="", default="", max_length=100)),
        migrations.AddField(
            "budgetperiod", "period", models.CharField(blank=True, db_default="", default="", max_length=5)
        ),
        migrations.AddField(
            "budgetperiod", "time_zone", models.CharField(blank=True, db_default="", default="", max_length=64)
        ),
        migrations.AddField("budgetperiod", "told_limit_usd", _usd()),
        migrations.RunSQL(
            load_frozen("0012_is_of_alias"), "DROP FUNCTION IF EXISTS accounting_is_of_alias(text, text)"
        ),
        migrations.RunSQL(KNOW_OPEN_WINDOWS, migrations.RunSQL.noop),
        migrations.RunSQL(
            load_frozen("0012_views") + load_frozen("0012_reader_role"),
            "DROP VIEW IF EXISTS spend_by_hour, spend_by_tag, refusals;\n"
            + load_frozen("0011_views")
            + load_frozen("0005_reader_role"),
        ),
    ]
