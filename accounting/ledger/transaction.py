"""One ledger transaction: many requests' holds, top-ups and settlements, decided together under the periods' locks.

As a rule it takes two round trips and one flush, however many operations it carries. The first reads the clock and
locks the entries and the periods that they are known to weigh in; the second writes and commits. Between the two, keys
with rate limits take one more. When the books know of more periods than this process does (a window has closed, a
budget was made while requests ran), the transaction begins again and locks the periods in a round trip of their own.
Operations learn of their outcomes only after the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from accounting import json_text
from accounting.budgets import (
    STEP_SCOPES,
    Balance,
    BudgetRule,
    counts_step,
    held_amount,
    refuse_without_room,
)
from accounting.ledger import limits
from accounting.ledger.admitting import admitted, held_charge
from accounting.ledger.operations import AnyDecision, AnyOperation, Batch, Decision, Holding, Settling, ToppingUp
from accounting.ledger.records import Hold, Settlement, TopUpRequest, Withdrawal
from accounting.ledger.rows import (
    EntryCharge,
    JsonRow,
    LockedEntry,
    attempt_rows,
    balance_of,
    entry_row,
    entry_text,
    movement_row,
    settlement_row,
    withdrawal_row,
)
from accounting.ledger.windows import WindowClosed, Windows
from accounting.models import EntryState
from accounting.postgres import pipeline
from accounting.postgres.pipeline import Connection
from accounting.rates import RateUse
from accounting.refusals import HoldLost, Refusal

SETTLED_NOW = "settled now"  # the state, within a batch, of an entry that the batch itself settles


class MorePeriods(Exception):
    """The operations weigh in periods that were not expected and so not locked. All are locked at once, in id order."""


class BudgetChanged(Exception):
    """A budget's change was committed after the configuration was read, so its balance is not complete."""


class PeriodsVanished(Exception):
    """A known period's row is gone, because the database was restored or emptied under us."""


def run(
    connection: Connection, operations: Sequence[AnyOperation], windows: Windows, writer_id: int
) -> list[AnyDecision]:
    """Commit the operations in one transaction and return the decisions, which the caller hands over.

    Raises psycopg.Error when nothing was committed, or when it is not known whether it was.
    """
    batch = Batch.of(operations)
    ahead = True
    for _ in range(8 + 2 * len(list(batch.budgets()))):  # each turn opens a window, or fills it
        try:
            return _Transaction(connection, batch, windows, writer_id).commit(ahead=ahead)
        except MorePeriods:
            connection.rollback()
            ahead = False
        except WindowClosed as closed:
            connection.rollback()
            windows.open(connection, closed.rule)
        except (PeriodsVanished, BudgetChanged):
            connection.rollback()
            windows.forget()
    raise AssertionError("budget windows do not stay open")


class _Transaction:
    def __init__(self, connection: Connection, batch: Batch, windows: Windows, writer_id: int) -> None:
        self.connection = connection
        self.batch = batch
        self.windows = windows
        self.writer_id = writer_id
        self.entry_ids: list[str] = []  # of what is to be settled and topped up, found or not
        self.entries: dict[UUID, LockedEntry] = {}
        self.charges: dict[UUID, list[EntryCharge]] = {}
        self.balances: dict[int, Balance] = {}  # as the operations decided so far leave them
        self.locked_balances: dict[int, Balance] = {}  # as they were read
        self.gaps: set[int] = set()  # the periods among them that lack something
        self.new_entries: list[JsonRow] = []
        self.new_charges: list[JsonRow] = []
        self.top_ups: list[JsonRow] = []
        self.settled_entries: list[JsonRow] = []
        self.settled_charges: dict[int, JsonRow] = {}
        self.attempts: list[JsonRow] = []
        self.told: list[JsonRow] = []  # limits that are reached and that nobody was told of
        self.rates: dict[int, RateUse] = {}
        self.rate_changes: list[JsonRow] = []
        self.decisions: list[AnyDecision] = []

    def commit(self, *, ahead: bool) -> list[AnyDecision]:
        """``ahead``: lock the periods that are expected with the entries, not after them. Raises MorePeriods."""
        self._lock(self._expected_periods() if ahead else [])
        self._lock_rates()
        for settling in self.batch.settling:
            self._settle(settling)
        for topping_up in self.batch.topping_up:
            self._top_up(topping_up)
        for holding in self.batch.holding:
            self._hold(holding)
        reached = limits.newly_reached(self.balances.values())
        self.told = [limits.told_row(balance) for balance in reached]
        self._write()
        limits.tell(reached)
        return self.decisions

    def _lock(self, expected: list[int]) -> None:
        """Read the clock, lock the entries and then the periods, and learn what they hold."""
        entry_ids = [entry_text(operation.payload.entry_id) for operation in self.batch.settling]
        entry_ids += [entry_text(operation.payload.entry_id) for operation in self.batch.topping_up]
        self.entry_ids = entry_ids
        others = self._other_steps()
        statements: list[pipeline.Statement] = [("share_ledger", {}), ("read_clock", {})]
        if entry_ids:
            statements.append(("lock_entries", {"entry_ids": entry_ids}))
            if others:
                statements.append(("charge_other_steps", {"rows": json_text.dumps(others), "entry_ids": entry_ids}))
            statements.append(("entry_charges", {"entry_ids": entry_ids}))
        if expected:
            statements.append(("lock_periods", {"period_ids": expected}))
        _, ((self.version, self.now),), *more = pipeline.run(self.connection, statements)
        self.windows.at(self.version)
        locked, weighed = (more[0], more[2 if others else 1]) if entry_ids else ([], [])
        for entry in map(LockedEntry._make, locked):
            self.entries[entry.id] = entry
        for charge in map(EntryCharge._make, weighed):
            self.charges.setdefault(charge.entry_id, []).append(charge)
        needed = self._needed_periods()
        if expected:
            self._read_balances(more[-1])
            if not needed <= self.balances.keys():
                raise MorePeriods
        elif needed:
            (periods,) = pipeline.run(self.connection, [("lock_periods", {"period_ids": sorted(needed)})])
            self._read_balances(periods)
            if len(self.balances) != len(needed):
                raise PeriodsVanished

    def _expected_periods(self) -> list[int]:
        """The periods that the operations weigh in as far as this process knows; empty when it knows too little."""
        period_ids: set[int] = set()
        for settling in self.batch.settling:
            if isinstance(settling.payload, Withdrawal):
                return []  # it has no receipt that would name them
            period_ids.update(charge.period_id for charge in settling.payload.hold.charges)
        for topping_up in self.batch.topping_up:
            period_ids.update(charge.period_id for charge in topping_up.payload.hold.charges)
        for rule in self.batch.budgets():
            known = self.windows.last_known(rule)
            if known is None:
                return []
            period_ids.add(known)
        return sorted(period_ids)

    def _needed_periods(self) -> set[int]:
        """The periods that the operations weigh in. Raises WindowClosed."""
        period_ids = {charge.period_id for charges in self.charges.values() for charge in charges}
        for topping_up in self.batch.topping_up:
            # What it holds already stays in the periods in which it was admitted, whatever the time is now.
            period_ids.update(self.windows.period_id(rule, self.now) for rule in topping_up.payload.budgets)
        for request in (holding.payload for holding in self.batch.holding):
            if request.configuration_version == self.version:
                period_ids.update(self.windows.period_id(rule, self.now) for rule in request.budgets)
        return period_ids

    def _other_steps(self) -> list[JsonRow]:
        """For charge_other_steps.sql: whom settlements have paid besides the step they were admitted for."""
        rows: list[JsonRow] = []
        for settlement in (settling.payload for settling in self.batch.settling):
            if isinstance(settlement, Settlement):
                paid = {(attempt.alias, attempt.provider) for attempt in settlement.attempts if attempt.cost_usd}
                rows += [
                    {"entry_id": entry_text(settlement.entry_id), "alias": alias, "provider": provider}
                    for alias, provider in paid - {(settlement.hold.alias, settlement.hold.provider)}
                ]
        return rows

    def _read_balances(self, periods: pipeline.Rows) -> None:
        for row in periods:
            balance = balance_of(row)
            if row[7]:  # has_gap
                self.gaps.add(balance.period_id)
            self.balances[balance.period_id] = self.locked_balances[balance.period_id] = balance

    def _lock_rates(self) -> None:
        limited: set[int] = set()
        for settlement in (settling.payload for settling in self.batch.settling):
            if isinstance(settlement, Settlement) and settlement.hold.rate is not None:
                limited.add(settlement.hold.rate.key_id)
        for request in (holding.payload for holding in self.batch.holding):
            if request.limits and request.key_id is not None:
                limited.add(request.key_id)
        key_ids = sorted(limited)
        if not key_ids:
            return
        values = {"key_ids": key_ids}
        used, counted = pipeline.run(self.connection, [("lock_rates", values), ("running_requests", values)])
        running: dict[int, int] = dict(counted)
        minute = self.now.replace(second=0, microsecond=0)
        for key_id, requests, tokens in used:
            self.rates[key_id] = RateUse(minute, requests, tokens, running.get(key_id, 0))

    def _settle(self, operation: Settling) -> None:
        payload = operation.payload
        entry = self.entries.get(payload.entry_id)
        if entry is None or entry.state not in (EntryState.HELD, EntryState.UNKNOWN):
            # Settled before. If an operator was faster, the attempts are facts all the same. Otherwise this is a
            # repetition, and they are on the books.
            if entry is not None and entry.resolved_by and isinstance(payload, Settlement):
                self.attempts.extend(attempt_rows(payload))
            self.decisions.append(Decision(operation, False))
            return
        for charge in self.charges.get(entry.id, ()):
            balance = self.balances[charge.period_id]
            cost_usd = Decimal(0)
            if isinstance(payload, Settlement):
                cost_usd = payload.posted_usd(balance.scope, balance.scope_value)
            self.settled_charges[charge.id] = {"id": charge.id, "posted_usd": str(cost_usd)}
            self.balances[charge.period_id] = balance.moved(
                held_usd=-charge.held_usd, posted_usd=cost_usd - charge.posted_usd
            )
        if isinstance(payload, Settlement):
            self.settled_entries.append(settlement_row(payload))
            self.attempts.extend(attempt_rows(payload))
            rate = payload.hold.rate
            if rate is not None:
                used = payload.usage.input_tokens + payload.usage.output_tokens
                self._count(rate.key_id, rate.minute, requests=0, tokens=used - rate.tokens)
        else:
            self.settled_entries.append(withdrawal_row(payload, alias=entry.alias, provider=entry.provider))
        # Only once: the same batch may have a second settlement, or a top-up, of the same entry.
        self.entries[entry.id] = entry._replace(state=SETTLED_NOW)
        self.decisions.append(Decision(operation, True))

    def _hold(self, operation: Holding) -> None:
        request = operation.payload
        try:
            found = admitted(
                request, self._balance_without_gap, self.rates.__getitem__, version=self.version, now=self.now
            )
        except Refusal as refusal:
            self.decisions.append(Decision(operation, refusal))
            return
        charges, rate = found.charges, found.rate
        if rate is not None:
            self.rates[rate.key_id] = self.rates[rate.key_id].with_request(rate.tokens)
            self._count(rate.key_id, rate.minute, requests=1, tokens=rate.tokens)
        self._weigh(request.entry_id, {charge.period_id: charge.held_usd for charge in charges})
        self.new_entries.append(entry_row(request, self.writer_id))
        alias = request.step_alias or request.alias
        hold = Hold(request.entry_id, self.now, alias, request.provider, request.hold_usd, charges, rate)
        self.decisions.append(Decision(operation, hold))

    def _balance_without_gap(self, rule: BudgetRule) -> Balance:
        """Raises BudgetChanged, or WindowClosed."""
        period_id = self.windows.period_id(rule, self.now)
        if period_id in self.gaps:
            raise BudgetChanged
        return self.balances[period_id]

    def _count(self, key_id: int, minute: datetime, *, requests: int, tokens: int) -> None:
        self.rate_changes.append(
            {"key_id": key_id, "minute": minute.isoformat(), "requests": requests, "tokens": tokens}
        )

    def _top_up(self, operation: ToppingUp) -> None:
        request = operation.payload
        hold = request.hold
        entry = self.entries.get(hold.entry_id)
        if entry is None or entry.state != EntryState.HELD:
            self.decisions.append(Decision(operation, HoldLost()))
            return
        hold_usd = None if hold.hold_usd is None else hold.hold_usd + request.more_usd
        charges = {charge.period_id: charge for charge in hold.charges}
        more: dict[int, Decimal] = {}
        try:
            # Read from the books: a budget made while the request ran is not on its receipt.
            for charge in self.charges.get(hold.entry_id, ()):
                balance = self.balances[charge.period_id]
                more_usd = _more_usd(request, charge, balance)
                more[charge.period_id] = held_amount(balance.mode, more_usd)
                if more_usd:
                    refuse_without_room(balance, more[charge.period_id], topping_up=True)
            for rule in request.budgets:
                period_id = self.windows.period_id(rule, self.now)
                if period_id not in more:
                    step_usd = hold_usd if request.step_usd is None or not rule.is_of_steps else request.step_usd
                    charges[period_id] = held_charge(rule, self.balances[period_id], step_usd, "", "")
                    more[period_id] = charges[period_id].held_usd
        except Refusal as refusal:
            self.decisions.append(Decision(operation, refusal))
            return
        grown = tuple(
            replace(held, held_usd=held.held_usd + more[period_id]) if held in hold.charges else held
            for period_id, held in charges.items()
        )
        self._weigh(hold.entry_id, more)
        self.top_ups.append({"id": entry_text(hold.entry_id), "more_usd": str(request.more_usd)})
        self.decisions.append(Decision(operation, replace(hold, hold_usd=hold_usd, charges=grown)))

    def _weigh(self, entry_id: UUID, held: Mapping[int, Decimal]) -> None:
        """Add these amounts, by period, to what the entry holds."""
        entry = entry_text(entry_id)
        for period_id, held_usd in held.items():
            self.balances[period_id] = self.balances[period_id].moved(held_usd=held_usd, posted_usd=Decimal(0))
            self.new_charges.append({"entry_id": entry, "period_id": period_id, "held_usd": str(held_usd)})

    def _write(self) -> None:
        moved = {
            period_id: balance
            for period_id, balance in self.balances.items()
            if balance != self.locked_balances[period_id]
        }
        movements = [movement_row(self.locked_balances[period_id], balance) for period_id, balance in moved.items()]
        statements: tuple[tuple[str, Collection[JsonRow], Mapping[str, object]], ...] = (
            ("settle_charges", self.settled_charges.values(), {"charge_ids": list(self.settled_charges)}),
            ("settle_entries", self.settled_entries, {"entry_ids": self.entry_ids}),
            ("insert_attempts", self.attempts, {}),
            ("insert_entries", self.new_entries, {}),
            ("top_up_entries", self.top_ups, {"entry_ids": self.entry_ids}),
            ("hold_charges", self.new_charges, {}),
            ("move_balances", movements, {"period_ids": list(moved)}),
            ("tell_limits", self.told, {}),
            ("count_rates", self.rate_changes, {}),
        )
        written: list[pipeline.Statement] = [
            (name, {"rows": json_text.dumps(list(rows)), **keys}) for name, rows, keys in statements if rows
        ]
        pipeline.run(self.connection, written, commit=True)


def _more_usd(request: TopUpRequest, charge: EntryCharge, balance: Balance) -> Decimal:
    """What the request is to hold beyond what it holds in this budget."""
    if balance.scope not in STEP_SCOPES:
        return request.more_usd
    alias, provider = request.alias or request.hold.alias, request.provider or request.hold.provider
    if not counts_step(balance.scope, balance.scope_value, alias=alias, provider=provider):
        return Decimal(0)
    if request.step_usd is None:
        return request.more_usd
    return max(Decimal(0), request.step_usd - charge.held_usd)
