from django.db import migrations, models

TIERS = ("standard", "flex", "priority", "ultra", "batch")
CHOICES = [(tier, tier) for tier in TIERS]


class Migration(migrations.Migration):
    """A tier more, in which OpenAI takes six times as much."""

    dependencies = [("accounting", "0015_rollup")]

    operations = [
        *(
            migrations.AlterField(
                model,
                "tier",
                models.CharField(choices=CHOICES, db_default="standard", default="standard", max_length=8),
            )
            for model in ("ledgerentry", "attempt")
        ),
        migrations.AlterField("pricerate", "tier", models.CharField(choices=CHOICES, default="standard", max_length=8)),
        migrations.RemoveConstraint("pricerate", "pricerate_known_tier"),
        migrations.AddConstraint(
            "pricerate",
            models.CheckConstraint(condition=models.Q(("tier__in", list(TIERS))), name="pricerate_known_tier"),
        ),
    ]
