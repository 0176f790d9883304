"""Proves the books piece by piece, beside live requests: what is new since the last proof, or all of it.

``reconcile`` reads all of the ledger at one moment, which takes a core for a minute with ten million entries. Here each
statement reads a piece, at a moment of its own, and there may be rests between. That is as strict, because a settled
entry and its charges do not change: what was right stays right. What may still change (running and unknown entries, and
all that is newer than the proof's beginning) is read by the last statement, beside the balances.

What was proved is kept (``Proof``), so a start reads only what is new. Once a day the whole ledger is read again, with
rests, which also finds what was changed past the triggers that forbid it.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import Error, connection, transaction

from accounting import facts, sql
from accounting.ledger.reconcile import Comparison, Discrepancy, balances_off, entries_off, remember, sums_off
from accounting.models import LedgerEntry, Proof

ENTRIES: Final = 2_000  # a statement's
CHARGES: Final = 10_000
SUMMED_ENTRIES: Final = 20_000  # of a day with more, one dimension is compared at a time
REST: Final = 9.0  # times as long as a statement took: a tenth of a core
WHOLE_EVERY: Final = timedelta(days=1)
#: A transaction that began before the proof has entries of its beginning's time, though it may commit after.
MARGIN: Final = timedelta(minutes=1)
DIMENSIONS: Final = (
    "time", "alias", "key", "served_alias", "entry_provider", "model", "owner", "user", "tag", "tag_null", "tag_list",
    "tag_item", "provider",
)  # fmt: skip

Walk = Generator[None, None, Comparison]


@dataclass(slots=True)
class Known:
    """What is proved, as it grows."""

    entries_until: datetime | None = None
    last_charge: int = 0
    open_charges: list[int] = field(default_factory=list)
    posted_usd: dict[int, Decimal] = field(default_factory=dict)  # by period


def known() -> Known | None:
    """What the last proof found right; None when there was none."""
    row = Proof.objects.first()
    if row is None:
        return None
    posted = dict(zip(row.periods, row.posted_usd, strict=True))
    return Known(row.entries_until, row.last_charge, list(row.open_charges), posted)


def is_due() -> bool:
    """Whether the whole ledger was not read for a day."""
    row = Proof.objects.first()
    return row is None or row.whole_at is None or row.whole_at < datetime.now(UTC) - WHOLE_EVERY


def walk(since: Known | None = None) -> Walk:
    """Prove what is new since the last proof, or all. Yields after each piece, so that the caller may rest."""
    is_whole, proved = since is None, since or Known()
    found: list[Discrepancy] = []
    began = datetime.now(UTC)
    entries_until, last_charge = _mark()
    entries = 0
    for first_at, last_at in _pieces(proved.entries_until):
        with connection.cursor() as cursor:
            found += entries_off(cursor, first_at, last_at)
        piece = LedgerEntry.objects.filter(created_at__gte=first_at)
        entries += (piece if last_at is None else piece.filter(created_at__lt=last_at)).count()
        yield
    was_open, proved.open_charges = proved.open_charges, []
    _weigh(proved, 0, 0, was_open)
    for first_id in range(proved.last_charge, last_charge, CHARGES):
        _weigh(proved, first_id, min(first_id + CHARGES, last_charge), [])
        yield
    proved.entries_until, proved.last_charge = entries_until, last_charge
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM accounting_budgetperiod")
        periods = cursor.fetchone()[0]
        cursor.execute(
            sql.load("suspect_balances"),
            {
                "last_id": last_charge,
                "open_ids": proved.open_charges,
                "period_ids": list(proved.posted_usd),
                "posted_usd": list(proved.posted_usd.values()),
            },
        )
        suspects = [row[0] for row in cursor.fetchall()]
        if suspects:  # their charges are read again, all of them, at one moment
            found += balances_off(cursor, suspects)
    yield
    if is_whole:
        for first_at, last_at, dimension in _days():
            with connection.cursor() as cursor:
                found += sums_off(cursor, dimension, first_at, last_at)
            yield
    if not found and not suspects:
        _keep(proved, began if is_whole else None)
    return Comparison(periods, entries, tuple(found), is_whole)


def _mark() -> tuple[datetime, int]:
    """Until when entries are settled, and the last charge of those that are all committed."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.load("lock_ledger"))
        cursor.execute(sql.load("last_charge"))
        last_charge: int = cursor.fetchone()[0]
        cursor.execute("SELECT least(now(), (SELECT min(created_at) FROM accounting_ledgerentry WHERE state = 'held'))")
        return cursor.fetchone()[0] - MARGIN, last_charge


def _pieces(first_at: datetime | None) -> Iterator[tuple[datetime, datetime | None]]:
    """Times between which there are some entries each; the last piece has no end."""
    at = first_at or datetime(1970, 1, 1, tzinfo=UTC)
    while True:
        with connection.cursor() as cursor:
            cursor.execute(sql.load("next_entries"), {"first_at": at, "most": ENTRIES})
            row = cursor.fetchone()
        yield at, None if row is None else row[0]
        if row is None:
            return
        at = row[0]


def _weigh(proved: Known, first_id: int, last_id: int, open_ids: list[int]) -> None:
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"first_id": first_id, "last_id": last_id, "open_ids": open_ids}
        cursor.execute(sql.load("weigh_charges"), values)
        for period_id, posted_usd, open_charges in cursor.fetchall():
            proved.posted_usd[period_id] = proved.posted_usd.get(period_id, Decimal(0)) + posted_usd
            proved.open_charges += open_charges


def _days() -> Iterator[tuple[datetime, datetime, str | None]]:
    """The days of UTC that have sums or should have; one that is long, a dimension at a time."""
    with connection.cursor() as cursor:
        cursor.execute(sql.load("summed_days"))
        days = cursor.fetchall()
    for day, requests in days:
        for dimension in (None,) if requests <= SUMMED_ENTRIES else DIMENSIONS:
            yield day, day + timedelta(days=1), dimension


def _keep(proved: Known, whole_at: datetime | None) -> None:
    """Whoever writes last is kept. Each proof holds by itself, so no two are mixed."""
    assert proved.entries_until is not None
    row = Proof(
        pk=1,
        whole_at=whole_at,
        entries_until=proved.entries_until,
        last_charge=proved.last_charge,
        open_charges=proved.open_charges,
        periods=list(proved.posted_usd),
        posted_usd=list(proved.posted_usd.values()),
    )
    fields = ["entries_until", "last_charge", "open_charges", "periods", "posted_usd"]
    Proof.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=fields if whole_at is None else [*fields, "whole_at"],
    )


def prove_at_start() -> None:
    """What a starting gateway does in the background: proves what is new; all, with rests, when nothing was proved."""
    try:
        proved = known()
    except Error as error:
        tell(error)
        return
    proof, began = walk(proved), time.monotonic()
    while step(proof):
        if proved is None:
            time.sleep(REST * (time.monotonic() - began))
        began = time.monotonic()


def step(proof: Walk) -> bool:
    """One piece of a proof. False: it has ended, and its result is told."""
    try:
        next(proof)
    except StopIteration as end:
        tell(end.value)
        return False
    except Error as error:
        tell(error)
        return False
    return True


def tell(result: Comparison | Error) -> None:
    """Log each discrepancy, or that the books are right, and keep it for the operators' first page."""
    if isinstance(result, Comparison):
        try:
            remember(result)
        except Error as error:
            result = error
    if isinstance(result, Error):
        facts.reconcile_failed(result)
    else:
        for off in result.discrepancies:
            facts.books_off(facts.BooksOff(off.where, off.what, off.expected_usd, off.found_usd, off.since))
        if not result.discrepancies:
            facts.books_right(result.periods, result.entries)
    connection.close()
