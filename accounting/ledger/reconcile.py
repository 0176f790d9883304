"""Proves that the books are right, or says what is off, by how much, and since when. Reads only, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import Error, connection, transaction

from accounting import facts, sql
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


def reconcile() -> Comparison:
    """Compare each budget period's balance with its charges, and each entry with its charges and attempts."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if outermost:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute(
            "SELECT (SELECT count(*) FROM accounting_budgetperiod), (SELECT count(*) FROM accounting_ledgerentry)"
        )
        periods, entries = cursor.fetchone()
        found: list[Discrepancy] = []
        cursor.execute(sql.load("reconcile_balances"))
        for budget, start, posted, charged_posted, held, charged_held, since in cursor.fetchall():
            where = f"budget '{budget}', period from {start:%Y-%m-%d %H:%M} UTC"
            if posted != charged_posted:
                found.append(Discrepancy(where, "posted is not the sum of its charges", charged_posted, posted, since))
            if held != charged_held:
                found.append(Discrepancy(where, "held is not the sum of its charges", charged_held, held, since))
        cursor.execute(sql.load("reconcile_entries"))
        for entry_id, request_id, created_at, what, expected, actual in cursor.fetchall():
            where = f"entry {entry_id} (request {request_id})"
            found.append(Discrepancy(where, what, expected or Decimal(0), actual or Decimal(0), created_at))
    return Comparison(periods, entries, tuple(found))


def remember(result: Comparison) -> None:
    """Write down for operators what was found. Raises django.db.Error, as on a standby, which only reads."""
    values: dict[str, Any] = {
        "periods": result.periods,
        "entries": result.entries,
        "discrepancies": len(result.discrepancies),
        "details": [str(off) for off in result.discrepancies[:REMEMBERED]],
    }
    with connection.cursor() as cursor:
        cursor.execute(sql.load("insert_reconciliation"), values)


def reconcile_and_log() -> None:
    """What a starting gateway does in the background: logs each discrepancy, or that the books are right."""
    try:
        result = reconcile()
        remember(result)
    except Error as error:
        facts.reconcile_failed(error)
        return
    finally:
        connection.close()
    for off in result.discrepancies:
        facts.books_off(facts.BooksOff(off.where, off.what, off.expected_usd, off.found_usd, off.since))
    if not result.discrepancies:
        facts.books_right(result.periods, result.entries)
