from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models
from django.db.models.functions import MD5

from accounting.sql import load_frozen

# Whoever has written an entry in a transaction that lasts (psql, a repricing, an anti-wraparound vacuum) is waited for, and meanwhile every
# settlement waits behind us. So we stand in the queue for two seconds at most, then step out and let them by. That is longer
# than it takes Postgres to send an ordinary vacuum away.
LOCK = """
    DO $$ BEGIN
        PERFORM set_config('lock_timeout', '2s', true);
        FOR attempt IN 1..60 LOOP
            BEGIN
                LOCK TABLE accounting_adjustment, accounting_ledgerentry IN SHARE ROW EXCLUSIVE MODE;
                RETURN;
            EXCEPTION WHEN lock_not_available THEN
                PERFORM pg_sleep(2);
            END;
        END LOOP;
        RAISE lock_not_available USING MESSAGE = 'another session has written the ledger in a transaction that it does not end',
            HINT = 'Nothing was migrated. pg_stat_activity says who it is; end it, and start again.';
    END $$;
"""
# Settlements wait for the triggers to be there, so each entry that is settled after this moment is noted by them.
BEGIN = """
    INSERT INTO accounting_rollup (id, from_at, until_at)
    SELECT 1, '1970-01-01 00:00Z',
           greatest(clock_timestamp(), (SELECT max(created_at) FROM accounting_ledgerentry)) + interval '1 microsecond'
"""


class Migration(migrations.Migration):
    """Sums of spend beside the ledger, and what of it was proved last. Nothing is added up here: the gateway does that by and by, and reports read each
    entry that is not in a sum.

    The views come before the triggers: they may have to wait for somebody's report, and then no settlement waits yet."""

    dependencies = [("accounting", "0014_first_page")]

    operations = [
        migrations.CreateModel(
            "Rollup",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("from_at", models.DateTimeField()),
                ("until_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            "UnrolledEntry",
            [
                ("entry_id", models.UUIDField(primary_key=True, serialize=False)),
                ("stays", models.BooleanField(db_default=False, default=False)),
            ],
        ),
        migrations.CreateModel(
            "SpendSum",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("dimension", models.CharField(max_length=16)),
                ("name", models.TextField(blank=True)),
                ("value", models.TextField(blank=True)),
                ("bucket", models.DateTimeField()),
                ("requests", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("cost_usd", models.DecimalField(decimal_places=12, max_digits=30)),
                ("unpriced", models.BigIntegerField()),
            ],
            options={"indexes": [models.Index("dimension", "bucket", "name", MD5("value"), name="spendsum_place")]},
        ),
        migrations.CreateModel(
            "Proof",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("whole_at", models.DateTimeField(null=True)),
                ("entries_until", models.DateTimeField()),
                ("last_charge", models.BigIntegerField()),
                ("open_charges", ArrayField(models.BigIntegerField(), size=None)),
                ("periods", ArrayField(models.BigIntegerField(), size=None)),
                ("posted_usd", ArrayField(models.DecimalField(decimal_places=12, max_digits=30), size=None)),
            ],
        ),
        migrations.AddField(
            "reconciliation",
            "is_whole",
            models.BooleanField(db_default=True, default=True, verbose_name="all of the ledger"),
        ),
        migrations.RunSQL(
            load_frozen("0015_views") + load_frozen("0013_reader_role"),
            "DROP VIEW IF EXISTS spend_by_hour, spend_by_day, spend_by_alias, spend_by_provider, spend_by_key,"
            " spend_by_tag, accounting_spend, accounting_entryspend;\n"
            + load_frozen("0012_views")
            + load_frozen("0013_reader_role"),
        ),
        migrations.RunSQL(
            LOCK + load_frozen("0015_rollup") + BEGIN,
            "DROP FUNCTION IF EXISTS accounting_note_settled() CASCADE;"
            " DROP FUNCTION IF EXISTS accounting_note_adjusted() CASCADE",
        ),
    ]
