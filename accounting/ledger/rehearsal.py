"""What the ledger would say to a request, by the decision that it makes for true ones. Nothing of it stays.

It reads without locks, on a connection of its caller's. A budget's window that no request has opened yet, or that lacks
what was spent before its budget was made, is opened and filled as for a true request, in a transaction that is then
rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import Error, connection, transaction
from django.db.backends.utils import CursorWrapper

from accounting import sql
from accounting.budgets import Balance, BudgetRule
from accounting.ledger.admitting import admitted
from accounting.ledger.records import Hold, HoldRequest
from accounting.ledger.rows import balance_of
from accounting.periods import window
from accounting.rates import RateUse
from accounting.refusals import LedgerUnavailable


@dataclass(frozen=True)
class Books:
    """What requests are decided on, at one moment."""

    version: int
    now: datetime
    balances: Mapping[BudgetRule, Balance]
    use: RateUse | None  # of a key with rate limits


def read(rules: Iterable[BudgetRule], key_id: int | None) -> Books:
    """The books as these budgets, and the key with this id when it has limits, stand now. Raises LedgerUnavailable."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                books = _read(cursor, dict.fromkeys(rules), key_id)
            transaction.set_rollback(True)
            return books
    except Error as error:
        raise LedgerUnavailable("the ledger cannot be read") from error


def would_hold(request: HoldRequest) -> Hold:
    """The receipt that ``accounting.ledger.hold`` would give now. Raises the Refusal that it would raise."""
    books = read(request.budgets, request.key_id if request.limits else None)

    def use_of(_: int) -> RateUse:
        assert books.use is not None
        return books.use

    found = admitted(request, books.balances.__getitem__, use_of, version=books.version, now=books.now)
    alias = request.step_alias or request.alias
    return Hold(request.entry_id, books.now, alias, request.provider, request.hold_usd, found.charges, found.rate)


def _read(cursor: CursorWrapper, rules: Iterable[BudgetRule], key_id: int | None) -> Books:
    cursor.execute(sql.load("read_clock"))
    version, now = cursor.fetchone()
    period_ids = {rule: _period_id(cursor, rule, now) for rule in rules}
    cursor.execute(sql.load("read_periods"), {"period_ids": list(period_ids.values())})
    balances = {balance.period_id: balance for balance in map(balance_of, cursor.fetchall())}
    use = None if key_id is None else _use(cursor, key_id, now)
    return Books(version, now, {rule: balances[period_id] for rule, period_id in period_ids.items()}, use)


def _period_id(cursor: CursorWrapper, rule: BudgetRule, now: datetime) -> int:
    """Of the rule's window, which has no gap for the rest of this transaction."""
    opened = window(rule.period, now, rule.time_zone)
    values: dict[str, int | str | datetime | None] = {
        "budget_id": rule.id,
        "period_start": opened.start,
        "period_end": opened.end,
        "period": rule.period.value,
        "time_zone": rule.time_zone,
    }
    cursor.execute(sql.load("find_period"), values)
    found = cursor.fetchone()
    if found is None:
        cursor.execute(sql.load("open_period"), values)
        opened_by_us = cursor.fetchone()
        cursor.execute(sql.load("find_period"), values)  # whoever has opened it
        period_id, has_gap = cursor.fetchone()
        has_gap = has_gap or opened_by_us is not None
    else:
        period_id, has_gap = found
    if has_gap:
        cursor.execute(sql.load("backfill_period"), {**values, "period_id": period_id})
    return int(period_id)


def _use(cursor: CursorWrapper, key_id: int, now: datetime) -> RateUse:
    cursor.execute(sql.load("read_rates"), {"key_ids": [key_id]})
    _, requests, tokens = cursor.fetchone() or (key_id, 0, 0)
    cursor.execute(sql.load("running_requests"), {"key_ids": [key_id]})
    _, running = cursor.fetchone() or (key_id, 0)
    return RateUse(now.replace(second=0, microsecond=0), requests, tokens, running)
