"""The ledger: entries, their attempts, adjustments and charges.

``accounting.ledger`` alone writes these rows; the ORM only reads them. They hold names as text captured at the time, so
that history survives renames and deletes.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounting.models import fields
from accounting.models.budgets import BudgetPeriod
from accounting.usage import UsageSource


class EntryState(models.TextChoices):
    HELD = "held"  # money is held; the provider may be being called
    POSTED = "posted"  # what it truly cost is charged
    VOIDED = "voided"  # nothing was consumed, nothing is charged
    UNKNOWN = "unknown"  # its worker died: charged at the hold until an operator resolves it


class LedgerEntry(models.Model):
    """One admitted request. ``held`` → ``posted | voided | unknown``, ``unknown`` → ``posted | voided``;
    a trigger (``immutable_ledger.sql``) refuses every other change."""

    id = models.UUIDField(primary_key=True)  # made by the gateway before the insert, ordered by time
    created_at = models.DateTimeField()  # database time of admission; decides the budget period
    settled_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()  # a hold older than this is expired even if its worker seems alive
    writer_id = models.BigIntegerField()  # whose session advisory lock shows that the worker lives
    state = models.CharField(max_length=7, choices=EntryState, default=EntryState.HELD)

    request_id = models.CharField(max_length=128)
    key = models.CharField(max_length=100)
    key_id = models.BigIntegerField(null=True)
    owner = models.CharField(max_length=200, blank=True, default="", db_default="")  # the key's, at that time
    alias = models.CharField(max_length=100)  # asked for
    step_alias = models.CharField(max_length=100, default="", db_default="")  # admitted for; empty: the one asked for
    endpoint = models.CharField(max_length=32, default="chat", db_default="chat")
    served_alias = models.CharField(max_length=100, blank=True)
    provider = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=200, blank=True)
    attempt_count = models.PositiveSmallIntegerField(default=0)
    fallback = models.BooleanField(default=False)
    streamed = models.BooleanField(default=False)
    http_status = models.PositiveSmallIntegerField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    provider_request_id = models.CharField(max_length=200, blank=True)

    input_tokens = models.BigIntegerField(default=0)
    cached_input_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    cache_write_1h_tokens = models.BigIntegerField(default=0)
    audio_input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_output_tokens = models.BigIntegerField(default=0)
    usage_source = models.CharField(
        max_length=9, choices=[(s.value, s.value) for s in UsageSource], default=UsageSource.NONE.value
    )

    tier = fields.tier()
    quantities = fields.quantities()

    hold_usd = fields.usd(null=True)  # NULL: unpriced, admitted because no hard budget applied
    cost_usd = fields.usd(null=True)  # NULL: held, or unpriced
    overrun = models.BooleanField(default=False)  # it cost more than was held
    #: PriceList.as_json() of what served. Older entries have the shape {"base": …, "long_context": …}.
    price = models.JSONField(null=True)
    first_token_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField(null=True)
    end_user = models.CharField(max_length=200, blank=True)
    tags = models.JSONField(default=dict)  # text, or a list of texts, by name
    resolved_by = models.CharField(max_length=150, blank=True)  # the operator who resolved an unknown entry
    resolution = models.CharField(max_length=500, blank=True)  # and why

    class Meta:
        verbose_name = "ledger entry"
        verbose_name_plural = "ledger entries"
        ordering = ("-created_at",)
        indexes = (
            models.Index(fields=("-created_at",), name="entry_created_at"),
            models.Index(fields=("request_id",), name="entry_request_id"),
            # Both stay tiny: expiry and the operator's list read them, whatever the ledger's size.
            models.Index(fields=("writer_id",), name="entry_held_by_writer", condition=Q(state="held")),
            models.Index(fields=("created_at",), name="entry_unknown", condition=Q(state="unknown")),
            models.Index(fields=("key_id",), name="entry_held_by_key", condition=Q(state="held")),
        )
        constraints = (
            models.CheckConstraint(
                condition=Q(state="held", settled_at=None, cost_usd=None) | ~Q(state="held"),
                name="entry_held_has_no_cost",
            ),
            models.CheckConstraint(
                condition=Q(state="held") | Q(settled_at__isnull=False), name="entry_settled_has_a_time"
            ),
            models.CheckConstraint(condition=Q(hold_usd__gte=0), name="entry_hold_not_negative"),
            models.CheckConstraint(condition=Q(cost_usd__gte=0), name="entry_cost_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.request_id} {self.alias} {self.state}"


class Attempt(models.Model):
    """One call of a provider. Inserted when its entry is settled, never changed."""

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="attempts")
    position = models.PositiveSmallIntegerField()  # 1 is the first
    alias = models.CharField(max_length=100)
    provider = models.CharField(max_length=100)
    model = models.CharField(max_length=200)
    endpoint = models.CharField(max_length=32, default="chat", db_default="chat")
    key_reference = models.CharField(max_length=300, blank=True, default="", db_default="")  # of the provider's key
    outcome = models.CharField(max_length=32)  # an accounting.outcomes.Outcome
    http_status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=500, blank=True)  # the provider's words, scrubbed
    started_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    first_token_ms = models.PositiveIntegerField(null=True)
    input_tokens = models.BigIntegerField(default=0)
    cached_input_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    cache_write_1h_tokens = models.BigIntegerField(default=0)
    audio_input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    audio_output_tokens = models.BigIntegerField(default=0)
    usage_source = models.CharField(max_length=9, default=UsageSource.NONE.value)
    tier = fields.tier()  # that served, as far as the provider said
    quantities = fields.quantities()
    cost_usd = fields.usd(null=True)
    at_most_usd = fields.usd(null=True)  # what it may have cost, where the cost is an estimate
    price = models.JSONField(null=True)
    provider_request_id = models.CharField(max_length=200, blank=True)
    next = models.CharField(max_length=200, blank=True, default="", db_default="")  # why the cascade went on

    class Meta:
        ordering = ("entry", "position")
        indexes = (
            # Tiny: the first page reads it (refused_keys.sql), however many attempts there are.
            models.Index(fields=("started_at",), name="attempt_key_refused", condition=Q(outcome="authentication")),
        )
        constraints = (
            models.UniqueConstraint(fields=("entry", "position"), name="attempt_one_a_position"),
            models.CheckConstraint(condition=Q(cost_usd__gte=0), name="attempt_cost_not_negative"),
            models.CheckConstraint(condition=Q(at_most_usd__gte=0), name="attempt_at_most_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.position}. {self.provider} {self.model}: {self.outcome}"


class Adjustment(models.Model):
    """A correction of a settled entry: by whom, why, by how much. Never changed, never deleted.

    It gives back at most what the entry costs, earlier adjustments included (``bounded_adjustments.sql``)."""

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="adjustments")
    amount_usd = fields.usd(help_text="Added to the entry's cost; negative gives money back.")
    reason = models.CharField(max_length=500)
    author = models.CharField(max_length=150)
    # Of the form that asked for it, so that a form which is sent twice books once. NULL: not by a form.
    form_token = models.UUIDField(null=True, unique=True, editable=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(condition=~Q(reason=""), name="adjustment_has_a_reason"),
            models.CheckConstraint(condition=~Q(author=""), name="adjustment_has_an_author"),
            models.CheckConstraint(condition=~Q(amount_usd=0), name="adjustment_changes_something"),
        )

    def __str__(self) -> str:
        return f"{self.amount_usd} by {self.author}"


class Charge(models.Model):
    """What one entry (or one adjustment of it) weighs in one budget period.

    A period's balance is the sum of its charges, always: that is what ``reconcile`` proves.
    """

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="charges")
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="charges")
    adjustment = models.ForeignKey(Adjustment, null=True, on_delete=models.PROTECT, related_name="charges")
    held_usd = fields.usd(default=0)
    posted_usd = fields.usd(default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("entry", "period", "adjustment"), name="charge_once_a_period", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(held_usd__gte=0), name="charge_held_not_negative"),
            models.CheckConstraint(
                condition=Q(posted_usd__gte=0) | Q(adjustment__isnull=False), name="charge_posted_not_negative"
            ),
        )

    def __str__(self) -> str:
        return f"{self.entry_id} in {self.period_id}: {self.held_usd} held, {self.posted_usd} posted"
