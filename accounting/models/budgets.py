"""What may be spent: budgets, and their balances in each window.

``accounting.ledger`` alone writes the balances; the ORM only reads them.
"""

from __future__ import annotations

import zoneinfo
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounting.models import fields
from accounting.models.keys import ApiKey
from accounting.periods import Period


def validate_time_zone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValidationError(
            "%(name)s is not a time zone; use a name such as UTC or Europe/Berlin.", params={"name": name}
        ) from None


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
    limit_usd = fields.usd(validators=[MinValueValidator(Decimal(0))])
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
    posted_usd = fields.usd(default=0)
    held_usd = fields.usd(default=0)
    # Its budget was changed since: it may lack requests that were admitted meanwhile (budget_gap.sql).
    has_gap = models.BooleanField(default=False, db_default=False)
    # How its budget counted when it was opened or last filled. Empty: the gateway's version before did not say.
    period = models.CharField(max_length=5, blank=True, default="", db_default="")
    time_zone = models.CharField(max_length=64, blank=True, default="", db_default="")
    #: The limit that its spending was last told to have reached: once for each limit.
    told_limit_usd = fields.usd(null=True)

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
