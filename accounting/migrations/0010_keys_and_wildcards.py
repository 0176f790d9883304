from django.db import migrations, models


class Migration(migrations.Migration):
    """Whether a key may use the models of wildcards."""

    dependencies = [("accounting", "0009_reader_limits")]

    operations = [
        migrations.AddField(
            "apikey",
            "uses_wildcards",
            models.BooleanField(
                "may use wildcards",
                db_default=True,
                default=True,
                help_text="Models that no alias names and that a wildcard such as openai/* answers to.",
            ),
        )
    ]
