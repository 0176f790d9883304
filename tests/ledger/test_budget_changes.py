"""A budget is made or changed while requests run, and its balance includes all of them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from django.db import connection, transaction

from accounting.ledger.corrections import adjust
from accounting.ledger.expiry import expire_dead
from accounting.ledger.records import TopUpRequest
from accounting.ledger.writer import Writer
from accounting.models import Budget, LedgerEntry
from accounting.refusals import BudgetExceeded, BudgetInFlight, ConfigurationChanged, Refusal
from tests.clocks import eventually
from tests.ledger.conftest import Book


def test_a_budget_that_becomes_hard_holds_what_runs(book: Book) -> None:
    book.budget("1", mode="soft", period="total")
    running = [book.hold("0.3") for _ in range(3)]
    assert book.balance() == (Decimal(0), Decimal(0))
    Budget.objects.update(mode="hard")
    with pytest.raises(BudgetInFlight) as refused:
        book.hold("0.2")
    assert refused.value.held_usd == Decimal("0.9")
    running.append(book.hold("0.1"))
    assert book.balance() == (Decimal(0), Decimal(1))
    for hold in running:
        book.post(hold, "0.05")
    assert book.balance() == (Decimal("0.2"), Decimal(0))
    assert LedgerEntry.objects.count() == 4


def test_a_budget_that_becomes_soft_holds_nothing_and_hard_again_everything(book: Book) -> None:
    book.budget("1", period="total")
    running = book.hold("0.5")
    Budget.objects.update(mode="soft")
    other = book.hold("0.75")
    assert book.balance() == (Decimal(0), Decimal(0))
    running = book.writer.top_up(TopUpRequest(running, Decimal("0.25"), ()))
    assert book.balance() == (Decimal(0), Decimal(0))
    Budget.objects.update(mode="hard")
    with pytest.raises(BudgetExceeded):
        book.writer.top_up(TopUpRequest(other, Decimal(2), ()))
    with pytest.raises(BudgetInFlight) as refused:
        book.hold("0.1")
    assert refused.value.held_usd == Decimal("1.5")
    book.post(running, "0.5")
    book.void(other)
    assert book.balance() == (Decimal("0.5"), Decimal(0))


def test_a_lost_request_is_charged_whole_to_a_budget_that_changed_under_it(book: Book) -> None:
    """The budget holds what it held while it was hard, and nothing of the later top-up."""
    book.budget("10", period="total")
    running = book.hold("0.25")
    Budget.objects.update(mode="alert")
    book.writer.top_up(TopUpRequest(running, Decimal("0.5"), ()))
    assert book.balance() == (Decimal(0), Decimal("0.25"))
    book.lose_writer()
    with psycopg.connect(**connection.get_connection_params()) as session:
        assert [lost.entry_id for lost in expire_dead(session)] == [running.entry_id]
    assert book.balance() == (Decimal("0.75"), Decimal(0))
    book.assert_reconciles()


def test_a_lowered_limit_counts_what_runs(book: Book) -> None:
    book.budget("10", period="total")
    book.hold("2")
    Budget.objects.update(limit_usd=Decimal("2.5"))
    with pytest.raises(BudgetInFlight):
        book.hold("0.75")
    book.hold("0.5")
    assert book.balance() == (Decimal(0), Decimal("2.5"))


def test_a_provider_s_budget_that_becomes_hard_holds_for_that_provider_alone(book: Book) -> None:
    book.budget("5", name="openai", mode="soft", period="total", scope="provider", scope_value="openai")
    running = [book.hold("1", provider="openai"), book.hold("2")]
    Budget.objects.update(mode="hard")
    running.append(book.hold("0.5", provider="openai"))
    assert book.balance("openai") == (Decimal(0), Decimal("1.5"))
    for hold in running:
        book.void(hold)
    assert book.balance("openai") == (Decimal(0), Decimal(0))


def test_what_a_fallback_costs_counts_in_a_budget_made_while_the_request_ran(book: Book) -> None:
    """The budget is on no receipt, and its window was opened before its provider was called."""
    running = book.hold("1", provider="openai")
    book.budget("5", name="anthropic", period="total", scope="provider", scope_value="anthropic")
    book.void(book.hold("1"))
    first = book.attempt("0.25", provider="openai", outcome="interrupted")
    assert book.writer.settle(book.settlement(running, first, book.attempt("0.5")))
    assert book.balance("anthropic") == (Decimal("0.5"), Decimal(0))
    with pytest.raises(BudgetExceeded):
        book.hold("4.51")
    book.hold("4.5")


def test_what_a_lost_request_s_fallback_cost_counts_when_its_settlement_comes_late(book: Book) -> None:
    running = book.hold("1", provider="openai")
    book.budget("5", name="anthropic", period="total", scope="provider", scope_value="anthropic")
    book.void(book.hold("1"))
    book.lose_writer()
    with psycopg.connect(**connection.get_connection_params()) as session:
        expire_dead(session)
    assert book.balance("anthropic") == (Decimal(0), Decimal(0))
    book.writer = Writer()
    assert book.writer.settle(book.settlement(running, book.attempt("0.5")))
    assert book.balance("anthropic") == (Decimal("0.5"), Decimal(0))
    book.writer.stop()


# --- at the very moment ------------------------------------------------------------------------------------


@pytest.fixture
def writers(book: Book) -> Iterator[list[Writer]]:
    others = [Writer() for _ in range(3)]
    yield [book.writer, *others]
    for writer in others:
        writer.stop()


def test_a_request_that_meets_the_change_itself_starts_again_with_the_new_budget(book: Book) -> None:
    book.budget("1", mode="soft", period="total")
    book.hold("0.75")
    request, outcomes = book.request("0.5"), list[object]()

    def ask() -> None:
        try:
            outcomes.append(book.writer.hold(request))
        except Refusal as refusal:
            outcomes.append(refusal)

    asking = threading.Thread(target=ask)
    with transaction.atomic():
        Budget.objects.update(mode="hard")
        asking.start()
        blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        assert eventually(lambda: book.rows(blocked))  # it has read the configuration, and waits for the balance
    asking.join()
    assert [type(outcome) for outcome in outcomes] == [ConfigurationChanged]
    assert LedgerEntry.objects.count() == 1
    with pytest.raises(BudgetInFlight):
        book.hold("0.5")


def spend(book: Book, writer: Writer, stopping: threading.Event, errors: list[Exception]) -> None:
    """One request after another, and now and then a correction of what was posted."""
    own, chance = Book(writer), random.Random(random.random())
    try:
        while not stopping.is_set():
            try:
                hold = own.hold("0.002")
            except (ConfigurationChanged, BudgetExceeded, BudgetInFlight):
                continue
            own.post(hold, "0.001")
            if chance.random() < 0.2:
                adjust(hold.entry_id, amount_usd=Decimal("-0.0005"), author="test", reason="a rebate")
    except (Refusal, AssertionError) as error:
        errors.append(error)
    finally:
        connection.close()


def test_no_request_and_no_adjustment_is_missing_in_a_budget_changed_meanwhile(
    book: Book, writers: list[Writer]
) -> None:
    book.budget("1000", period="total")
    stopping, errors = threading.Event(), list[Exception]()
    threads = [
        threading.Thread(target=spend, args=(book, writer, stopping, errors)) for writer in writers for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    changes = (
        lambda: Budget.objects.filter(name="global").update(mode="soft"),
        lambda: Budget.objects.filter(name="global").update(mode="hard"),
        lambda: Budget.objects.filter(name="global").update(period="month"),
        lambda: Budget.objects.filter(name="global").update(period="total"),
    )
    wrong: list[object] = []
    for number in range(24):
        changes[number % 4]()
        book.budget("1000", name=f"made-{number}", period="total")
        stopping.wait(0.05)
        # In one statement's snapshot: a hard budget without a gap holds what runs, all of it and nothing else.
        wrong += book.rows(
            "SELECT b.name, p.held_usd, running.usd FROM accounting_budgetperiod p"
            " JOIN accounting_budget b ON b.id = p.budget_id CROSS JOIN"
            " (SELECT coalesce(sum(hold_usd), 0) AS usd FROM accounting_ledgerentry WHERE state = 'held') running"
            " WHERE b.mode = 'hard' AND b.period = 'total' AND p.period_end IS NULL AND NOT p.has_gap"
            " AND p.held_usd <> running.usd"
        )
    assert eventually(lambda: LedgerEntry.objects.count() > 50)
    stopping.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert wrong == []
    book.post(book.hold("0.002"), "0.001")  # this request opens and fills the windows that are left
    [(spent,)] = book.rows("SELECT sum(cost_usd) FROM ledger")
    assert book.rows("SELECT DISTINCT posted_usd, held_usd FROM budget_status WHERE period_end IS NULL") == [
        (spent, Decimal(0))
    ]
