"""Statements in one packet: their rows, their failures, and what a session keeps of both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from django.db import connection as django_connection

from accounting.models import Budget
from accounting.postgres import pipeline
from accounting.postgres.session import connect
from tests.ledger.conftest import Book

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = [uuid4()]


@pytest.fixture
def session() -> Iterator[pipeline.Connection]:
    connection = connect("test of the pipeline", statement_timeout_s=5)
    yield connection
    connection.close()


def version_of(session: pipeline.Connection) -> int:
    [[(version, now)]] = pipeline.run(session, [("read_clock", {})])
    assert isinstance(now, datetime)
    session.rollback()
    return int(version)


def test_each_statement_has_its_rows_with_their_types(session: pipeline.Connection, book: Book) -> None:
    budget = book.budget("12.50")
    book.hold("0.25")
    (period_id,) = book.rows("SELECT id FROM accounting_budgetperiod")[0]
    locked, clock, periods = pipeline.run(
        session,
        [("lock_entries", {"entry_ids": NOBODY}), ("read_clock", {}), ("lock_periods", {"period_ids": [period_id]})],
    )
    assert locked == []
    assert len(clock) == 1
    assert periods[0][:6] == (period_id, Decimal(0), Decimal("0.25"), Decimal("12.50"), "hard", budget.name)


def test_a_transaction_lasts_until_it_is_committed(session: pipeline.Connection, book: Book) -> None:
    book.budget("1")
    pipeline.run(session, [("count_rates", {"rows": "[]"})])
    session.execute("UPDATE accounting_budget SET limit_usd = 2")
    assert Budget.objects.get().limit_usd == 1
    assert pipeline.run(session, [], commit=True) == []
    assert Budget.objects.get().limit_usd == 2


def test_a_failure_is_postgress_own_and_nothing_after_it_happens(session: pipeline.Connection, book: Book) -> None:
    book.budget("1")
    session.execute("UPDATE accounting_budget SET limit_usd = 2")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        pipeline.run(session, [("lock_entries", {"entry_ids": ["no uuid"]}), ("read_clock", {})], commit=True)
    assert session.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    session.rollback()
    assert Budget.objects.get().limit_usd == 1


def test_what_was_prepared_outlives_a_failure_and_a_rollback(session: pipeline.Connection) -> None:
    version = version_of(session)
    for _ in range(3):  # psycopg prepares what it has seen a few times, and cleans up after a rollback
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            pipeline.run(session, [("read_clock", {}), ("lock_entries", {"entry_ids": ["no uuid"]})])
        session.rollback()
        session.execute("SELECT 1")
        assert version_of(session) == version
    prepared = session.execute("SELECT name FROM pg_prepared_statements ORDER BY name").fetchall()
    assert prepared == [("lock_entries",), ("read_clock",)]


def test_a_session_that_is_ended_meanwhile_is_closed_and_says_so(session: pipeline.Connection) -> None:
    version_of(session)
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        pipeline.run(session, [("read_clock", {})], commit=True)
    assert session.closed


def test_more_than_a_socket_takes_at_once_goes_both_ways(session: pipeline.Connection) -> None:
    """Neither side waits for the other to read first."""
    many = [uuid4() for _ in range(100_000)]
    statements: list[pipeline.Statement] = [("lock_entries", {"entry_ids": many})] * 4
    assert pipeline.run(session, [*statements, *[("read_clock", {})] * 20_000])[:4] == [[], [], [], []]
