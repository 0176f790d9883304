"""Every transaction takes its locks in one order, so that no two deadlock: read from what Postgres is sent."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg import pq

from accounting import sql
from accounting.ledger.corrections import adjust, resolve
from accounting.ledger.expiry import expire_dead
from accounting.ledger.operations import Holding, Settling, ToppingUp
from accounting.ledger.records import TopUpRequest
from accounting.ledger.transaction import run
from accounting.ledger.windows import Windows
from accounting.postgres.pipeline import Connection
from accounting.postgres.session import connect
from accounting.rates import RateLimits
from tests.ledger.conftest import Book

#: The files of accounting/sql by their first line, which Postgres is sent with the statement.
FILES = {path.read_text().splitlines()[0]: path.stem for path in Path(sql.__file__).parent.glob("*.sql")}
#: How libpq writes down a prepared statement that is run, and the first line of a statement that is sent as text.
SENT = re.compile(r'\t(?:Bind\t "" "(?P<prepared>\w+)"|(?:Parse\t ""|Query\t) "(?P<text>[^"\n]*))')
WRITER_ID = 1


@contextmanager
def sent_to(postgres: psycopg.Connection[Any]) -> Iterator[list[str]]:
    """The statements that go over this connection, in their order: files of accounting/sql by their name, and COMMIT.

    The list is filled at the end of the block, from libpq's own trace of the wire."""
    names: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as trace:
        postgres.pgconn.trace(trace.fileno())
        postgres.pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        try:
            yield names
        finally:
            postgres.pgconn.untrace()
        trace.seek(0)
        for found in SENT.finditer(trace.read()):
            name = found["prepared"] or FILES.get(found["text"], found["text"])
            if name in FILES.values() or name == "COMMIT":
                names.append(name)


def locks(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(("share_", "lock_")) or name == "COMMIT"]


@pytest.fixture
def session() -> Iterator[Connection]:
    session = connect("test of the lock order", statement_timeout_s=5)
    yield session
    session.close()


def test_a_transaction_that_settles_tops_up_and_holds_locks_entries_then_periods_then_rates(
    book: Book, session: Connection
) -> None:
    book.budget("10", period="total")
    limited = {"key_id": 7, "limits": RateLimits(requests_per_minute=100)}
    ending, growing, windows = book.hold("1", **limited), book.hold("1"), Windows()
    run(session, [Holding(book.request("1"))], windows, WRITER_ID)  # from now on the process knows the open window
    batch = (
        Holding(book.request("1", **limited)),
        ToppingUp(TopUpRequest(growing, Decimal("0.5"), ())),
        Settling(book.settlement(ending, book.attempt("0.25"))),
    )
    with sent_to(session) as sent:
        run(session, batch, windows, WRITER_ID)
    assert sent == [
        "share_ledger",
        "read_clock",
        "lock_entries",
        "entry_charges",
        "lock_periods",
        "lock_rates",
        "running_requests",
        "settle_charges",
        "settle_entries",
        "insert_attempts",
        "insert_entries",
        "top_up_entries",
        "hold_charges",
        "move_balances",
        "count_rates",
        "COMMIT",
    ]
    assert book.balance() == (Decimal("0.25"), Decimal("3.5"))


def test_periods_that_were_not_expected_are_locked_after_the_entries_too(book: Book, session: Connection) -> None:
    book.budget("10", period="total")
    hold, windows = book.hold("1"), Windows()
    run(session, [Holding(book.request("1"))], windows, WRITER_ID)
    book.budget("10", name="late", period="total")
    book.void(book.hold("1"))  # opens the new budget's window, in which the running hold weighs too
    with sent_to(session) as sent:
        run(session, [Settling(book.settlement(hold, book.attempt("0.25")))], windows, WRITER_ID)
    assert locks(sent) == [
        *("share_ledger", "lock_entries", "lock_periods"),  # fewer periods than the transaction needs, so it rolls back
        *("share_ledger", "lock_entries", "lock_periods", "COMMIT"),
    ]


def test_a_windows_opening_locks_the_ledger_then_entries_then_the_period(book: Book, session: Connection) -> None:
    book.budget("10", period="total")
    with sent_to(session) as sent:
        run(session, [Holding(book.request("1"))], Windows(), WRITER_ID)
    assert locks(sent) == [
        "share_ledger",  # the window is not known, so it rolls back
        *("lock_ledger", "lock_entries_in_window", "lock_periods", "COMMIT"),
        *("share_ledger", "lock_periods", "COMMIT"),
    ]


def test_an_expiry_locks_entries_then_periods(book: Book, session: Connection) -> None:
    book.budget("10", period="total")
    book.hold("1")
    book.lose_writer()
    with sent_to(session) as sent:
        assert len(expire_dead(session)) == 1
    assert locks(sent) == ["COMMIT", "lock_held", "lock_periods", "COMMIT"]


def test_a_correction_locks_the_ledger_then_the_entry_then_its_periods(book: Book, session: Connection) -> None:
    book.budget("10", period="total")
    hold = book.hold("1")
    book.lose_writer()
    expire_dead(session)
    connection.ensure_connection()
    with sent_to(connection.connection) as sent:
        resolve(hold.entry_id, cost_usd=Decimal("0.5"), author="ann", reason="the provider's bill")
        adjust(hold.entry_id, amount_usd=Decimal("-0.25"), author="ann", reason="a credit note")
    assert locks(sent) == ["share_ledger", "lock_entries", "lock_periods", "COMMIT"] * 2
    assert book.balance() == (Decimal("0.25"), Decimal(0))
