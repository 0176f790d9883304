"""Who pays: keys, budgets, prices, and the ledger.

Rows of the ledger (entries, attempts, charges, adjustments) and the balances of budget periods are written
by ``accounting.ledger`` alone; the ORM only reads them. They hold names as text captured at the time, so
that history survives renames and deletes. Money is US dollars, NUMERIC(20,12), never float.
"""

from __future__ import annotations

import zoneinfo
from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounting.periods import Period
from accounting.pricing import PriceList, Rates
from accounting.usage import UsageSource

ANONYMOUS = "anonymous"  # the key name that requests without a key of ours are accounted to (GATEWAY_AUTH=open)


def _usd(**options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=20, decimal_places=12, **options)


def validate_time_zone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValidationError(
            "%(name)s is not a time zone; use a name such as UTC or Europe/Berlin.", params={"name": name}
        ) from None


class ConfigurationVersion(models.Model):
    """One row whose ``version`` changes with every committed change of configuration.

    Written by statement triggers on the configuration's tables (``configuration_version.sql``), so an edit by
    plain SQL counts as well. Workers compare it with their snapshot's: *different* means stale; the
    numbers are unique but two concurrent edits may commit them in either order.
    """

    version = models.BigIntegerField()

    class Meta:
        verbose_name = "configuration version"

    def __str__(self) -> str:
        return str(self.version)


class ApiKey(models.Model):
    """A key of ours, for one client. The key itself is shown once and stored as its SHA-256 only."""

    name = models.CharField(max_length=100, unique=True, help_text="Who uses it; the ledger shows this name.")
    prefix = models.CharField(max_length=16, editable=False, help_text="The key's first characters.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    enabled = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    allowed_aliases = ArrayField(
        models.CharField(max_length=100),
        default=list,
        blank=True,
        help_text="The aliases that this key may use. Empty: all of them.",
    )
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=~Q(name=ANONYMOUS),
                name="apikey_name_not_anonymous",
                violation_error_message="The name “anonymous” is kept for requests without a key.",
            ),
        )

    def __str__(self) -> str:
        return self.name


class BudgetMode(models.TextChoices):
    HARD = "hard", "hard: hold, never exceeded"
    SOFT = "soft", "soft: refuse once spent, no hold"
    ALERT = "alert", "alert: never refuse, log"


class BudgetScope(models.TextChoices):
    GLOBAL = "global", "everything"
    KEY = "key", "one API key"
    ALIAS = "alias", "one alias"
    PROVIDER = "provider", "one provider"
    USER = "user", "one end user (`user`)"
    TAG = "tag", "one tag (`metadata`, as name=value)"


#: The scopes whose budgets say in ``scope_value`` what they are for.
NAMED_SCOPES = (BudgetScope.ALIAS, BudgetScope.PROVIDER, BudgetScope.USER, BudgetScope.TAG)


class BudgetPeriodLength(models.TextChoices):
    HOUR = Period.HOUR.value, "hour"
    DAY = Period.DAY.value, "day"
    WEEK = Period.WEEK.value, "week (from Monday)"
    MONTH = Period.MONTH.value, "month"
    TOTAL = Period.TOTAL.value, "for ever"


class Budget(models.Model):
    """A limit in dollars on what a scope may spend in a calendar period of a time zone."""

    name = models.CharField(max_length=100, unique=True)
    scope = models.CharField(max_length=10, choices=BudgetScope, default=BudgetScope.GLOBAL)
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.PROTECT, related_name="budgets",
        help_text="With the scope “one API key”: the key.",
    )  # fmt: skip
    scope_value = models.CharField(
        max_length=200,
        blank=True,
        help_text="With the scopes alias, provider, user and tag: which one (a tag as name=value).",
    )
    mode = models.CharField(max_length=5, choices=BudgetMode, default=BudgetMode.HARD)
    limit_usd = _usd(validators=[MinValueValidator(Decimal(0))])
    period = models.CharField(max_length=5, choices=BudgetPeriodLength, default=BudgetPeriodLength.DAY)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(condition=Q(limit_usd__gte=0), name="budget_limit_not_negative"),
            models.CheckConstraint(
                condition=(
                    Q(scope="global", api_key=None, scope_value="")
                    | Q(scope="key", api_key__isnull=False, scope_value="")
                    | (Q(scope__in=tuple(scope.value for scope in NAMED_SCOPES), api_key=None) & ~Q(scope_value=""))
                ),
                name="budget_scope_complete",
                violation_error_message=(
                    "Name what the budget is for: a key with the scope “one API key”, a value with the scopes "
                    "alias, provider, user and tag, neither with “everything”."
                ),
            ),
        )

    def __str__(self) -> str:
        return self.name


class BudgetPeriod(models.Model):
    """A budget's balance in one of its windows. THE hot row: locked in id order, by the ledger alone."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="periods")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField(null=True)  # NULL: never ends
    posted_usd = _usd(default=0)
    held_usd = _usd(default=0)
    # Its budget was changed since: it may lack requests that were admitted meanwhile (budget_gap.sql).
    has_gap = models.BooleanField(default=False, db_default=False)

    class Meta:
        ordering = ("-period_start",)
        constraints = (
            # The end belongs to the identity: a budget changed from day to month starts a new window
            # that may begin at the same instant as one of its days.
            models.UniqueConstraint(
                fields=("budget", "period_start", "period_end"),
                name="budgetperiod_one_row_a_window",
                nulls_distinct=False,
            ),
            models.CheckConstraint(condition=Q(held_usd__gte=0), name="budgetperiod_held_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.budget_id} from {self.period_start:%Y-%m-%d %H:%M}"


class Price(models.Model):
    """What a provider charges for a model from a moment on, in USD per million tokens."""

    provider = models.CharField(max_length=100, help_text="The provider's name, as under Routing, Providers.")
    model = models.CharField(max_length=200, help_text="The model's name at the provider.")
    effective_from = models.DateTimeField()
    input_usd_per_mtok = _usd(validators=[MinValueValidator(Decimal(0))])
    output_usd_per_mtok = _usd(validators=[MinValueValidator(Decimal(0))])
    cached_input_usd_per_mtok = _usd(null=True, blank=True, help_text="Empty: as input.")
    cache_write_usd_per_mtok = _usd(null=True, blank=True, help_text="Writes kept 5 minutes. Empty: as input.")
    cache_write_1h_usd_per_mtok = _usd(null=True, blank=True, help_text="Empty: as cache writes.")
    reasoning_usd_per_mtok = _usd(null=True, blank=True, help_text="Empty: as output.")
    audio_input_usd_per_mtok = _usd(null=True, blank=True, help_text="Empty: as input.")
    audio_output_usd_per_mtok = _usd(null=True, blank=True, help_text="Empty: as output.")
    long_context_above_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Input tokens above which the whole request costs the long-context rates.",
    )
    long_input_usd_per_mtok = _usd(null=True, blank=True)
    long_output_usd_per_mtok = _usd(null=True, blank=True)
    long_cached_input_usd_per_mtok = _usd(null=True, blank=True)
    long_cache_write_usd_per_mtok = _usd(null=True, blank=True)
    long_cache_write_1h_usd_per_mtok = _usd(null=True, blank=True)
    source = models.CharField(max_length=100, default="operator", help_text="Where the price was taken from.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("provider", "model", "-effective_from")
        constraints = (
            models.UniqueConstraint(fields=("provider", "model", "effective_from"), name="price_one_a_moment"),
            models.CheckConstraint(
                condition=(
                    Q(
                        long_context_above_tokens=None,
                        long_input_usd_per_mtok=None,
                        long_output_usd_per_mtok=None,
                    )
                    | Q(
                        long_context_above_tokens__isnull=False,
                        long_input_usd_per_mtok__isnull=False,
                        long_output_usd_per_mtok__isnull=False,
                    )
                ),
                name="price_long_context_complete",
                violation_error_message="Long context needs its threshold, its input and its output rate.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.provider} {self.model} from {self.effective_from:%Y-%m-%d}"

    def price_list(self) -> PriceList:
        """The row as the pure value that ``accounting.pricing`` computes with."""
        base = Rates(
            input_usd_per_mtok=self.input_usd_per_mtok,
            output_usd_per_mtok=self.output_usd_per_mtok,
            cached_input_usd_per_mtok=self.cached_input_usd_per_mtok,
            cache_write_usd_per_mtok=self.cache_write_usd_per_mtok,
            cache_write_1h_usd_per_mtok=self.cache_write_1h_usd_per_mtok,
            reasoning_usd_per_mtok=self.reasoning_usd_per_mtok,
            audio_input_usd_per_mtok=self.audio_input_usd_per_mtok,
            audio_output_usd_per_mtok=self.audio_output_usd_per_mtok,
        )
        if self.long_context_above_tokens is None:
            return PriceList(base=base)
        assert self.long_input_usd_per_mtok is not None
        assert self.long_output_usd_per_mtok is not None
        return PriceList(
            base=base,
            long_context_above_tokens=self.long_context_above_tokens,
            long_context=Rates(
                input_usd_per_mtok=self.long_input_usd_per_mtok,
                output_usd_per_mtok=self.long_output_usd_per_mtok,
                cached_input_usd_per_mtok=self.long_cached_input_usd_per_mtok,
                cache_write_usd_per_mtok=self.long_cache_write_usd_per_mtok,
                cache_write_1h_usd_per_mtok=self.long_cache_write_1h_usd_per_mtok,
                reasoning_usd_per_mtok=None,
                audio_input_usd_per_mtok=self.audio_input_usd_per_mtok,
                audio_output_usd_per_mtok=self.audio_output_usd_per_mtok,
            ),
        )


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
    alias = models.CharField(max_length=100)  # asked for
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

    hold_usd = _usd(null=True)  # NULL: unpriced, admitted because no hard budget applied
    cost_usd = _usd(null=True)  # NULL: held, or unpriced
    overrun = models.BooleanField(default=False)  # it cost more than was held
    price = models.JSONField(null=True)  # accounting.pricing.PriceList.as_json() of what served
    first_token_ms = models.PositiveIntegerField(null=True)
    duration_ms = models.PositiveIntegerField(null=True)
    end_user = models.CharField(max_length=200, blank=True)
    tags = models.JSONField(default=dict)
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
    outcome = models.CharField(max_length=32)  # "answered", or the FailureKind
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
    cost_usd = _usd(null=True)
    price = models.JSONField(null=True)
    provider_request_id = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("entry", "position")
        constraints = (models.UniqueConstraint(fields=("entry", "position"), name="attempt_one_a_position"),)

    def __str__(self) -> str:
        return f"{self.position}. {self.provider} {self.model}: {self.outcome}"


class Adjustment(models.Model):
    """A correction of a settled entry: by whom, why, by how much. Never changed, never deleted."""

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="adjustments")
    amount_usd = _usd(help_text="Added to the entry's cost; negative gives money back.")
    reason = models.CharField(max_length=500)
    author = models.CharField(max_length=150)
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


class KeyRate(models.Model):
    """What a key with rate limits has used in a minute. One row a key, locked by the ledger alone."""

    key_id = models.BigIntegerField(primary_key=True)
    minute = models.DateTimeField()
    requests = models.IntegerField(default=0)
    tokens = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.key_id}: {self.requests} requests, {self.tokens} tokens"


class Charge(models.Model):
    """What one entry (or one adjustment of it) weighs in one budget period.

    A period's balance is the sum of its charges, always: that is what ``reconcile`` proves.
    """

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="charges")
    period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="charges")
    adjustment = models.ForeignKey(Adjustment, null=True, on_delete=models.PROTECT, related_name="charges")
    held_usd = _usd(default=0)
    posted_usd = _usd(default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("entry", "period", "adjustment"), name="charge_once_a_period", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(held_usd__gte=0), name="charge_held_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.entry_id} in {self.period_id}: {self.held_usd} held, {self.posted_usd} posted"
