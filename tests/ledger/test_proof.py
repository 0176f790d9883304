"""A start proves what is new since the last proof; the daily proof reads all, piece by piece, beside requests."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from accounting.ledger import proof, rollup
from accounting.ledger.reconcile import Comparison
from accounting.ledger.writer import Writer
from accounting.models import Proof, Reconciliation
from tests.ledger.conftest import Book
from tests.ledger.test_reconcile import change, lose, settled, tampering
from tests.ledger.test_rollup import Traffic, rolled, session


def result_of(walk: proof.Walk) -> Comparison:
    try:
        while True:
            next(walk)
    except StopIteration as end:
        result: Comparison = end.value
        return result


def off(walk: proof.Walk) -> list[tuple[str, Decimal, Decimal]]:
    return [(found.what, found.expected_usd, found.found_usd) for found in result_of(walk).discrepancies]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "ENTRIES", 3)
    monkeypatch.setattr(proof, "CHARGES", 5)
    monkeypatch.setattr(proof, "SUMMED_ENTRIES", 4)


def test_a_start_reads_no_entry_that_was_proved(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "MARGIN", -proof.MARGIN)  # those of this minute too
    book.budget("10")
    for _ in range(7):
        settled(book)
    whole = result_of(proof.walk())
    assert (whole.periods, whole.entries, whole.is_whole, whole.discrepancies) == (1, 7, True, ())
    new = result_of(proof.walk(proof.known()))
    assert (new.periods, new.entries, new.is_whole, new.discrepancies) == (1, 0, False, ())


def test_a_start_finds_what_is_wrong_with_what_is_new(book: Book) -> None:
    book.budget("10")
    settled(book)
    result_of(proof.walk())
    settled(book)
    with tampering():
        change("UPDATE accounting_charge SET posted_usd = 0.2 WHERE id = (SELECT max(id) FROM accounting_charge)")
        assert off(proof.walk(proof.known())) == [
            ("its charge to the budget 'global' is not its cost", Decimal("0.25"), Decimal("0.2")),
            ("posted is not the sum of its charges", Decimal("0.45"), Decimal("0.5")),
        ]


def test_a_start_finds_a_wrong_balance_of_whatever_age(book: Book) -> None:
    book.budget("10", period="total")
    settled(book)
    result_of(proof.walk())
    with tampering():
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.2")
        assert off(proof.walk(proof.known())) == [
            ("posted is not the sum of its charges", Decimal("0.25"), Decimal("0.2"))
        ]
    assert off(proof.walk(proof.known())) == []


def test_the_whole_proof_finds_what_was_changed_behind_the_last_one(book: Book) -> None:
    book.budget("10")
    settled(book)
    result_of(proof.walk())
    with tampering():
        change("UPDATE accounting_charge SET posted_usd = 0.2")
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.2")
        assert ("its charge to the budget 'global' is not its cost", Decimal("0.25"), Decimal("0.2")) in off(
            proof.walk()
        )


def test_a_sum_of_spend_that_is_off_is_found_and_made_anew(book: Book) -> None:
    book.budget("10")
    settled(book)
    with session() as roller:
        rolled(roller)
        with tampering():
            change("UPDATE accounting_spendsum SET cost_usd = 0.2 WHERE dimension = 'key'")
            assert off(proof.walk()) == [("it is not what its entries cost", Decimal("0.25"), Decimal("0.2"))]
            rollup.rebuild(connection.connection)
            assert off(proof.walk()) == []
        assert off(proof.walk()) == []


def test_sums_of_a_day_that_are_all_lost_are_missed(book: Book) -> None:
    book.budget("10")
    settled(book)
    with session() as roller:
        rolled(roller)
    with tampering():
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM accounting_spendsum")
        assert set(off(proof.walk())) == {("it is not what its entries cost", Decimal("0.25"), Decimal(0))}


def test_nothing_is_taken_for_proved_while_something_is_off(book: Book) -> None:
    book.budget("10")
    settled(book)
    with tampering():
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.2")
        assert len(off(proof.walk())) == 1
        assert not Proof.objects.exists()


def test_proofs_are_right_while_requests_settle_expire_and_are_corrected(book: Book) -> None:
    book.budget("100000", mode="soft")
    book.budget("100000", name="for ever", mode="soft", period="total")
    writer = Writer()
    traffic, ends_at, errors = Traffic(Book(writer), 3), time.monotonic() + 4, []

    def go_on() -> None:
        try:
            while time.monotonic() < ends_at:
                traffic.step()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=go_on)
    thread.start()
    proofs = 0
    with session() as roller:
        while thread.is_alive():
            rolled(roller)
            for walk in (proof.walk(), proof.walk(proof.known())):
                assert result_of(walk).discrepancies == ()
                proofs += 1
    writer.stop()
    assert errors == []
    assert proofs >= 2


def test_a_start_tells_what_it_found_and_keeps_it(book: Book) -> None:
    book.budget("10")
    settled(book)
    proof.prove_at_start()
    proof.prove_at_start()
    found = Reconciliation.objects.order_by("pk").values_list("entries", "discrepancies", "is_whole")
    assert list(found) == [(1, 0, True), (1, 0, False)]
    assert not proof.is_due()


@pytest.mark.django_db
def test_books_that_were_off_count_as_off_until_all_of_them_are_right() -> None:
    runs = [(True, 0), (False, 0), (True, 2), (False, 0), (False, 1), (False, 0)]
    at = datetime(2026, 3, 1, tzinfo=UTC)
    for number, (is_whole, discrepancies) in enumerate(runs):
        Reconciliation.objects.create(
            at=at + timedelta(hours=number), periods=1, entries=1, discrepancies=discrepancies, is_whole=is_whole
        )
    counts = Reconciliation.objects.that_counts()
    assert counts is not None
    assert (counts.at - at, counts.discrepancies) == (timedelta(hours=4), 1)
    Reconciliation.objects.create(at=at + timedelta(hours=9), periods=1, entries=1, discrepancies=0)
    counts = Reconciliation.objects.that_counts()
    assert counts is not None
    assert counts.at - at == timedelta(hours=9)


def test_the_charges_of_a_lost_workers_entry_stay_open_until_it_is_settled(book: Book) -> None:
    book.budget("10")
    book.hold("1")
    lose(book)
    assert off(proof.walk()) == []
    assert len(Proof.objects.get().open_charges) == 1
    assert off(proof.walk(proof.known())) == []
