"""One ledger transaction: many requests' holds, top-ups and settlements, decided together under the periods' locks.

Two round trips and one flush, however many operations it carries: read the clock and lock the entries and the periods
that they are known to weigh in; write and commit. When the books know of more periods than we do (a window that has
closed, a budget made while requests ran), the transaction begins again and takes a third. Outcomes are set on the
operations only after the commit.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounting.budgets import Balance, BudgetRule, held_amount, refuse_without_room
from accounting.ledger.records import HeldCharge, HeldRate, Hold, HoldRequest, Settlement, TopUpRequest
from accounting.ledger.rows import abandoned_row, attempt_rows, entry_row, settlement_row
from accounting.ledger.windows import WindowClosed, Windows
from accounting.models import BudgetMode, EntryState
from accounting.money import plain_usd
from accounting.postgres import pipeline
from accounting.postgres.pipeline import Connection
from accounting.rates import RateUse, refuse_over_limit
from accounting.refusals import ConfigurationChanged, HoldLost, Refusal, Unpriced

log = logging.getLogger("gateway.ledger")

SETTLED_NOW = "settled now"  # the state, within a batch, of an entry that the batch itself settles


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A hold whose request stopped waiting for it: void it if it was written after all."""

    entry_id: UUID


class Operation:
    """A payload on its way through the writer's queue. The request waits on ``done``."""

    __slots__ = ("_lock", "abandoned", "done", "outcome", "payload", "retry_at", "tries")

    def __init__(self, payload: HoldRequest | TopUpRequest | Settlement | Abandoned) -> None:
        self.payload = payload
        self.done = threading.Event()
        self.outcome: Hold | bool | Exception | None = None
        self.abandoned = False
        self.tries = 0  # that Postgres refused, alone
        self.retry_at = 0.0  # monotonic
        self._lock = threading.Lock()  # an outcome is either handed over or given up, never both

    def finish(self, outcome: Hold | bool | Exception) -> bool:
        """Hand the outcome over. False: nobody waits for it any more."""
        with self._lock:
            self.outcome = outcome
            self.done.set()
            return not self.abandoned

    def give_up(self) -> bool:
        """Stop waiting. False: the outcome came at the last moment and counts."""
        with self._lock:
            self.abandoned = not self.done.is_set()
            return self.abandoned


class MorePeriods(Exception):
    """The operations weigh in periods that were not expected, and locks are taken in one order only."""


class BudgetChanged(Exception):
    """A budget's change was committed after the configuration was read: its balance is not complete."""


class PeriodsVanished(Exception):
    """A known period's row is gone: the database was restored or emptied under us."""


def run(
    connection: Connection, operations: list[Operation], windows: Windows, writer_id: int
) -> list[tuple[Operation, Any]]:
    """Commit the operations in one transaction and return their outcomes, which the caller hands out.

    Raises psycopg.Error when nothing was committed, or when it is not known whether it was.
    """
    ahead = True
    for _ in range(8 + 2 * sum(map(_budget_count, operations))):  # each turn opens one more window, or fills one
        try:
            return _Transaction(connection, windows, writer_id).commit(operations, ahead=ahead)
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
    def __init__(self, connection: Connection, windows: Windows, writer_id: int) -> None:
        self.connection = connection
        self.windows = windows
        self.writer_id = writer_id
        self.balances: dict[int, Balance] = {}
        self.gaps: set[int] = set()  # the periods among them that lack something
        self.new_entries: list[dict[str, Any]] = []
        self.new_charges: list[dict[str, Any]] = []
        self.top_ups: list[dict[str, Any]] = []
        self.settled_entries: list[dict[str, Any]] = []
        self.settled_charges: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []
        self.spent: list[Balance] = []  # budgets that this transaction brings to their limit
        self.rates: dict[int, RateUse] = {}
        self.rate_changes: list[dict[str, Any]] = []
        self.outcomes: list[tuple[Operation, Any]] = []

    def commit(self, operations: list[Operation], *, ahead: bool) -> list[tuple[Operation, Any]]:
        """``ahead``: lock the periods that are expected with the entries, not after them. Raises MorePeriods."""
        self._lock(operations, self._expected_periods(operations) if ahead else [])
        self._lock_rates(operations)
        # What returns money comes first, so that it makes room for the holds of the same batch.
        for operation in operations:
            if isinstance(operation.payload, Settlement | Abandoned):
                self._settle(operation)
        for operation in operations:
            if isinstance(operation.payload, TopUpRequest):
                self._top_up(operation, operation.payload)
        for operation in operations:
            if isinstance(operation.payload, HoldRequest):
                self._hold(operation, operation.payload)
        self._write()
        for balance in self.spent:
            log.warning(
                "budget reached its limit",
                extra={
                    "budget": balance.budget,
                    "mode": balance.mode,
                    "limit_usd": plain_usd(balance.limit_usd),
                    "spent_usd": plain_usd(balance.posted_usd),
                },
            )
        return self.outcomes

    def _lock(self, operations: list[Operation], expected: list[int]) -> None:
        """Read the clock, lock the entries and then the periods, and learn what they hold."""
        entry_ids = [_entry_id(op.payload) for op in operations if not isinstance(op.payload, HoldRequest)]
        others = _other_providers(operations)
        statements: list[pipeline.Statement] = [("share_ledger", {}), ("read_clock", {})]
        if entry_ids:
            statements.append(("lock_entries", {"entry_ids": entry_ids}))
            if others:
                statements.append(("charge_other_providers", {"rows": json.dumps(others)}))
            statements.append(("entry_charges", {"entry_ids": entry_ids}))
        if expected:
            statements.append(("lock_periods", {"period_ids": expected}))
        _, ((self.version, self.now),), *more = pipeline.run(self.connection, statements)
        self.windows.at(self.version)
        locked, weighed = (more[0], more[2 if others else 1]) if entry_ids else ([], [])
        self.entries = {row[0]: row for row in locked}
        self.charges: dict[UUID, list[tuple[Any, ...]]] = {}
        for charge in weighed:
            self.charges.setdefault(charge[0], []).append(charge)
        needed = self._needed_periods(operations)
        if expected:
            self._read_balances(more[-1])
            if not needed <= self.balances.keys():
                raise MorePeriods
        elif needed:
            (periods,) = pipeline.run(self.connection, [("lock_periods", {"period_ids": sorted(needed)})])
            self._read_balances(periods)
            if len(self.balances) != len(needed):
                raise PeriodsVanished

    def _expected_periods(self, operations: Iterable[Operation]) -> list[int]:
        """The periods that the operations weigh in as far as this process knows; empty when it knows too little."""
        period_ids: set[int] = set()
        for operation in operations:
            payload = operation.payload
            if isinstance(payload, Abandoned):
                return []  # it carries no receipt
            if not isinstance(payload, HoldRequest):
                period_ids.update(charge.period_id for charge in payload.hold.charges)
            for rule in () if isinstance(payload, Settlement) else payload.budgets:
                known = self.windows.last_known(rule)
                if known is None:
                    return []
                period_ids.add(known)
        return sorted(period_ids)

    def _needed_periods(self, operations: Iterable[Operation]) -> set[int]:
        """The periods that the operations weigh in. Raises WindowClosed."""
        period_ids = {charge[1] for charges in self.charges.values() for charge in charges}
        for operation in operations:
            payload = operation.payload
            if isinstance(payload, HoldRequest):
                if payload.configuration_version == self.version:
                    period_ids.update(self.windows.period_id(rule, self.now) for rule in payload.budgets)
            elif isinstance(payload, TopUpRequest):
                # Charged to the periods in which it was admitted, whatever the time is now.
                period_ids.update(self.windows.period_id(rule, self.now) for rule in payload.budgets)
        return period_ids

    def _read_balances(self, periods: pipeline.Rows) -> None:
        for period_id, posted_usd, held_usd, limit_usd, mode, name, period_end, has_gap in periods:
            if has_gap:
                self.gaps.add(period_id)
            self.balances[period_id] = Balance(period_id, name, mode, limit_usd, posted_usd, held_usd, period_end)

    def _lock_rates(self, operations: Iterable[Operation]) -> None:
        limited: set[int] = set()
        for operation in operations:
            payload = operation.payload
            if isinstance(payload, HoldRequest) and payload.limits and payload.key_id is not None:
                limited.add(payload.key_id)
            elif isinstance(payload, Settlement) and payload.hold.rate is not None:
                limited.add(payload.hold.rate.key_id)
        key_ids = sorted(limited)
        if not key_ids:
            return
        values = {"key_ids": key_ids}
        used, counted = pipeline.run(self.connection, [("lock_rates", values), ("running_requests", values)])
        running: dict[int, int] = dict(counted)
        minute = self.now.replace(second=0, microsecond=0)
        for key_id, requests, tokens in used:
            self.rates[key_id] = RateUse(minute, requests, tokens, running.get(key_id, 0))

    def _settle(self, operation: Operation) -> None:
        payload = operation.payload
        assert isinstance(payload, Settlement | Abandoned)
        entry_id = _entry_id(payload)
        entry = self.entries.get(entry_id)
        if entry is None or entry[1] not in (EntryState.HELD, EntryState.UNKNOWN):
            # Already settled. By an operator, who was faster: the attempts are facts all the same. Otherwise this is
            # a repetition, and they are there.
            if entry is not None and entry[5] and isinstance(payload, Settlement):
                self.attempts.extend(attempt_rows(payload))
            self.outcomes.append((operation, False))
            return
        for _, period_id, held_usd, posted_usd, scope, scope_value, _mode in self.charges.get(entry_id, ()):
            cost_usd = payload.posted_usd(scope, scope_value) if isinstance(payload, Settlement) else Decimal(0)
            self.settled_charges.append(
                {"entry_id": str(entry_id), "period_id": period_id, "posted_usd": str(cost_usd)}
            )
            balance = self.balances[period_id]
            self.balances[period_id] = moved = balance.moved(held_usd=-held_usd, posted_usd=cost_usd - posted_usd)
            if balance.posted_usd < balance.limit_usd <= moved.posted_usd:
                self.spent.append(moved)
        if isinstance(payload, Settlement):
            self.settled_entries.append(settlement_row(payload))
            self.attempts.extend(attempt_rows(payload))
            rate = payload.hold.rate
            if rate is not None:
                used = payload.usage.input_tokens + payload.usage.output_tokens
                self._count(rate.key_id, rate.minute, requests=0, tokens=used - rate.tokens)
        else:
            self.settled_entries.append(abandoned_row(payload.entry_id, provider=entry[3]))
        # Once: a second settlement, or a top-up, of the same entry may be in the same batch.
        self.entries[entry_id] = (entry_id, SETTLED_NOW, *entry[2:])
        self.outcomes.append((operation, True))

    def _hold(self, operation: Operation, request: HoldRequest) -> None:
        if request.configuration_version != self.version:
            self.outcomes.append((operation, ConfigurationChanged()))
            return
        charges: list[HeldCharge] = []
        rate = None
        try:
            rate = self._rate(request)
            for rule in request.budgets:
                period_id = self.windows.period_id(rule, self.now)
                if period_id in self.gaps:
                    raise BudgetChanged
                charges.append(self._charge(rule, period_id, request.hold_usd, request.provider, request.model))
        except Refusal as refusal:
            self.outcomes.append((operation, refusal))
            return
        if rate is not None:
            self.rates[rate.key_id] = self.rates[rate.key_id].with_request(rate.tokens)
            self._count(rate.key_id, rate.minute, requests=1, tokens=rate.tokens)
        self._weigh(request.entry_id, {charge.period_id: charge.held_usd for charge in charges})
        self.new_entries.append(entry_row(request, self.writer_id))
        hold = Hold(request.entry_id, self.now, request.provider, request.hold_usd, tuple(charges), rate)
        self.outcomes.append((operation, hold))

    def _rate(self, request: HoldRequest) -> HeldRate | None:
        """How the request counts in its key's minute. Raises RateLimited."""
        if request.key_id is None or not request.limits:
            return None
        use = self.rates[request.key_id]
        status = refuse_over_limit(request.limits, use, request.ceiling_tokens, self.now)
        return HeldRate(request.key_id, use.minute, request.ceiling_tokens, status)

    def _count(self, key_id: int, minute: datetime, *, requests: int, tokens: int) -> None:
        self.rate_changes.append(
            {"key_id": key_id, "minute": minute.isoformat(), "requests": requests, "tokens": tokens}
        )

    def _charge(
        self, rule: BudgetRule, period_id: int, hold_usd: Decimal | None, provider: str, model: str
    ) -> HeldCharge:
        """What a hold weighs in one budget. Raises the refusal when it has no room."""
        balance = self.balances[period_id]
        if hold_usd is None and balance.mode == BudgetMode.HARD:
            raise Unpriced(provider, model, balance.budget)
        held_usd = held_amount(balance.mode, hold_usd)
        refuse_without_room(balance, held_usd)
        return HeldCharge(period_id, rule, held_usd)

    def _top_up(self, operation: Operation, request: TopUpRequest) -> None:
        hold = request.hold
        entry = self.entries.get(hold.entry_id)
        if entry is None or entry[1] != EntryState.HELD:
            self.outcomes.append((operation, HoldLost()))
            return
        hold_usd = None if hold.hold_usd is None else hold.hold_usd + request.more_usd
        charges = {charge.period_id: charge for charge in hold.charges}
        more: dict[int, Decimal] = {}
        try:
            # As the books have them: a budget made while the request ran is not on its receipt.
            for _, period_id, *_ in self.charges.get(hold.entry_id, ()):
                balance = self.balances[period_id]
                more[period_id] = held_amount(balance.mode, request.more_usd)
                refuse_without_room(balance, more[period_id], topping_up=True)
            for rule in request.budgets:
                period_id = self.windows.period_id(rule, self.now)
                if period_id not in more:
                    charges[period_id] = self._charge(rule, period_id, hold_usd, "", "")
                    more[period_id] = charges[period_id].held_usd
        except Refusal as refusal:
            self.outcomes.append((operation, refusal))
            return
        grown = tuple(
            replace(charge, held_usd=charge.held_usd + more[period_id]) if charge in hold.charges else charge
            for period_id, charge in charges.items()
        )
        self._weigh(hold.entry_id, more)
        self.top_ups.append({"id": str(hold.entry_id), "more_usd": str(request.more_usd)})
        self.outcomes.append((operation, replace(hold, hold_usd=hold_usd, charges=grown)))

    def _weigh(self, entry_id: UUID, held: Mapping[int, Decimal]) -> None:
        """Hold these amounts more, by period."""
        for period_id, held_usd in held.items():
            self.balances[period_id] = self.balances[period_id].moved(held_usd=held_usd, posted_usd=Decimal(0))
            self.new_charges.append({"entry_id": str(entry_id), "period_id": period_id, "held_usd": str(held_usd)})

    def _write(self) -> None:
        statements = (
            ("settle_charges", self.settled_charges),
            ("settle_entries", self.settled_entries),
            ("insert_attempts", self.attempts),
            ("insert_entries", self.new_entries),
            ("top_up_entries", self.top_ups),
            ("hold_charges", self.new_charges),
            ("count_rates", self.rate_changes),
        )
        written: list[pipeline.Statement] = [(name, {"rows": json.dumps(rows)}) for name, rows in statements if rows]
        pipeline.run(self.connection, written, commit=True)


def _budget_count(operation: Operation) -> int:
    return len(operation.payload.budgets) if isinstance(operation.payload, HoldRequest | TopUpRequest) else 0


def _other_providers(operations: Iterable[Operation]) -> list[dict[str, str]]:
    """For charge_other_providers.sql: whom the settlements have paid besides the provider they were admitted for."""
    rows = []
    for operation in operations:
        if isinstance(settlement := operation.payload, Settlement):
            paid = {attempt.provider for attempt in settlement.attempts if attempt.cost_usd}
            entry_id = str(settlement.hold.entry_id)
            rows += [{"entry_id": entry_id, "provider": other} for other in paid - {settlement.hold.provider}]
    return rows


def _entry_id(payload: TopUpRequest | Settlement | Abandoned | HoldRequest) -> UUID:
    return payload.entry_id if isinstance(payload, HoldRequest | Abandoned) else payload.hold.entry_id
