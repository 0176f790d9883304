"""Postgres refuses one settlement: the others are written, and it is not tried for ever."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.db import connection

from accounting.ledger import writer as ledger_writer
from accounting.ledger.operations import AnyOperation, Holding, Settling
from accounting.ledger.records import Hold
from accounting.ledger.writer import Writer
from accounting.models import LedgerEntry
from accounting.refusals import LedgerUnavailable
from tests.clocks import eventually
from tests.ledger.conftest import Book


@pytest.fixture
def grudge(book: Book, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A foreign trigger refuses all writes about the request `req-odd`, with an error of its own kind."""
    monkeypatch.setattr(ledger_writer, "MAX_TRIES", 4)
    monkeypatch.setattr(ledger_writer, "RETRY_S", 0.05)
    monkeypatch.setattr(ledger_writer, "SETTLE_WAIT_S", 0.2)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'I do not like %', NEW.request_id; END $$;"
            " CREATE TRIGGER odd BEFORE INSERT OR UPDATE ON accounting_ledgerentry FOR EACH ROW"
            " WHEN (NEW.request_id = 'req-odd' AND NEW.state <> 'unknown') EXECUTE FUNCTION odd()"
        )
    yield
    forgive()


def forgive() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS odd ON accounting_ledgerentry; DROP FUNCTION IF EXISTS odd")


def disliked_hold(book: Book, **fields: float) -> Hold:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounting_ledgerentry DISABLE TRIGGER odd")
        hold = book.hold("1", request_id="req-odd", **fields)
        cursor.execute("ALTER TABLE accounting_ledgerentry ENABLE TRIGGER odd")
    return hold


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, object]]:
    return [vars(record) for record in caplog.records if record.getMessage() == message]


@pytest.mark.usefixtures("grudge")
def test_what_is_batched_with_a_refused_settlement_goes_on(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    book.budget("10", period="total")
    odd, good = disliked_hold(book), book.hold("1")
    book.writer.stop()
    refused = Settling(book.settlement(odd, book.attempt("0.5")))
    posted, held = Settling(book.settlement(good, book.attempt("0.25"))), Holding(book.request("2"))
    book.writer = writer = Writer()
    together: tuple[AnyOperation, ...] = (posted, refused, held)
    for operation in together:
        writer._queue.put(operation)  # the writer has not started, so they are its first batch
    writer.start()
    assert held.done.wait(5)
    assert isinstance(held.outcome, Hold)
    assert posted.outcome is True
    assert refused.done.wait(5)
    assert book.balance() == (Decimal("0.25"), Decimal(3))
    [given_up] = logged(caplog, "settlement given up")
    assert [given_up[name] for name in ("entry", "cost_usd", "tries", "alert", "levelname")] == [
        str(odd.entry_id), "0.5", 4, True, "ERROR",
    ]  # fmt: skip
    # The writer does not try it any more, and works.
    assert writer._suspects == []
    book.void(held.outcome)
    writer.stop()


@pytest.mark.usefixtures("grudge")
def test_what_was_given_up_expires_to_unknown_charged_at_its_hold(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    book.budget("10", period="total")
    hold = disliked_hold(book, expires_after_s=2.0)
    assert book.writer.settle(book.settlement(hold, book.attempt("0.5"))) is False
    assert eventually(lambda: logged(caplog, "settlement given up"))
    assert LedgerEntry.objects.get().state == "held"
    assert eventually(lambda: LedgerEntry.objects.get().state == "unknown")
    assert book.balance() == (Decimal(1), Decimal(0))


@pytest.mark.usefixtures("grudge")
def test_a_refusal_that_passes_costs_nothing_but_time(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    book.budget("10", period="total")
    hold = disliked_hold(book)
    assert book.writer.settle(book.settlement(hold, book.attempt("0.5"))) is False
    assert logged(caplog, "settlement refused, to be tried again")
    forgive()
    assert eventually(lambda: LedgerEntry.objects.get().state == "posted")
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    assert logged(caplog, "settlement given up") == []


@pytest.mark.usefixtures("grudge")
def test_a_writer_that_stops_tries_once_more_and_says_what_it_gives_up(
    book: Book, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writer, "RETRY_S", 60.0)
    book.budget("10", period="total")
    hold = disliked_hold(book)
    assert book.writer.settle(book.settlement(hold, book.attempt("0.5"))) is False
    book.writer.stop()
    [given_up] = logged(caplog, "settlement given up")
    assert (given_up["entry"], given_up["tries"]) == (str(hold.entry_id), 2)


@pytest.mark.usefixtures("grudge")
def test_a_hold_that_postgres_refuses_is_refused_and_nothing_is_written(book: Book) -> None:
    book.budget("10", period="total")
    with pytest.raises(LedgerUnavailable):
        book.hold("1", request_id="req-odd")
    assert book.is_empty()
    assert book.balance() == (Decimal(0), Decimal(0))
