"""Whether the books were right, and how far they are proved."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Proof(models.Model):
    """One row: what was proved last, so that a start need not read the whole ledger again (``reconcile.py``).

    ``posted_usd`` are the sums of the settled charges up to ``last_charge``, by period. The others of them are open."""

    whole_at = models.DateTimeField(null=True)  # when the whole ledger was last read
    entries_until = models.DateTimeField()  # entries admitted before were settled then, and right
    last_charge = models.BigIntegerField()
    open_charges = ArrayField(models.BigIntegerField())
    periods = ArrayField(models.BigIntegerField())
    posted_usd = ArrayField(models.DecimalField(max_digits=30, decimal_places=12))

    def __str__(self) -> str:
        return f"{self.entries_until:%Y-%m-%d %H:%M} UTC"


class ReconciliationQuerySet(models.QuerySet["Reconciliation"]):
    def that_counts(self) -> Reconciliation | None:
        """The last run; but one that found the books off counts until all of them were found right."""
        right = self.filter(is_whole=True, discrepancies=0).first()
        off = self.filter(discrepancies__gt=0)
        return (off if right is None else off.filter(at__gt=right.at)).first() or self.first()


class Reconciliation(models.Model):
    """What one run of ``reconcile`` found: whether every balance was the sum of its charges."""

    at = models.DateTimeField()
    periods = models.BigIntegerField()
    entries = models.BigIntegerField()
    discrepancies = models.BigIntegerField()
    details = ArrayField(models.TextField(), default=list)  # the first discrepancies, in words
    is_whole = models.BooleanField("all of the ledger", default=True, db_default=True)  # or what is new since the last

    objects = ReconciliationQuerySet.as_manager()

    class Meta:
        ordering = ("-at", "-pk")

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} UTC"
