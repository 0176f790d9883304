"""Which budgets apply to a request, and whether they have room for it. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounting import wildcards
from accounting.models import Budget, BudgetMode, BudgetScope
from accounting.periods import Period
from accounting.record import record
from accounting.refusals import BudgetExceeded, BudgetInFlight, BudgetRefusal, RequestExceedsBudget
from accounting.tags import Tags, has_tag

#: The scopes whose budgets decide for a step, and count what that step costs. All others count the whole request.
STEP_SCOPES = (BudgetScope.ALIAS, BudgetScope.PROVIDER)


def counts_step(scope: str, scope_value: str, *, alias: str, provider: str) -> bool:
    """Whether a budget of this scope counts a step of that alias at that provider."""
    match scope:
        case BudgetScope.ALIAS:
            return alias == scope_value or wildcards.is_of(scope_value, alias)
        case BudgetScope.PROVIDER:
            return provider == scope_value
        case _:
            return True


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A budget as the configuration's snapshot knows it. Its limit here is for proportions: whether there is room, the
    ledger decides by the limit that it reads under lock."""

    id: int
    name: str
    scope: str
    key_id: int | None
    scope_value: str
    mode: str
    period: Period
    time_zone: str
    limit_usd: Decimal

    def __hash__(self) -> int:
        return self.id  # a hash of all fields, several times a request, would take longer

    @property
    def is_of_steps(self) -> bool:
        return self.scope in STEP_SCOPES

    def counts_step(self, alias: str, provider: str) -> bool:
        return counts_step(self.scope, self.scope_value, alias=alias, provider=provider)

    def applies_to(self, *, key_id: int | None, alias: str, provider: str, end_user: str, tags: Tags) -> bool:
        match self.scope:
            case BudgetScope.GLOBAL:
                return True
            case BudgetScope.KEY:
                return key_id is not None and key_id == self.key_id
            case BudgetScope.ALIAS | BudgetScope.PROVIDER:
                return self.counts_step(alias, provider)
            case BudgetScope.USER:
                return end_user == self.scope_value
            case BudgetScope.TAG:
                return has_tag(tags, self.scope_value)
            case _:
                raise AssertionError(f"a budget with the scope {self.scope}")


@record(frozen=True, slots=True)
class Balance:
    """A budget period as read under its lock."""

    period_id: int
    budget: str
    mode: str
    scope: str
    scope_value: str
    limit_usd: Decimal
    posted_usd: Decimal
    held_usd: Decimal
    resets_at: datetime | None
    told_limit_usd: Decimal | None = None  # the last limit that its spending was told to have reached

    def moved(self, *, held_usd: Decimal, posted_usd: Decimal) -> Balance:
        """The balance after a hold or a settlement of the same transaction."""
        return Balance(  # `replace` would take ten times as long
            period_id=self.period_id,
            budget=self.budget,
            mode=self.mode,
            scope=self.scope,
            scope_value=self.scope_value,
            limit_usd=self.limit_usd,
            posted_usd=self.posted_usd + posted_usd,
            held_usd=self.held_usd + held_usd,
            resets_at=self.resets_at,
            told_limit_usd=self.told_limit_usd,
        )


def held_amount(mode: str, hold_usd: Decimal | None) -> Decimal:
    """What a request holds in a budget of this mode: only hard budgets hold."""
    return hold_usd or Decimal(0) if mode == BudgetMode.HARD else Decimal(0)


def refuse_without_room(balance: Balance, hold_usd: Decimal, *, topping_up: bool = False) -> None:
    """Raise the refusal that fits the balance, or return when the budget has room.

    A hard budget has room when ``posted + held + hold <= limit``. A soft budget refuses once ``posted`` has reached the
    limit. A top-up that is larger than the whole budget raises BudgetExceeded, not RequestExceedsBudget.
    """

    def details() -> tuple[str, Decimal, Decimal, Decimal, Decimal, datetime | None]:
        return (
            balance.budget,
            balance.limit_usd,
            balance.posted_usd,
            balance.held_usd,
            hold_usd,
            balance.resets_at,
        )

    if balance.mode == BudgetMode.ALERT:
        return
    if balance.mode == BudgetMode.SOFT:
        if balance.posted_usd >= balance.limit_usd:
            raise BudgetExceeded(*details())
        return
    if balance.posted_usd + balance.held_usd + hold_usd <= balance.limit_usd:
        return
    if hold_usd > balance.limit_usd and not topping_up and balance.posted_usd < balance.limit_usd:
        raise RequestExceedsBudget(*details())
    if balance.posted_usd + hold_usd > balance.limit_usd:
        raise BudgetExceeded(*details())
    raise BudgetInFlight(*details())


def most_lasting(refusals: Sequence[BudgetRefusal]) -> BudgetRefusal:
    """Of one request's refusals that which stands in its way for the longest, so that its client hears when it fits."""

    def lasts(refusal: BudgetRefusal) -> tuple[int, bool, float]:
        kind = (BudgetInFlight, BudgetExceeded, RequestExceedsBudget).index(type(refusal))
        return kind, refusal.resets_at is None, refusal.resets_at.timestamp() if refusal.resets_at else 0.0

    return max(refusals, key=lasts)


def load_rules() -> tuple[BudgetRule, ...]:
    """The enabled budgets, for the configuration's snapshot."""
    return tuple(rule_of(budget) for budget in Budget.objects.filter(enabled=True).order_by("id"))


def rule_of(budget: Budget) -> BudgetRule:
    return BudgetRule(
        id=budget.pk,
        name=budget.name,
        scope=budget.scope,
        key_id=budget.api_key_id,
        scope_value=budget.scope_value,
        mode=budget.mode,
        period=Period(budget.period),
        time_zone=budget.time_zone,
        limit_usd=budget.limit_usd,
    )


def applicable(
    rules: Iterable[BudgetRule],
    *,
    key_id: int | None,
    alias: str,
    provider: str,
    end_user: str,
    tags: Tags,
) -> tuple[BudgetRule, ...]:
    """The budgets that a step of a request counts against. ``alias`` and ``provider`` are the step's."""
    return tuple(
        rule
        for rule in rules
        if rule.applies_to(key_id=key_id, alias=alias, provider=provider, end_user=end_user, tags=tags)
    )
