"""The ledger in plain Python: what the books must say after each operation. No SQL, no locks, no batches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from accounting.periods import Period, Window, window
from accounting.refusals import BudgetExceeded, BudgetInFlight, Refusal, RequestExceedsBudget

NOTHING = Decimal(0)


@dataclass(frozen=True)
class Provider:
    """One provider's share of what a request cost."""

    name: str
    cost_usd: Decimal


@dataclass
class ModelBudget:
    id: int
    scope: str  # global, alias, user or provider
    value: str
    mode: str
    limit_usd: Decimal
    period: str
    time_zone: str
    enabled: bool = True

    def window(self, now: datetime) -> Window:
        return window(Period(self.period), now, self.time_zone)

    def concerns(self, entry: ModelEntry, provider: str) -> bool:
        return {
            "global": True,
            "alias": entry.alias == self.value,
            "user": entry.user == self.value,
            "provider": provider == self.value,
        }[self.scope]


@dataclass
class ModelEntry:
    alias: str
    user: str
    provider: str
    hold_usd: Decimal
    created_at: datetime
    state: str = "held"
    attempts: tuple[Provider, ...] = ()
    cost_usd: Decimal | None = None
    adjusted_usd: Decimal = NOTHING

    def paid_to(self, budget: ModelBudget) -> Decimal:
        """What the settled entry weighs in the budget, without adjustments."""
        cost_usd = self.cost_usd or NOTHING
        if budget.scope != "provider":
            return cost_usd
        if not self.attempts:  # its worker died, so its cost counts for its provider
            return cost_usd if self.provider == budget.value else NOTHING
        return sum((a.cost_usd for a in self.attempts if a.name == budget.value), NOTHING)


@dataclass
class Charge:
    held_usd: Decimal
    posted_usd: Decimal


PeriodKey = tuple[int, datetime, datetime | None]


@dataclass
class Books:
    """Entries, and what each weighs in which window. Balances are sums of charges, by definition."""

    budgets: dict[int, ModelBudget] = field(default_factory=dict)
    entries: dict[UUID, ModelEntry] = field(default_factory=dict)
    charges: dict[PeriodKey, dict[UUID, Charge]] = field(default_factory=dict)
    changed: set[PeriodKey] = field(default_factory=set)  # open windows whose budget was changed since they were used

    def budget_is_changed(self, budget: ModelBudget, now: datetime) -> None:
        self.changed |= {key for key in self.charges if key[0] == budget.id and (key[2] is None or key[2] > now)}

    def balance(self, key: PeriodKey) -> tuple[Decimal, Decimal]:
        """Posted and held."""
        charges = self.charges[key].values()
        return sum((c.posted_usd for c in charges), NOTHING), sum((c.held_usd for c in charges), NOTHING)

    def budget_of(self, key: PeriodKey) -> ModelBudget:
        return self.budgets[key[0]]

    # --- admission ----------------------------------------------------------------------------------------

    def hold(self, entry_id: UUID, entry: ModelEntry, now: datetime) -> type[Refusal] | None:
        """Admits the entry, or returns the refusal that must come."""
        keys = self._windows(entry, entry.provider, now)
        for key in keys:
            refusal = self._refusal(key, self._held(key, entry.hold_usd))
            if refusal is not None:
                return refusal
        self.entries[entry_id] = entry
        for key in keys:
            self.charges[key][entry_id] = Charge(self._held(key, entry.hold_usd), NOTHING)
        return None

    def top_up(
        self, entry_id: UUID, more_usd: Decimal, provider: str, known: set[int], now: datetime
    ) -> type[Refusal] | None:
        """More money for a running entry whose next attempt goes to that provider.

        ``known`` are the budgets on its receipt. The kind of a refusal is left open, because several budgets may
        refuse, each in its own way.
        """
        entry = self.entries[entry_id]
        further = self.top_up_windows(entry, provider, known, now)
        charged = [key for key in self.charges if entry_id in self.charges[key]]
        new = [key for key in further if key not in charged]
        weights = {key: self._held(key, more_usd) for key in charged}
        weights.update({key: self._held(key, entry.hold_usd + more_usd) for key in new})
        refusals = {
            refusal
            for key, held_usd in weights.items()
            if (refusal := self._refusal(key, held_usd, topping_up=key not in new)) is not None
        }
        if refusals:
            return next(iter(refusals)) if len(refusals) == 1 else Refusal
        entry.hold_usd += more_usd
        for key, held_usd in weights.items():
            self.charges[key].setdefault(entry_id, Charge(NOTHING, NOTHING)).held_usd += held_usd
        return None

    def top_up_windows(self, entry: ModelEntry, provider: str, known: set[int], now: datetime) -> list[PeriodKey]:
        return self._windows(entry, provider, now, without=known)

    def _windows(
        self, entry: ModelEntry, provider: str, now: datetime, without: Collection[int] = ()
    ) -> list[PeriodKey]:
        """The windows that apply, each with all that its scope has spent and holds in it."""
        keys = []
        for budget in sorted(self.budgets.values(), key=lambda b: b.id):
            if not budget.enabled or not budget.concerns(entry, provider) or budget.id in without:
                continue
            opened = budget.window(now)
            key = (budget.id, opened.start, opened.end)
            charges = self.charges.setdefault(key, {})
            for entry_id, other in self.entries.items():
                within = opened.start <= other.created_at and (opened.end is None or other.created_at < opened.end)
                providers = {other.provider, *(a.name for a in other.attempts)}
                if entry_id in charges or not within or not any(budget.concerns(other, p) for p in providers):
                    continue
                charges[entry_id] = self._late_charge(budget, other)
            if key in self.changed:  # running requests hold as the budget's mode is now
                self.changed.discard(key)
                for entry_id, charge in charges.items():
                    if self.entries[entry_id].state == "held":
                        charge.held_usd = self._held(key, self.entries[entry_id].hold_usd)
            keys.append(key)
        return keys

    def _late_charge(self, budget: ModelBudget, entry: ModelEntry) -> Charge:
        ours = budget.scope != "provider" or entry.provider == budget.value
        if entry.state == "held":
            return Charge(entry.hold_usd if budget.mode == "hard" and ours else NOTHING, NOTHING)
        return Charge(NOTHING, entry.paid_to(budget) + (entry.adjusted_usd if ours else NOTHING))

    def _held(self, key: PeriodKey, hold_usd: Decimal) -> Decimal:
        return hold_usd if self.budget_of(key).mode == "hard" else NOTHING

    def _refusal(self, key: PeriodKey, hold_usd: Decimal, *, topping_up: bool = False) -> type[Refusal] | None:
        budget, (posted_usd, held_usd) = self.budget_of(key), self.balance(key)
        if budget.mode == "alert":
            return None
        if budget.mode == "soft":
            return BudgetExceeded if posted_usd >= budget.limit_usd else None
        if posted_usd + held_usd + hold_usd <= budget.limit_usd:
            return None
        if hold_usd > budget.limit_usd and not topping_up and posted_usd < budget.limit_usd:
            return RequestExceedsBudget
        return BudgetExceeded if posted_usd + hold_usd > budget.limit_usd else BudgetInFlight

    # --- the end ------------------------------------------------------------------------------------------

    def settle(self, entry_id: UUID, attempts: tuple[Provider, ...], served: str, state: str) -> bool:
        entry = self.entries[entry_id]
        if entry.state not in ("held", "unknown"):
            return False
        others = {a.name for a in attempts if a.cost_usd} - {entry.provider}
        for key, charges in self.charges.items():  # budgets of other providers, named in the settlement or not
            budget, (_, start, end) = self.budget_of(key), key
            within = start <= entry.created_at and (end is None or entry.created_at < end)
            if budget.enabled and budget.scope == "provider" and budget.value in others and within:
                charges.setdefault(entry_id, Charge(NOTHING, NOTHING))
        entry.state, entry.attempts, entry.provider = state, attempts, served
        entry.cost_usd = sum((a.cost_usd for a in attempts), NOTHING)
        for key, charge in self._charges(entry_id):
            charge.held_usd, charge.posted_usd = NOTHING, entry.paid_to(self.budget_of(key))
        return True

    def expire(self, entry_id: UUID) -> None:
        """The entry becomes unknown, charged at the hold."""
        entry = self.entries[entry_id]
        entry.state, entry.cost_usd = "unknown", entry.hold_usd
        for key, charge in self._charges(entry_id):
            budget = self.budget_of(key)
            # Another provider's budget is charged what it held. Every other budget is charged the whole hold.
            of_another = budget.scope == "provider" and budget.value != entry.provider
            charge.posted_usd = charge.held_usd if of_another else entry.hold_usd
            charge.held_usd = NOTHING

    def resolve(self, entry_id: UUID, cost_usd: Decimal) -> None:
        entry = self.entries[entry_id]
        entry.state, entry.cost_usd = ("posted" if cost_usd else "voided"), cost_usd
        for key, charge in self._charges(entry_id):
            charge.posted_usd = entry.paid_to(self.budget_of(key))

    def adjust(self, entry_id: UUID, amount_usd: Decimal) -> None:
        entry = self.entries[entry_id]
        entry.adjusted_usd += amount_usd
        for key, charge in self._charges(entry_id):
            budget = self.budget_of(key)
            if budget.scope != "provider" or budget.value == entry.provider:
                charge.posted_usd += amount_usd

    def age(self, by: timedelta) -> None:
        """Everything written so far becomes that much older. Windows without an end stay as they are."""
        for entry in self.entries.values():
            entry.created_at -= by

        def older(key: PeriodKey) -> PeriodKey:
            return key if key[2] is None else (key[0], key[1] - by, key[2] - by)

        self.charges = {older(key): charges for key, charges in self.charges.items()}
        self.changed = {older(key) for key in self.changed}

    def _charges(self, entry_id: UUID) -> list[tuple[PeriodKey, Charge]]:
        return [(key, charges[entry_id]) for key, charges in self.charges.items() if entry_id in charges]
