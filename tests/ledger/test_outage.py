"""Postgres stops, dies, freezes or refuses to write: requests hear it at once, and their costs are written later."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psutil
import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import Error, connection
from pytest_django.plugin import DjangoDbBlocker

from accounting.ledger import writer as ledger_writer
from accounting.ledger.expiry import DEAD_AFTER_S
from accounting.ledger.records import Hold, new_entry_id
from accounting.ledger.writer import Writer
from accounting.models import LedgerEntry
from accounting.refusals import LedgerUnavailable
from gateway_project import embedded_postgres
from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually, within
from tests.ledger.conftest import Book


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[EmbeddedPostgres]:
    """A Postgres that tests may harm. Django uses it for the length of the module."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("outage") / "postgres")
    server.start()
    database = settings.DATABASES["default"]
    before = dict(database)
    with django_db_blocker.unblock():
        connection.close()
        database.update(embedded_postgres.django_settings(server.data_dir))
        call_command("migrate", verbosity=0)
        yield server
        connection.close()
        database.clear()
        database.update(before)
    server.stop()


@pytest.fixture
def book(server: EmbeddedPostgres) -> Iterator[Book]:
    with connection.cursor() as cursor:
        tables = ("charge", "adjustment", "attempt", "ledgerentry", "budgetperiod", "budget")
        cursor.execute("TRUNCATE " + ", ".join(f"accounting_{table}" for table in tables))
    writer = Writer()
    book = Book(writer)
    book.budget("10", period="total")
    yield book
    writer.stop()
    book.assert_reconciles()


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    return psutil.Process(int((server.data_dir / "postmaster.pid").read_text().split()[0]))


def stop(server: EmbeddedPostgres) -> None:
    connection.close()
    process = postmaster(server)
    process.send_signal(signal.SIGINT)  # fast: sessions end at once
    assert eventually(server.died)


LEDGER_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'gateway ledger writer'"


def terminate_ledger_sessions() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM ({LEDGER_SESSIONS}) sessions")


def test_a_hold_is_refused_at_once_and_admitted_again_without_a_restart(book: Book, server: EmbeddedPostgres) -> None:
    book.void(book.hold("1"))
    request = book.request("1")
    stop(server)
    for _ in range(20):
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            book.writer.hold(request)
        assert within(time.monotonic() - began, 1)
    server.restart()
    assert eventually(lambda: admitted(book))
    assert LedgerEntry.objects.filter(state="held").count() == 1
    # Refused requests were not written, so nothing needed voiding later.
    assert LedgerEntry.objects.count() == 2


def test_a_restart_of_postgres_refuses_nobody_who_comes_after_it(
    book: Book, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "TICK_S", 60.0)  # so that the idle writer's own check does not find out
    book.void(book.hold("1"))
    running = book.hold("1")
    stop(server)
    server.restart()
    assert eventually(is_back)
    book.void(book.hold("1"))
    stop(server)
    server.restart()
    assert eventually(is_back)
    book.post(running, "0.5")
    assert book.balance() == (Decimal("0.5"), Decimal(0))


def is_back() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        connection.close()
        return False
    return True


def admitted(book: Book) -> bool:
    try:
        book.hold("1")
    except LedgerUnavailable:
        return False
    return True


def test_what_a_running_request_owes_is_kept_and_written_when_postgres_is_back(
    book: Book, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "SETTLE_WAIT_S", 0.5)  # so that the test need not wait
    holds = [book.hold("1", request_id=f"req-{number}") for number in range(3)]
    stop(server)
    began = time.monotonic()
    for hold in holds:
        assert book.writer.settle(book.settlement(hold, book.attempt("0.25"))) is False
    assert within(time.monotonic() - began, 3)
    server.restart()
    assert eventually(lambda: LedgerEntry.objects.filter(state="posted").count() == 3)
    assert book.balance() == (Decimal("0.75"), Decimal(0))


def test_a_stop_waits_for_a_postgres_that_comes_back(
    book: Book, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "SETTLE_WAIT_S", 0.1)
    hold = book.hold("1")
    stop(server)
    assert book.writer.settle(book.settlement(hold, book.attempt("0.25"))) is False
    stopping = threading.Thread(target=book.writer.stop)
    stopping.start()
    server.restart()
    stopping.join()
    assert LedgerEntry.objects.get().state == "posted"
    assert book.balance() == (Decimal("0.25"), Decimal(0))


def test_a_frozen_postgres_hangs_no_request_and_keeps_no_hold(
    book: Book, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "HOLD_WAIT_S", 1.0)
    book.void(book.hold("1"))
    request = book.request("2")
    frozen = [postmaster(server), *postmaster(server).children(recursive=True)]
    for process in frozen:
        process.suspend()
    try:
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            book.writer.hold(request)
        assert within(time.monotonic() - began, 2, least_s=0.9)
        time.sleep(0.1)
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable):  # later requests do not wait as long
            book.writer.hold(request)
        assert within(time.monotonic() - began, 0.2)
    finally:
        for process in frozen:
            process.resume()
    # The hold was being written when its request gave up, so it is voided, or was never written.
    assert eventually(lambda: book.balance() == (Decimal(0), Decimal(0)) and admitted(book))
    states = dict(LedgerEntry.objects.values_list("pk", "state"))
    assert states.pop(request.entry_id, "voided") == "voided"
    assert sorted(states.values()) == ["held", "voided"]


def test_holds_that_a_dying_postgres_may_have_written_are_voided(book: Book, server: EmbeddedPostgres) -> None:
    admitted_holds: list[Hold] = []
    refused: list[object] = []
    template = book.request("0.001")
    dead = threading.Event()

    def spend() -> None:
        while not dead.is_set():
            request = replace(template, entry_id=new_entry_id())
            try:
                admitted_holds.append(book.writer.hold(request))
            except LedgerUnavailable:
                refused.append(request.entry_id)
                time.sleep(0.01)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    connection.close()
    for _ in range(3):
        time.sleep(0.3)
        postmaster(server).kill()
        assert eventually(server.died)
        server.restart()
    time.sleep(0.5)
    dead.set()
    for thread in threads:
        thread.join()
    assert len(admitted_holds) > 20
    assert len(refused) > 3
    assert book.writer.settle(book.settlement(admitted_holds.pop(), book.attempt("0.001")))
    held = set(LedgerEntry.objects.filter(state="held").values_list("pk", flat=True))
    assert held == {hold.entry_id for hold in admitted_holds}
    assert set(LedgerEntry.objects.filter(pk__in=refused).values_list("state", flat=True)) <= {"voided"}
    assert book.balance() == (Decimal("0.001"), Decimal("0.001") * len(admitted_holds))


def test_a_writer_that_reconnects_is_not_taken_for_dead(book: Book) -> None:
    neighbour = Writer()
    neighbour.start()
    hold = book.hold("1")
    assert eventually(lambda: len(book.rows(LEDGER_SESSIONS)) == 2)
    terminate_ledger_sessions()
    time.sleep(DEAD_AFTER_S + 2 * ledger_writer.TICK_S)
    assert LedgerEntry.objects.get().state == "held"
    book.post(hold, "0.5")
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    neighbour.stop()


def test_a_postgres_that_refuses_to_write_loses_no_settlement(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Postgres read-only, as a standby is after a failover."""
    monkeypatch.setattr(ledger_writer, "SETTLE_WAIT_S", 0.5)
    hold, request = book.hold("1"), book.request("1")
    set_read_only("on")
    try:
        with pytest.raises(LedgerUnavailable):
            book.writer.hold(request)
        assert book.writer.settle(book.settlement(hold, book.attempt("0.25"))) is False
    finally:
        set_read_only("off")
    assert eventually(lambda: LedgerEntry.objects.get().state == "posted")
    assert book.balance() == (Decimal("0.25"), Decimal(0))


def set_read_only(setting: str) -> None:
    """In the server's own configuration: what a role or a database says of it, our sessions override."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as session:
        session.execute("SET default_transaction_read_only = off")
        session.execute(f"ALTER SYSTEM SET default_transaction_read_only = {setting}")
        session.execute("SELECT pg_reload_conf()")
        assert eventually(lambda: _of_the_server(session) == setting)
    terminate_ledger_sessions()
    connection.close()


def _of_the_server(session: psycopg.Connection[Any]) -> str:
    """What new sessions get, whatever this session has set for itself."""
    row = session.execute("SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'").fetchone()
    assert row is not None
    return str(row[0])
