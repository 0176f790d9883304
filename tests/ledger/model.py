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


Place = tuple[str, str]  # a step's alias and provider


@dataclass(frozen=True)
class Step:
    """One step's share of what a request cost."""

    place: Place
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

    @property
    def is_of_steps(self) -> bool:
        return self.scope in ("alias", "provider")

    def concerns(self, entry: ModelEntry, place: Place) -> bool:
        return {"global": True, "user": entry.user == self.value}.get(self.scope, self.counts(place))

    def counts(self, place: Place) -> bool:
        return {"alias": place[0] == self.value, "provider": place[1] == self.value}.get(self.scope, True)


@dataclass
class ModelEntry:
    place: Place
    user: str
    hold_usd: Decimal
    created_at: datetime
    state: str = "held"
    attempts: tuple[Step, ...] = ()
    cost_usd: Decimal | None = None
    adjusted_usd: Decimal = NOTHING

    def paid_to(self, budget: ModelBudget) -> Decimal:
        """What the settled entry weighs in the budget, without adjustments."""
        cost_usd = self.cost_usd or NOTHING
        if not budget.is_of_steps:
            return cost_usd
        if not self.attempts:  # its worker died, so its cost counts for its step
            return cost_usd if budget.counts(self.place) else NOTHING
        return sum((a.cost_usd for a in self.attempts if budget.counts(a.place)), NOTHING)


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
        keys = self._windows(entry, entry.place, now)
        refusals = [(self._refusal(key, self._held(key, entry.hold_usd)), key[2]) for key in keys]
        lasting = [
            ((BudgetInFlight, BudgetExceeded, RequestExceedsBudget).index(refusal), end is None, end or now, refusal)
            for refusal, end in refusals
            if refusal is not None
        ]
        if lasting:
            return max(lasting, key=lambda found: found[:3])[3]
        self.entries[entry_id] = entry
        for key in keys:
            self.charges[key][entry_id] = Charge(self._held(key, entry.hold_usd), NOTHING)
        return None

    def top_up(
        self, entry_id: UUID, more_usd: Decimal, step_usd: Decimal, place: Place, *, known: set[int], now: datetime
    ) -> type[Refusal] | None:
        """More money for a running entry whose next attempt goes to that step, whose budgets then hold ``step_usd``.

        ``known`` are the budgets on its receipt. The kind of a refusal is left open, because several budgets may
        refuse, each in its own way.
        """
        entry = self.entries[entry_id]
        further = self.top_up_windows(entry, place, known, now)
        charged = [key for key in self.charges if entry_id in self.charges[key]]
        new = [key for key in further if key not in charged]
        asked: dict[PeriodKey, Decimal] = {}
        for key in (*charged, *new):
            budget = self.budget_of(key)
            held_usd = self.charges[key][entry_id].held_usd if key in charged else NOTHING
            if not budget.is_of_steps:
                asked[key] = more_usd if key in charged else entry.hold_usd + more_usd
            else:
                asked[key] = max(NOTHING, step_usd - held_usd) if budget.counts(place) else NOTHING
        weights = {key: self._held(key, amount) for key, amount in asked.items()}
        refusals = {
            refusal
            for key, held_usd in weights.items()
            if asked[key] and (refusal := self._refusal(key, held_usd, topping_up=key not in new)) is not None
        }
        if refusals:
            return next(iter(refusals)) if len(refusals) == 1 else Refusal
        entry.hold_usd += more_usd
        for key, held_usd in weights.items():
            self.charges[key].setdefault(entry_id, Charge(NOTHING, NOTHING)).held_usd += held_usd
        return None

    def top_up_windows(self, entry: ModelEntry, place: Place, known: set[int], now: datetime) -> list[PeriodKey]:
        return self._windows(entry, place, now, without=known)

    def _windows(
        self, entry: ModelEntry, place: Place, now: datetime, without: Collection[int] = ()
    ) -> list[PeriodKey]:
        """The windows that apply, each with all that its scope has spent and holds in it."""
        keys = []
        for budget in sorted(self.budgets.values(), key=lambda b: b.id):
            if not budget.enabled or not budget.concerns(entry, place) or budget.id in without:
                continue
            opened = budget.window(now)
            key = (budget.id, opened.start, opened.end)
            charges = self.charges.setdefault(key, {})
            for entry_id, other in self.entries.items():
                within = opened.start <= other.created_at and (opened.end is None or other.created_at < opened.end)
                places = {other.place, *(a.place for a in other.attempts)}
                if entry_id in charges or not within or not any(budget.concerns(other, p) for p in places):
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
        ours = budget.counts(entry.place)
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

    def settle(self, entry_id: UUID, attempts: tuple[Step, ...], served: Place, state: str) -> bool:
        entry = self.entries[entry_id]
        if entry.state not in ("held", "unknown"):
            return False
        others = {a.place for a in attempts if a.cost_usd} - {entry.place}
        for key, charges in self.charges.items():  # budgets of other steps, named in the settlement or not
            budget, (_, start, end) = self.budget_of(key), key
            within = start <= entry.created_at and (end is None or entry.created_at < end)
            if budget.enabled and budget.is_of_steps and any(map(budget.counts, others)) and within:
                charges.setdefault(entry_id, Charge(NOTHING, NOTHING))
        entry.state, entry.attempts, entry.place = state, attempts, served
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
            # Another step's budget is charged what it held. Every other budget is charged the whole hold.
            charge.posted_usd = entry.hold_usd if budget.counts(entry.place) else charge.held_usd
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
            if budget.counts(entry.place):
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
