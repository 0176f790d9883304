"""Who pays: keys, budgets, prices, and the ledger.

Rows of the ledger (entries, attempts, charges, adjustments) and the balances of budget periods are written
by ``accounting.ledger`` alone; the ORM only reads them. They hold names as text captured at the time, so
that history survives renames and deletes. Money is US dollars, NUMERIC(20,12), never float.
"""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import MD5

from accounting.periods import Period
from accounting.pricing import PriceList, Rate
from accounting.tags import MAX_TAGS, NAME_CHARACTERS, VALUE_CHARACTERS
from accounting.usage import Meter, Tier, UsageSource

ANONYMOUS = "anonymous"  # the key name that requests without a key of ours are accounted to (GATEWAY_AUTH=open)


def _usd(**options: Any) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=20, decimal_places=12, **options)


def _tier() -> models.CharField[Any, Any]:
    return models.CharField(
        max_length=8,
        choices=[(tier.value, tier.value) for tier in Tier],
        default=Tier.STANDARD,
        db_default=Tier.STANDARD,
    )


def _quantities() -> models.JSONField[Any, Any]:
    """Of the meters that have no column, by name, as text: ``{"search:high": "3"}``."""
    return models.JSONField(default=dict, db_default={})


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


def validate_fixed_tags(tags: object) -> None:
    """Names and values as budgets can name them: ``name=value``."""
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ValidationError("Write names and texts, such as team=red.")
    validate_tag_names(list(tags))
    for name, value in tags.items():
        if not value or not value.isprintable() or len(value) > VALUE_CHARACTERS:
            raise ValidationError(f"The tag “{name}” needs a printable value of at most {VALUE_CHARACTERS} characters.")


def validate_tag_names(names: list[str]) -> None:
    if len(names) > MAX_TAGS:
        raise ValidationError(f"There may be {MAX_TAGS} tags at the most.")
    for name in names:
        if not name or "=" in name or not name.isprintable() or len(name) > NAME_CHARACTERS:
            raise ValidationError(
                f"A tag's name has 1 to {NAME_CHARACTERS} printable characters and no “=”, unlike “{name}”."
            )


class ApiKey(models.Model):
    """A key of ours, for one client. The key itself is shown once and stored as its SHA-256 only.

    After a rotation the secret before is good until ``old_valid_until``."""

    name = models.CharField(max_length=100, unique=True, help_text="Who uses it; the ledger shows this name.")
    owner = models.CharField(
        max_length=200, blank=True, db_default="", help_text="Who answers for its spending: a person or a team."
    )
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
    uses_wildcards = models.BooleanField(
        "may use wildcards",
        default=True,
        db_default=True,
        help_text="Models that no alias names and that a wildcard such as openai/* answers to.",
    )
    binds_fallbacks = models.BooleanField(
        "binds fallbacks too",
        default=False,
        db_default=False,
        help_text="Its aliases are also the only ones that may answer as fallbacks. Otherwise an alias that the key "
        "may use falls back to whatever its chain says.",
    )
    tags = models.JSONField(
        "fixed tags",
        default=dict,
        db_default={},
        blank=True,
        validators=[validate_fixed_tags],
        help_text="Each request of the key has them, whatever its metadata says.",
    )
    required_tags = ArrayField(
        models.CharField(max_length=NAME_CHARACTERS),
        default=list,
        db_default=[],
        blank=True,
        validators=[validate_tag_names],
        help_text="Tags that each request must have in its metadata, with commas between. Others are refused.",
    )
    callers_name_end_users = models.BooleanField(
        "takes the request's end user",
        default=True,
        db_default=True,
        help_text="Otherwise user and safety_identifier of a request do not count here.",
    )
    end_user = models.CharField(
        max_length=200,
        blank=True,
        db_default="",
        help_text="Whose a request is when it names no end user, or may not name one.",
    )
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    # Empty: the books set no limit. A worker has one for each key all the same (routing/api/places.py).
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    created_at = models.DateTimeField(auto_now_add=True)
    rotated_at = models.DateTimeField(null=True, editable=False)
    old_prefix = models.CharField(max_length=16, blank=True, db_default="", editable=False)
    old_digest = models.CharField(max_length=64, blank=True, db_default="", editable=False)
    old_valid_until = models.DateTimeField(null=True, editable=False)

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
    # How its budget counted when it was opened or last filled. Empty: the gateway's version before did not say.
    period = models.CharField(max_length=5, blank=True, default="", db_default="")
    time_zone = models.CharField(max_length=64, blank=True, default="", db_default="")
    #: The limit that its spending was last told to have reached: once for each limit.
    told_limit_usd = _usd(null=True)

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


_USD_PER_MTOK = "_usd_per_mtok"


class PriceQuerySet(models.QuerySet["Price"]):
    def in_force(self, at: datetime) -> Self:
        """Of each provider's model the price that counts at that moment."""
        return (
            self.filter(effective_from__lte=at)
            .order_by("provider", "model", "-effective_from")
            .distinct("provider", "model")
        )

    def dated(self) -> Mapping[tuple[str, str], tuple[tuple[datetime, PriceList], ...]]:
        """All prices as pure values, by provider and model, newest first."""
        rates: dict[int, list[Rate]] = {}
        for price_id, meter, usd, qualifier, tier, above in PriceRate.objects.order_by("pk").values_list(
            "price_id", "meter", "usd_per_unit", "qualifier", "tier", "above_input_tokens"
        ):
            rates.setdefault(price_id, []).append(Rate(Meter(meter), usd, qualifier, Tier(tier), above))
        dated: dict[tuple[str, str], list[tuple[datetime, PriceList]]] = {}
        for pk, provider, model, since in self.order_by("-effective_from").values_list(
            "pk", "provider", "model", "effective_from"
        ):
            dated.setdefault((provider, model), []).append((since, PriceList(tuple(rates.get(pk, ())))))
        return {model: tuple(prices) for model, prices in dated.items()}

    def with_token_rates(self) -> Self:
        """With ``input_usd``, ``output_usd`` and ``cached_input_usd``, a million in the standard tier."""
        rates = PriceRate.objects.filter(price=OuterRef("pk"), tier=Tier.STANDARD, above_input_tokens=0, qualifier="")
        return self.annotate(
            **{
                f"{meter.value}_usd": Subquery(rates.filter(meter=meter).values("usd_per_unit")[:1])
                for meter in (Meter.INPUT, Meter.OUTPUT, Meter.CACHED_INPUT)
            }
        )

    @transaction.atomic
    def create(self, **fields: Any) -> Price:
        """Write a price and, in the same transaction, its plain rates: ``input_usd_per_mtok``, ``output_usd_per_mtok``
        and those of the other meters of tokens, of the standard tier and without a threshold.

        So a script writes the price that most models have in one line. All other prices are written by :meth:`add`.
        """
        named = {name: fields.pop(name) for name in list(fields) if name.endswith(_USD_PER_MTOK)}
        rates = [(Meter(name.removesuffix(_USD_PER_MTOK)), usd) for name, usd in named.items() if usd is not None]
        if unnamed := [meter.value for meter, _ in rates if not meter.is_tokens]:
            raise ValueError(f"{unnamed[0]} is not billed by the million of tokens")
        price = super().create(**fields)
        PriceRate.objects.bulk_create(PriceRate(price=price, meter=meter, usd_per_unit=usd) for meter, usd in rates)
        return price

    def add(self, provider: str, model: str, effective_from: datetime, prices: PriceList, source: str) -> Price:
        """Write a price and its rates, to the places that the database keeps."""
        (price,) = self.add_all([(provider, model, prices, source)], effective_from)
        return price

    @transaction.atomic
    def add_all(self, rows: Iterable[tuple[str, str, PriceList, str]], effective_from: datetime) -> list[Price]:
        """Write many prices (provider, model, price, source) in two statements."""
        priced = [
            (Price(provider=provider, model=model, effective_from=effective_from, source=source), prices)
            for provider, model, prices, source in rows
        ]
        self.bulk_create([price for price, _ in priced])
        PriceRate.objects.bulk_create(
            PriceRate(
                price=price,
                meter=rate.meter,
                qualifier=rate.qualifier,
                tier=rate.tier,
                above_input_tokens=rate.above_input_tokens,
                usd_per_unit=rate.usd_per_unit,
            )
            for price, prices in priced
            for rate in prices.rounded().rates
        )
        return [price for price, _ in priced]


class Price(models.Model):
    """What a provider charges for a model from a moment on: a set of rates."""

    provider = models.CharField(max_length=100, help_text="The provider's name, as under Routing, Providers.")
    model = models.CharField(max_length=200, help_text="The model's name at the provider.")
    effective_from = models.DateTimeField()
    source = models.CharField(max_length=100, default="operator", help_text="Where the price was taken from.")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PriceQuerySet.as_manager()

    class Meta:
        ordering = ("provider", "model", "-effective_from")
        constraints = (
            models.UniqueConstraint(fields=("provider", "model", "effective_from"), name="price_one_a_moment"),
        )

    def __str__(self) -> str:
        return f"{self.provider} {self.model} from {self.effective_from:%Y-%m-%d}"

    def price_list(self) -> PriceList:
        """The row and its rates as the pure value that ``accounting.pricing`` computes with."""
        return PriceList(
            tuple(
                Rate(Meter(row.meter), row.usd_per_unit, row.qualifier, Tier(row.tier), row.above_input_tokens)
                for row in self.rates.all()
            )
        )

    @property
    def input_usd_per_mtok(self) -> Decimal | None:
        """What a million input tokens cost in the standard tier, without a threshold; None: the price has no such
        rate."""
        return self._plain_usd(Meter.INPUT)

    @property
    def output_usd_per_mtok(self) -> Decimal | None:
        """The same of output tokens."""
        return self._plain_usd(Meter.OUTPUT)

    def _plain_usd(self, meter: Meter) -> Decimal | None:
        # From all rates, so that one query, or none after a prefetch, answers for both.
        place = Rate(meter, Decimal(0)).place
        return next((rate.usd_per_unit for rate in self.price_list().rates if rate.place == place), None)


METERS = [
    (
        "USD per million tokens",
        [(meter.value, meter.value.replace("_", " ")) for meter in Meter if meter.is_tokens],
    ),
    (
        "USD per million characters",
        [(meter.value, meter.value.replace("_", " ")) for meter in (Meter.INPUT_CHARACTER, Meter.OUTPUT_CHARACTER)],
    ),
    ("USD each", [(meter.value, meter.value.replace("_", " ")) for meter in Meter if meter.unit_size == 1]),
]


class PriceRate(models.Model):
    """What a unit of a meter costs: USD per million of tokens and characters, USD each of everything else."""

    price = models.ForeignKey(Price, on_delete=models.CASCADE, related_name="rates")
    meter = models.CharField(max_length=20, choices=METERS)
    qualifier = models.CharField(
        max_length=60, blank=True, help_text="Of images, searches and such: which ones. Empty: all others."
    )
    tier = models.CharField(
        max_length=8, choices=[(tier.value, tier.value) for tier in Tier], default=Tier.STANDARD.value
    )
    above_input_tokens = models.PositiveIntegerField(
        default=0, help_text="For requests with more input tokens than this. 0: for all."
    )
    usd_per_unit = _usd(validators=[MinValueValidator(Decimal(0))])

    class Meta:
        verbose_name = "rate"
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("price", "meter", "qualifier", "tier", "above_input_tokens"), name="pricerate_one_a_place"
            ),
            models.CheckConstraint(condition=Q(usd_per_unit__gte=0), name="pricerate_not_negative"),
            models.CheckConstraint(
                condition=Q(meter__in=sorted(meter.value for meter in Meter)), name="pricerate_known_meter"
            ),
            models.CheckConstraint(condition=Q(tier__in=[tier.value for tier in Tier]), name="pricerate_known_tier"),
        )

    def __str__(self) -> str:
        return f"{self.meter}: {self.usd_per_unit}"


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

    tier = _tier()
    quantities = _quantities()

    hold_usd = _usd(null=True)  # NULL: unpriced, admitted because no hard budget applied
    cost_usd = _usd(null=True)  # NULL: held, or unpriced
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
    tier = _tier()  # that served, as far as the provider said
    quantities = _quantities()
    cost_usd = _usd(null=True)
    at_most_usd = _usd(null=True)  # what it may have cost, where the cost is an estimate
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
    amount_usd = _usd(help_text="Added to the entry's cost; negative gives money back.")
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


class RefusedRequest(models.Model):
    """A request that the gateway refused before it was admitted, or how many of the same there were in a minute.

    Nothing was held for it and nobody was called. Written by ``accounting.refused_requests`` alone, which also deletes
    what is older than it keeps."""

    at = models.DateTimeField()  # of a count: the minute's beginning
    request_id = models.CharField(max_length=128, blank=True)  # empty: a count
    key = models.CharField(max_length=100, blank=True)  # empty: no key of ours was presented
    key_id = models.BigIntegerField(null=True)
    alias = models.CharField(max_length=100, blank=True)  # asked for
    endpoint = models.CharField(max_length=32, blank=True)
    end_user = models.CharField(max_length=200, blank=True)
    tags = models.JSONField(default=dict)
    code = models.CharField(max_length=64)  # of the error
    message = models.CharField(max_length=500, blank=True)  # what the client was told; of a count, the last
    budget = models.CharField(max_length=100, blank=True)  # empty: no budget refused it
    limit_usd = _usd(null=True)
    spent_usd = _usd(null=True)
    held_usd = _usd(null=True)
    asked_usd = _usd(null=True)
    count = models.PositiveIntegerField(default=1)

    class Meta:
        verbose_name = "refused request"
        ordering = ("-at", "-pk")
        indexes = (
            models.Index(fields=("-at", "-id"), name="refused_at"),
            models.Index(fields=("request_id",), name="refused_request_id", condition=~Q(request_id="")),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("at", "key", "alias", "endpoint", "code", "budget"),
                name="refused_one_count_a_minute",
                condition=Q(request_id=""),
            ),
        )

    def __str__(self) -> str:
        return f"{self.request_id or self.count} {self.alias} {self.code}"


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
            models.CheckConstraint(
                condition=Q(posted_usd__gte=0) | Q(adjustment__isnull=False), name="charge_posted_not_negative"
            ),
        )

    def __str__(self) -> str:
        return f"{self.entry_id} in {self.period_id}: {self.held_usd} held, {self.posted_usd} posted"


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


class ExactNumbers(json.JSONDecoder):
    """Reads JSON's numbers as they are written, because amounts are among them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_float=Decimal, **options)


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


class Change(models.Model):
    """What somebody changed of the configuration or of the books by hand. Triggers write it (``audit.sql``), and nobody
    changes or deletes it. It names people and objects as text, so it outlives both."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)  # the operator, the command's operating system user, or the database user
    road = models.CharField(max_length=16)  # admin, command, sql
    command = models.CharField(max_length=64, blank=True)
    object = models.TextField()
    #: The fields that differ and their values. A new object has no values before, a deleted object has none after.
    before = models.JSONField(decoder=ExactNumbers)
    after = models.JSONField(decoder=ExactNumbers)

    class Meta:
        verbose_name_plural = "audit"
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("actor",), name="change_actor"),
            models.Index(fields=("object",), name="change_object"),
        )

    def __str__(self) -> str:
        return f"{self.object} by {self.actor}"
