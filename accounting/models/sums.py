"""Sums of what is in the ledger, for reports. ``accounting.ledger.rollup`` writes them."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import MD5


class SpendSum(models.Model):
    """What the entries that are rolled up (``rollup.sql``) weigh in one dimension, in a quarter of an hour or in a day.

    ``accounting.ledger.rollup`` alone writes sums; an adjustment adds rows of its own, so a sum may have several."""

    dimension = models.CharField(max_length=16)
    name = models.TextField(blank=True)
    value = models.TextField(blank=True)  # of a tag; others have only a name
    bucket = models.DateTimeField()  # its beginning
    requests = models.BigIntegerField()
    failed = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost_usd = models.DecimalField(max_digits=30, decimal_places=12)
    unpriced = models.BigIntegerField()

    class Meta:
        # A value may be longer than an index takes.
        indexes = (models.Index("dimension", "bucket", "name", MD5("value"), name="spendsum_place"),)

    def __str__(self) -> str:
        return f"{self.dimension} {self.name} {self.bucket:%Y-%m-%d %H:%M}"


class UnrolledEntry(models.Model):
    """A settled entry that is not rolled up yet. Triggers note it (``rollup.sql``). Without a foreign key, whose check
    each settlement would pay for; entries are never deleted."""

    entry_id = models.UUIDField(primary_key=True)
    stays = models.BooleanField(default=False, db_default=False)  # it may still get attempts, so reports read it always

    def __str__(self) -> str:
        return str(self.entry_id)


class Rollup(models.Model):
    """One row: the stretch of time whose settled entries were never rolled up, as those from before there was a rollup.

    Whoever rolls up locks the row. An empty stretch ends where it begins."""

    from_at = models.DateTimeField()
    until_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.from_at} to {self.until_at}"
