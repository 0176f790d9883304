"""A computation takes the writer's thread while it holds locks: others go on, and nothing is booked twice or lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal

import psycopg
import pytest
from django.db import connection

from accounting.ledger import writer as ledger_writer
from accounting.models import LedgerEntry
from tests.clocks import eventually, within
from tests.ledger.conftest import Book

GATE = 4242  # an advisory lock of this test
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def take_the_interpreter(for_s: float) -> None:
    """No other thread runs Python meanwhile, as no greenlet does while another one computes."""
    began = time.perf_counter()
    sum(range(1_000_000))
    sum(range(int(1_000_000 * for_s / (time.perf_counter() - began))))


def test_a_thread_that_is_taken_keeps_nobody_elses_locks_for_long(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_writer, "STARVED_S", 1)
    book.budget("10", period="total")
    first = book.hold("1")
    dsn = connection.get_connection_params() | {"cursor_factory": None, "context": None}
    dsn = {
        name: value for name, value in dsn.items() if value is not None and name in ("host", "port", "user", "dbname")
    }

    def lock_until_the_gate_opens() -> None:
        with psycopg.connect(**dsn) as session:
            session.execute("SELECT 1 FROM accounting_budgetperiod FOR UPDATE")
            session.execute("SELECT pg_advisory_xact_lock(%s)", [GATE])

    def neighbours_wait_s() -> float:
        with psycopg.connect(**dsn) as session:
            row = session.execute(
                "WITH period AS MATERIALIZED (SELECT id FROM accounting_budgetperiod FOR UPDATE) "
                "SELECT extract(epoch FROM clock_timestamp() - statement_timestamp())::float FROM period"
            ).fetchone()
        assert row
        return float(row[0])

    def waiting(count: int) -> None:
        assert eventually(lambda: book.rows(WAITING) == [(count,)])

    with closing(psycopg.connect(**dsn, autocommit=True)) as gate, ThreadPoolExecutor() as threads:
        gate.execute("SELECT pg_advisory_lock(%s)", [GATE])
        threads.submit(lock_until_the_gate_opens)
        waiting(1)
        request = book.request("2")
        held = threads.submit(book.writer.hold, request)
        waiting(2)  # the writer's transaction has begun
        posted = threads.submit(book.post, first, "0.5")  # it comes into the next one
        neighbour = threads.submit(neighbours_wait_s)
        waiting(3)
        gate.pgconn.send_query(b"SELECT pg_advisory_unlock(%d)" % GATE)
        take_the_interpreter(for_s=2.5)
        assert within(neighbour.result(timeout=10), 1.6, least_s=0.8)
        assert held.result(timeout=10).entry_id == request.entry_id
        posted.result(timeout=10)
    assert book.balance() == (Decimal("0.5"), Decimal(2))
    assert LedgerEntry.objects.count() == 2
