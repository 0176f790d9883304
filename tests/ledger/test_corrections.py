"""What operators may still change on the books, and what they may not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection

from accounting.ledger.corrections import AdjustedBefore, NotCorrectable, adjust, effect_of_adjusting, resolve
from accounting.ledger.records import Hold, new_entry_id
from accounting.models import Adjustment, LedgerEntry
from tests.clocks import eventually
from tests.ledger.conftest import Book


@pytest.fixture
def lost(book: Book) -> Hold:
    """Half a dollar, held at anthropic by a worker that died."""
    book.budget("10", period="total")
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic", period="total")
    hold = book.hold("0.5", expires_after_s=0)
    assert eventually(lambda: LedgerEntry.objects.get().state == "unknown")
    return hold


def everything(book: Book) -> list[Any]:
    tables = ("ledgerentry", "charge", "adjustment", "attempt", "budgetperiod")
    return [book.rows(f"SELECT * FROM accounting_{table} ORDER BY 1") for table in tables]


def test_an_unknown_entry_is_posted_at_what_the_bill_says(book: Book, lost: Hold) -> None:
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    resolve(lost.entry_id, cost_usd=Decimal("0.123456789012"), author="ann", reason="invoice 7")
    entry = LedgerEntry.objects.get()
    assert (entry.state, entry.cost_usd, entry.overrun) == ("posted", Decimal("0.123456789012"), False)
    assert (entry.resolved_by, entry.resolution) == ("ann", "invoice 7")
    assert book.balance() == book.balance("anthropic") == (Decimal("0.123456789012"), Decimal(0))


def test_an_unknown_entry_that_cost_nothing_is_voided(book: Book, lost: Hold) -> None:
    resolve(lost.entry_id, cost_usd=Decimal(0), author="ann", reason="not on the bill")
    entry = LedgerEntry.objects.get()
    assert (entry.state, entry.cost_usd) == ("voided", Decimal(0))
    assert book.balance() == book.balance("anthropic") == (Decimal(0), Decimal(0))


def test_an_unknown_entry_that_cost_more_than_its_hold_is_flagged(book: Book, lost: Hold) -> None:
    resolve(lost.entry_id, cost_usd=Decimal("0.75"), author="ann", reason="invoice 7")
    assert LedgerEntry.objects.get().overrun is True
    assert book.balance() == (Decimal("0.75"), Decimal(0))


def test_what_an_operator_resolved_stays_though_the_request_settles_later(book: Book, lost: Hold) -> None:
    resolve(lost.entry_id, cost_usd=Decimal("0.2"), author="ann", reason="invoice 7")
    book.post(lost, "0.3")
    entry = LedgerEntry.objects.get()
    assert (entry.cost_usd, entry.resolved_by) == (Decimal("0.2"), "ann")
    assert book.balance() == (Decimal("0.2"), Decimal(0))
    # The attempt is a fact all the same.
    assert book.rows("SELECT cost_usd FROM attempts") == [(Decimal("0.3"),)]


def test_adjustments_add_up_in_every_budget_the_entry_was_charged_to(book: Book) -> None:
    book.budget("10", period="total")
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic", period="total")
    book.budget("10", name="soft", mode="soft", period="total")
    hold = book.hold("0.5")
    book.post(hold, "0.3")
    adjust(hold.entry_id, amount_usd=Decimal("-0.1"), author="ann", reason="a wrong price")
    made = adjust(hold.entry_id, amount_usd=Decimal("0.000000000001"), author="bob", reason="the other way")
    assert (made.author, made.reason, made.amount_usd) == ("bob", "the other way", Decimal("0.000000000001"))
    expected = (Decimal("0.200000000001"), Decimal(0))
    assert book.balance() == book.balance("anthropic") == book.balance("soft") == expected
    # The entry itself is unchanged, and the reports show both amounts.
    assert LedgerEntry.objects.get().cost_usd == Decimal("0.3")
    assert book.rows("SELECT cost_usd, posted_usd, adjusted_usd FROM ledger") == [
        (Decimal("0.200000000001"), Decimal("0.3"), Decimal("-0.099999999999"))
    ]
    assert book.rows("SELECT cost_usd FROM spend_by_provider") == [(Decimal("0.200000000001"),)]


def test_an_adjustment_is_its_providers_who_served(book: Book) -> None:
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic", period="total")
    hold = book.hold("0.5")
    assert book.writer.settle(book.settlement(hold, book.attempt("0.3", provider="openai"), fallback=True))
    adjust(hold.entry_id, amount_usd=Decimal("0.1"), author="ann", reason="openai's bill")
    assert book.balance("anthropic") == (Decimal(0), Decimal(0))


def test_a_budget_made_after_an_adjustment_begins_with_it(book: Book) -> None:
    hold = book.hold("0.5")
    book.post(hold, "0.3")
    adjust(hold.entry_id, amount_usd=Decimal("0.1"), author="ann", reason="a wrong price")
    book.budget("10", period="total")
    book.hold("1")
    assert book.balance() == (Decimal("0.4"), Decimal(1))


@pytest.mark.parametrize("state", ["held", "posted", "voided"])
def test_only_unknown_entries_are_resolved(book: Book, state: str) -> None:
    book.budget("10", period="total")
    hold = book.hold("0.5")
    if state == "posted":
        book.post(hold, "0.3")
    elif state == "voided":
        book.void(hold)
    before = everything(book)
    with pytest.raises(NotCorrectable):
        resolve(hold.entry_id, cost_usd=Decimal("0.1"), author="ann", reason="invoice 7")
    assert everything(book) == before
    assert LedgerEntry.objects.get().state == state


def test_an_entry_is_resolved_once(book: Book, lost: Hold) -> None:
    resolve(lost.entry_id, cost_usd=Decimal("0.1"), author="ann", reason="invoice 7")
    before = everything(book)
    with pytest.raises(NotCorrectable):
        resolve(lost.entry_id, cost_usd=Decimal("0.2"), author="bob", reason="invoice 7 again")
    assert everything(book) == before


def test_unsettled_entries_are_not_adjusted(book: Book, lost: Hold) -> None:
    held = book.hold("0.5")
    before = everything(book)
    for entry_id in (held.entry_id, lost.entry_id, uuid4()):
        with pytest.raises(NotCorrectable):
            adjust(entry_id, amount_usd=Decimal("0.1"), author="ann", reason="a wrong price")
    assert everything(book) == before


@pytest.mark.parametrize(("author", "reason"), [("", "why"), ("  ", "why"), ("ann", ""), ("ann", " ")])
def test_nobody_corrects_without_a_name_and_a_reason(book: Book, lost: Hold, author: str, reason: str) -> None:
    settled = book.hold("0.5")
    book.post(settled, "0.3")
    before = everything(book)
    with pytest.raises(ValueError, match="an author and a reason"):
        resolve(lost.entry_id, cost_usd=Decimal("0.1"), author=author, reason=reason)
    with pytest.raises(ValueError, match="an author and a reason"):
        adjust(settled.entry_id, amount_usd=Decimal("0.1"), author=author, reason=reason)
    assert everything(book) == before


def test_amounts_that_mean_nothing_are_refused(book: Book, lost: Hold) -> None:
    settled = book.hold("0.5")
    book.post(settled, "0.3")
    before = everything(book)
    with pytest.raises(ValueError, match="not negative"):
        resolve(lost.entry_id, cost_usd=Decimal("-0.1"), author="ann", reason="invoice 7")
    with pytest.raises(ValueError, match="changes nothing"):
        adjust(settled.entry_id, amount_usd=Decimal(0), author="ann", reason="a wrong price")
    assert everything(book) == before


def test_corrections_and_running_requests_do_not_stop_each_other(book: Book) -> None:
    """Both lock entries first and then periods, so they wait for each other and never deadlock."""
    book.budget("100", period="total")
    settled = book.hold("0.5")
    book.post(settled, "0.3")
    template, stop, posted = book.request("0.001"), threading.Event(), []

    def spend() -> None:
        while not stop.is_set():
            hold = book.writer.hold(replace(template, entry_id=new_entry_id()))
            book.post(hold, "0.001")
            posted.append(hold)

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        adjust(settled.entry_id, amount_usd=Decimal("0.000001"), author="ann", reason="a wrong price")
    stop.set()
    for thread in threads:
        thread.join()
    assert len(posted) > 20
    assert Adjustment.objects.count() == 50
    assert book.balance() == (Decimal("0.30005") + Decimal("0.001") * len(posted), Decimal(0))


def test_an_adjustment_gives_back_no_more_than_the_entry_costs(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("0.5")
    book.post(hold, "0.3")
    adjust(hold.entry_id, amount_usd=Decimal("0.1"), author="ann", reason="a wrong price")
    before = everything(book)
    with pytest.raises(NotCorrectable, match=r"costs \$0.4, adjustments included, and no more than that is given back"):
        adjust(hold.entry_id, amount_usd=Decimal("-0.400000000001"), author="ann", reason="all of it")
    assert everything(book) == before
    adjust(hold.entry_id, amount_usd=Decimal("-0.4"), author="ann", reason="all of it")
    assert book.balance() == (Decimal(0), Decimal(0))
    with pytest.raises(NotCorrectable, match=r"costs \$0,"):
        adjust(hold.entry_id, amount_usd=Decimal("-0.000000000001"), author="ann", reason="and more")


def test_what_costs_nothing_yet_gives_nothing_back(book: Book) -> None:
    voided, unpriced = book.hold("0.5"), book.hold(None)
    book.void(voided)
    book.post(unpriced, None)
    for hold in (voided, unpriced):
        with pytest.raises(NotCorrectable, match=r"costs \$0,"):
            adjust(hold.entry_id, amount_usd=Decimal("-0.01"), author="ann", reason="why")
    assert not Adjustment.objects.exists()


def test_of_twenty_adjustments_at_once_only_those_are_booked_that_the_cost_has_room_for(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("0.5")
    book.post(hold, "0.3")

    def give_back(_: int) -> bool:
        try:
            adjust(hold.entry_id, amount_usd=Decimal("-0.1"), author="ann", reason="a credit note")
        except NotCorrectable:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(give_back, range(20))) == 3
    assert Adjustment.objects.count() == 3
    assert book.balance() == (Decimal(0), Decimal(0))


@pytest.mark.django_db
def test_the_database_keeps_an_entry_above_zero_whoever_writes(book: Book) -> None:
    hold = book.hold("0.5")
    book.post(hold, "0.3")
    row = {
        "entry_id": hold.entry_id,
        "reason": "by hand",
        "author": "sql",
        "created_at": LedgerEntry.objects.get().created_at,
    }
    with pytest.raises(
        IntegrityError, match=r"costs 0.3 USD, adjustments included; -0.31 more would take it below zero"
    ):
        Adjustment.objects.create(amount_usd=Decimal("-0.31"), **row)
    assert not Adjustment.objects.exists()


@pytest.mark.parametrize(
    ("table", "column"),
    [("ledgerentry", "hold_usd"), ("ledgerentry", "cost_usd"), ("attempt", "cost_usd"), ("attempt", "at_most_usd")],
)
def test_no_cost_is_negative_whoever_writes(book: Book, table: str, column: str) -> None:
    """A row that is copied with a negative amount is refused by the table itself, as no update gets so far."""
    book.post(book.hold("0.5"), "0.3")
    columns = [name for (name,) in book.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND column_name <> 'id'",
        f"accounting_{table}",
    )]  # fmt: skip
    values = [f"-{name} - 1" if name == column else "position + 7" if name == "position" else name for name in columns]
    if column == "at_most_usd":
        values[columns.index(column)] = "-0.1"
    names = ", ".join(columns)
    new_id = "id, " if table == "ledgerentry" else ""
    made = "gen_random_uuid(), " if table == "ledgerentry" else ""
    with pytest.raises(IntegrityError, match="not_negative"), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO accounting_{table} ({new_id}{names}) SELECT {made}{', '.join(values)} FROM accounting_{table}"
        )
    assert book.rows(f"SELECT count(*) FROM accounting_{table}") == [(1,)]


def test_a_form_that_is_sent_twice_at_once_books_once(book: Book) -> None:
    book.budget("10", period="total")
    hold, token = book.hold("0.5"), uuid4()
    book.post(hold, "0.3")

    def send(_: int) -> str:
        try:
            adjust(
                hold.entry_id, amount_usd=Decimal("0.1"), author="ann", reason="a bill", form_token=token,
                seen_total_usd=Decimal("0.3"),
            )  # fmt: skip
        except AdjustedBefore:
            return "before"
        finally:
            connection.close()
        return "booked"

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(send, range(6))) == ["before"] * 5 + ["booked"]
    assert book.balance() == (Decimal("0.4"), Decimal(0))


def test_who_decided_by_another_total_is_refused(book: Book) -> None:
    hold = book.hold("0.5")
    book.post(hold, "0.3")
    adjust(hold.entry_id, amount_usd=Decimal("-0.1"), author="bob", reason="a credit note")
    before = everything(book)
    with pytest.raises(NotCorrectable, match=r"it costs \$0.2 now, not \$0.3"):
        adjust(
            hold.entry_id,
            amount_usd=Decimal("-0.1"),
            author="ann",
            reason="a credit note",
            seen_total_usd=Decimal("0.3"),
        )
    assert everything(book) == before


def test_the_effect_that_is_shown_is_the_effect_that_it_has(book: Book) -> None:
    book.budget("10", period="total")
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic", period="total")
    book.budget("10", name="openai", scope="provider", scope_value="openai", period="total")
    hold = book.hold("0.5")
    assert book.writer.settle(book.settlement(hold, book.attempt("0.3", provider="openai"), fallback=True))
    shown = {
        effect.budget: (effect.posted_usd, effect.after_usd)
        for effect in effect_of_adjusting(hold.entry_id, Decimal("-0.1"))
    }
    assert shown["global"] == (Decimal("0.3"), Decimal("0.2"))
    adjust(hold.entry_id, amount_usd=Decimal("-0.1"), author="ann", reason="a credit note")
    assert {name: book.balance(name)[0] for name in shown} == {name: after for name, (_, after) in shown.items()}
