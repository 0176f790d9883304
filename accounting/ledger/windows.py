"""The budget windows that are open now: found, opened and filled in Postgres, remembered by the process."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from accounting import sql
from accounting.budgets import BudgetRule
from accounting.periods import Window, window
from accounting.postgres.pipeline import Connection


class Windows:
    """The ids of the budget windows that are open now, as this process last saw them."""

    def __init__(self) -> None:
        self._open: dict[BudgetRule, tuple[Window, int]] = {}
        self._configuration_version = 0

    def period_id(self, rule: BudgetRule, now: datetime) -> int:
        """Raises WindowClosed when the rule's window at ``now`` is not known to be open."""
        known = self._open.get(rule)
        if known is not None and known[0].start <= now and (known[0].end is None or now < known[0].end):
            return known[1]
        raise WindowClosed(rule)

    def last_known(self, rule: BudgetRule) -> int | None:
        """The id of the window that was open at our last look; it may have closed since."""
        known = self._open.get(rule)
        return None if known is None else known[1]

    def open(self, connection: Connection, rule: BudgetRule) -> None:
        """Open (or find) the rule's window at the database's clock. In a transaction of its own, because it may lock
        running entries, and entries are locked before any period."""
        with connection.transaction(), connection.cursor() as cursor:
            now: datetime = _row(cursor.execute("SELECT now()"))[0]
            opened = window(rule.period, now, rule.time_zone)
            values = {
                "budget_id": rule.id,
                "period_start": opened.start,
                "period_end": opened.end,
                "period": rule.period.value,
                "time_zone": rule.time_zone,
            }
            found = cursor.execute(sql.load("find_period"), values).fetchone()
            if found is None or found[1]:
                cursor.execute(sql.load("lock_ledger"))
                if _row(cursor.execute(sql.load("read_clock")))[0] != self._configuration_version:
                    return  # the configuration has changed, and perhaps this rule with it
                cursor.execute(sql.load("lock_entries_in_window"), values)
                made = cursor.execute(sql.load("open_period"), values).fetchone()
                # The window may be there already, opened by another writer or with a gap. One writer fills it.
                found = made or _row(cursor.execute(sql.load("find_period"), values))
                cursor.execute(sql.load("lock_periods"), {"period_ids": [found[0]]})
                if made or _row(cursor.execute(sql.load("find_period"), values))[1]:
                    cursor.execute(sql.load("backfill_period"), {**values, "period_id": found[0]})
        self._open[rule] = (opened, found[0])

    def at(self, configuration_version: int) -> None:
        """Another configuration may have left gaps in the windows."""
        if configuration_version != self._configuration_version:
            self._configuration_version = configuration_version
            self.forget()

    def forget(self) -> None:
        self._open.clear()


class WindowClosed(Exception):
    def __init__(self, rule: BudgetRule) -> None:
        super().__init__(rule.name)
        self.rule = rule


def _row(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
