"""What the ledger would say to a request, by the decision that it makes for true ones. Nothing of it stays.

It reads without locks, on a connection of its caller's. A budget's window that no request has opened yet, or that lacks
what was spent before its budget was made, is opened and filled as for a true request, but among copies that end with
the transaction (copy_periods.sql): a true request would wait for the window itself, and all others for that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

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

FILL_WITHIN_S: Final = 8  # a statement, as of the ledger's writer

Values = Mapping[str, int | str | datetime | None]


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
    windows = {rule: _window(rule, now) for rule in rules}
    found = {rule: _find(cursor, values) for rule, values in windows.items()}
    period_ids = {rule: period[0] for rule, period in found.items() if period is not None}
    lacking = [rule for rule, period in found.items() if period is None or period[1]]
    if lacking:
        _copy(cursor, list(period_ids.values()), [period_ids[rule] for rule in lacking if rule in period_ids])
        period_ids |= {rule: _fill(cursor, windows[rule]) for rule in lacking}
    cursor.execute(sql.load("read_periods"), {"period_ids": list(period_ids.values())})
    balances = {balance.period_id: balance for balance in map(balance_of, cursor.fetchall())}
    use = None if key_id is None else _use(cursor, key_id, now)
    return Books(version, now, {rule: balances[period_ids[rule]] for rule in windows}, use)


def _window(rule: BudgetRule, now: datetime) -> Values:
    opened = window(rule.period, now, rule.time_zone)
    return {
        "budget_id": rule.id,
        "period_start": opened.start,
        "period_end": opened.end,
        "period": rule.period.value,
        "time_zone": rule.time_zone,
    }


def _find(cursor: CursorWrapper, values: Values) -> tuple[int, bool] | None:
    """The id of the window's period and whether it has a gap."""
    cursor.execute(sql.load("find_period"), values)
    row: tuple[int, bool] | None = cursor.fetchone()
    return row


def _copy(cursor: CursorWrapper, period_ids: list[int], filled_ids: list[int]) -> None:
    """From now on, this transaction's statements read and write copies."""
    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{FILL_WITHIN_S}s"])
    cursor.execute(sql.load("copy_charges"), {"period_ids": filled_ids})
    cursor.execute(sql.load("copy_periods"), {"period_ids": period_ids})
    cursor.execute(sql.load("number_copied_periods"))


def _fill(cursor: CursorWrapper, values: Values) -> int:
    cursor.execute(sql.load("open_period"), values)
    found = _find(cursor, values)
    assert found is not None
    cursor.execute(sql.load("backfill_period"), {**values, "period_id": found[0]})
    return found[0]


def _use(cursor: CursorWrapper, key_id: int, now: datetime) -> RateUse:
    cursor.execute(sql.load("read_rates"), {"key_ids": [key_id]})
    _, requests, tokens = cursor.fetchone() or (key_id, 0, 0)
    cursor.execute(sql.load("running_requests"), {"key_ids": [key_id]})
    _, running = cursor.fetchone() or (key_id, 0)
    return RateUse(now.replace(second=0, microsecond=0), requests, tokens, running)
