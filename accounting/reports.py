"""The read side: what has been spent, and what is left. Reads the reporting views (``sql/views.sql``) alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import connection, models

from accounting.models import Budget, BudgetPeriod, BudgetScope
from accounting.periods import Period, window


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in its current window, also when nothing has been spent in it yet."""

    budget: str
    scope: str
    mode: str
    period: str
    limit_usd: Decimal
    posted_usd: Decimal
    held_usd: Decimal
    resets_at: datetime | None

    @property
    def available_usd(self) -> Decimal:
        return max(Decimal(0), self.limit_usd - self.posted_usd - self.held_usd)


def budgets_of(key_id: int | None) -> list[BudgetStatus]:
    """The enabled budgets that every request of the key counts against: the global ones and its own."""
    applies = models.Q(scope=BudgetScope.GLOBAL)
    if key_id is not None:
        applies |= models.Q(scope=BudgetScope.KEY, api_key_id=key_id)
    return statuses(Budget.objects.filter(applies, enabled=True).order_by("id"))


def statuses(budgets: Iterable[Budget]) -> list[BudgetStatus]:
    """Where budgets stand now, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    return [_status(budget, now) for budget in budgets]


def _status(budget: Budget, now: datetime) -> BudgetStatus:
    current = window(Period(budget.period), now, budget.time_zone)
    balance = BudgetPeriod.objects.filter(budget=budget, period_start=current.start, period_end=current.end).first()
    return BudgetStatus(
        budget=budget.name,
        scope=budget.scope,
        mode=budget.mode,
        period=budget.period,
        limit_usd=budget.limit_usd,
        posted_usd=balance.posted_usd if balance else Decimal(0),
        held_usd=balance.held_usd if balance else Decimal(0),
        resets_at=current.end,
    )
