import django.contrib.postgres.fields
from django.db import migrations, models

import accounting.models
from accounting.sql import load_frozen


class Migration(migrations.Migration):
    """Whose money a key spends, which aliases its fallbacks may be, and the secret that it had before."""

    dependencies = [("accounting", "0010_keys_and_wildcards")]

    operations = [
        migrations.AddField(
            "apikey",
            "owner",
            models.CharField(
                blank=True,
                db_default="",
                help_text="Who answers for its spending: a person or a team.",
                max_length=200,
            ),
        ),
        migrations.AddField(
            "apikey",
            "binds_fallbacks",
            models.BooleanField(
                "binds fallbacks too",
                db_default=False,
                default=False,
                help_text="Its aliases are also the only ones that may answer as fallbacks. Otherwise an alias that "
                "the key may use falls back to whatever its chain says.",
            ),
        ),
        migrations.AddField(
            "apikey",
            "tags",
            models.JSONField(
                "fixed tags",
                blank=True,
                db_default={},
                default=dict,
                help_text="Each request of the key has them, whatever its metadata says.",
                validators=[accounting.models.validate_fixed_tags],
            ),
        ),
        migrations.AddField(
            "apikey",
            "required_tags",
            django.contrib.postgres.fields.ArrayField(
                models.CharField(max_length=64),
                blank=True,
                db_default=[],
                default=list,
                help_text="Tags that each request must have in its metadata, with commas between. Others are refused.",
                size=None,
                validators=[accounting.models.validate_tag_names],
            ),
        ),
        migrations.AddField(
            "apikey",
            "callers_name_end_users",
            models.BooleanField(
                "takes the request's end user",
                db_default=True,
                default=True,
                help_text="Otherwise user and safety_identifier of a request do not count here.",
            ),
        ),
        migrations.AddField(
            "apikey",
            "end_user",
            models.CharField(
                blank=True,
                db_default="",
                help_text="Whose a request is when it names no end user, or may not name one.",
                max_length=200,
            ),
        ),
        migrations.AddField("apikey", "rotated_at", models.DateTimeField(editable=False, null=True)),
        migrations.AddField(
            "apikey", "old_prefix", models.CharField(blank=True, db_default="", editable=False, max_length=16)
        ),
        migrations.AddField(
            "apikey", "old_digest", models.CharField(blank=True, db_default="", editable=False, max_length=64)
        ),
        migrations.AddField("apikey", "old_valid_until", models.DateTimeField(editable=False, null=True)),
        migrations.AddField(
            "ledgerentry", "owner", models.CharField(blank=True, db_default="", default="", max_length=200)
        ),
        migrations.RunSQL(
            load_frozen("0011_views") + load_frozen("0005_reader_role"),
            load_frozen("0007_views") + load_frozen("0005_reader_role"),
        ),
    ]
