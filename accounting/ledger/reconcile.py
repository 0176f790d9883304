"""Proves that the books are right, or says what is off, by how much, and since when. Reads only, at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from accounting import sql
from accounting.money import plain_usd

REMEMBERED = 20  # discrepancies of one run; the command prints all of them


@dataclass(frozen=True, slots=True)
class Discrepancy:
    where: str
    what: str
    expected_usd: Decimal
    found_usd: Decimal
    since: datetime | None

    @property
    def difference_usd(self) -> Decimal:
        return self.found_usd - self.expected_usd

    def __str__(self) -> str:
        since = f", since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        sign = "+" if self.difference_usd > 0 else ""
        return (
            f"{self.where}: {self.what}: {plain_usd(self.found_usd)} instead of {plain_usd(self.expected_usd)}"
            f" ({sign}{plain_usd(self.difference_usd)} USD){since}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    periods: int
    entries: int
    discrepancies: tuple[Discrepancy, ...]
    is_whole: bool = True  # or what is new since the last proof


def reconcile() -> Comparison:
    """Compare each budget period's balance with its charges, each entry with its charges and attempts, and the sums of
    spend with the entries that are rolled up. All of it at one moment."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if outermost:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute(
            "SELECT (SELECT count(*) FROM accounting_budgetperiod), (SELECT count(*) FROM accounting_ledgerentry)"
        )
        periods, entries = cursor.fetchone()
        found = [*balances_off(cursor, None), *entries_off(cursor, None, None), *sums_off(cursor, None, None, None)]
    return Comparison(periods, entries, tuple(found))


def balances_off(cursor: CursorWrapper, period_ids: list[int] | None) -> Iterator[Discrepancy]:
    cursor.execute(sql.load("reconcile_balances"), {"period_ids": period_ids})
    for budget, start, posted, charged_posted, held, charged_held, since in cursor.fetchall():
        where = f"budget '{budget}', period from {start:%Y-%m-%d %H:%M} UTC"
        if posted != charged_posted:
            yield Discrepancy(where, "posted is not the sum of its charges", charged_posted, posted, since)
        if held != charged_held:
            yield Discrepancy(where, "held is not the sum of its charges", charged_held, held, since)


def entries_off(cursor: CursorWrapper, first_at: datetime | None, last_at: datetime | None) -> Iterator[Discrepancy]:
    cursor.execute(sql.load("reconcile_entries"), {"first_at": first_at, "last_at": last_at})
    for entry_id, request_id, created_at, what, expected, actual in cursor.fetchall():
        where = f"entry {entry_id} (request {request_id})"
        yield Discrepancy(where, what, expected or Decimal(0), actual or Decimal(0), created_at)


def sums_off(
    cursor: CursorWrapper, dimension: str | None, first_at: datetime | None, last_at: datetime | None
) -> Iterator[Discrepancy]:
    values = {"dimension": dimension, "first_at": first_at, "last_at": last_at}
    cursor.execute(sql.load("reconcile_rollup"), values)
    for of, name, value, bucket, expected, actual, expected_requests, requests in cursor.fetchall():
        where = f"sum of {of} '{name}{'=' if value else ''}{value[:100]}' from {bucket:%Y-%m-%d %H:%M} UTC"
        what = "it is not what its entries cost"
        if expected == actual:
            what = f"it counts otherwise than its entries ({requests} requests instead of {expected_requests})"
        yield Discrepancy(where, what, expected or Decimal(0), actual or Decimal(0), bucket)


def remember(result: Comparison) -> None:
    """Write down for operators what was found. Raises django.db.Error, as on a standby, which only reads."""
    values: dict[str, Any] = {
        "periods": result.periods,
        "entries": result.entries,
        "discrepancies": len(result.discrepancies),
        "is_whole": result.is_whole,
        "details": [str(off) for off in result.discrepancies[:REMEMBERED]],
    }
    with connection.cursor() as cursor:
        cursor.execute(sql.load("insert_reconciliation"), values)
