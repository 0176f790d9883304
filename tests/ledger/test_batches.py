"""Many requests in one transaction: no request notices the others, or what their providers said."""

from __future__ import annotations

import threading
from decimal import Decimal

import psycopg
import pytest
from django.db import connection

from accounting.ledger.operations import AnyOperation, Holding, Settling, ToppingUp
from accounting.ledger.records import TopUpRequest
from accounting.ledger.transaction import run
from accounting.ledger.windows import Windows
from accounting.ledger.writer import Writer
from accounting.models import Budget, LedgerEntry
from accounting.refusals import BudgetExceeded, BudgetInFlight, HoldLost, LedgerUnavailable
from tests.clocks import eventually
from tests.ledger.conftest import Book


def in_one_batch(book: Book, *operations: AnyOperation) -> list[object]:
    """The operations' outcomes when the book's own writer commits them together."""
    writer = book.writer
    writer.stop()  # its session has ended, so that no other thread takes operations
    assert writer._reachable()
    assert writer._connection is not None
    assert writer._writer_id is not None
    decisions = run(writer._connection, operations, Windows(), writer._writer_id)
    writer._disconnect()
    book.writer = Writer()
    decided = {id(decision.operation): decision.outcome for decision in decisions}
    return [decided[id(operation)] for operation in operations]


def test_two_settlements_of_one_request_in_one_batch_count_once(book: Book) -> None:
    """A request fails after it was settled, while Postgres is away, so both settlements wait for Postgres."""
    book.budget("10", period="total")
    hold, other = book.hold("1"), book.hold("2")
    first = Settling(book.settlement(hold, book.attempt("0.5")))
    second = Settling(book.settlement(hold, book.attempt("0.5")))
    assert in_one_batch(book, first, second) == [True, False]
    assert book.balance() == (Decimal("0.5"), Decimal(2))
    assert LedgerEntry.objects.get(pk=other.entry_id).state == "held"


def test_a_top_up_that_meets_its_own_settlement_in_a_batch_is_refused(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("1")
    more = ToppingUp(TopUpRequest(hold, Decimal(3), ()))
    outcomes = in_one_batch(book, more, Settling(book.settlement(hold, book.attempt("0.5"))))
    assert isinstance(outcomes[0], HoldLost)
    assert outcomes[1] is True
    assert book.balance() == (Decimal("0.5"), Decimal(0))


def test_what_is_returned_makes_room_for_the_holds_of_the_same_batch(book: Book) -> None:
    book.budget("1", period="total")
    hold = book.hold("1")
    held = Holding(book.request("0.5"))
    too_much = Holding(book.request("0.5"))
    outcomes = in_one_batch(book, held, too_much, Settling(book.settlement(hold, book.attempt("0.5"))))
    assert isinstance(outcomes[1], BudgetExceeded | BudgetInFlight)
    assert book.balance() == (Decimal("0.5"), Decimal("0.5"))


def test_what_a_provider_says_never_fails_its_settlement(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("1")
    attempts = (
        book.attempt("0", outcome="server_error", http_status=500, error="oh\x00 no \ud800" + "x" * 600),
        book.attempt("0.5", provider_request_id="id\x00" + "y" * 300),
    )
    assert book.writer.settle(book.settlement(hold, *attempts))
    assert LedgerEntry.objects.get().provider_request_id == "id" + "y" * 198
    assert book.rows("SELECT error FROM attempts ORDER BY position")[0] == ("oh no ?" + "x" * 493,)
    assert book.balance() == (Decimal("0.5"), Decimal(0))


def test_a_top_up_weighs_in_a_budget_made_while_the_request_ran(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("0.5")
    book.budget("1", name="late", period="total")
    book.void(book.hold("0.1"))  # the next request opens the new budget's window
    with pytest.raises(BudgetExceeded):
        book.writer.top_up(TopUpRequest(hold, Decimal(2), ()))
    assert book.balance("late") == (Decimal(0), Decimal("0.5"))
    grown = book.writer.top_up(TopUpRequest(hold, Decimal("0.25"), ()))
    assert book.balance() == book.balance("late") == (Decimal(0), Decimal("0.75"))
    book.post(grown, "0.6")
    assert book.balance() == book.balance("late") == (Decimal("0.6"), Decimal(0))


@pytest.mark.parametrize(
    ("away", "back"),
    [({"period": "month"}, {"period": "day"}), ({"enabled": False}, {"enabled": True})],
    ids=["counts by the month", "is disabled"],
)
def test_what_is_spent_while_a_budget_is_another_is_not_forgotten(
    book: Book, away: dict[str, object], back: dict[str, object]
) -> None:
    book.budget("1", period="day")
    book.post(book.hold("0.5"), "0.5")
    Budget.objects.update(**away)
    book.post(book.hold("0.25"), "0.25")
    running = book.hold("0.125")
    Budget.objects.update(**back)
    with pytest.raises(BudgetInFlight) as refused:
        book.hold("0.25")
    assert (refused.value.spent_usd, refused.value.held_usd) == (Decimal("0.75"), Decimal("0.125"))
    book.void(running)
    book.hold("0.25")
    assert LedgerEntry.objects.count() == 4


def test_a_request_that_gives_up_at_the_last_moment_has_either_its_hold_or_none(book: Book) -> None:
    """The writer answers and the request gives up at the same time, again and again. One of the two comes first."""
    request = book.request("1")
    for _ in range(500):
        operation = Holding(request)
        gave_up: list[bool] = []
        thread = threading.Thread(target=give_up, args=(operation, gave_up))
        thread.start()
        handed_over = operation.finish(LedgerUnavailable())
        thread.join()
        assert gave_up == [not handed_over]


def give_up(operation: Holding, gave_up: list[bool]) -> None:
    gave_up.append(operation.give_up())


def test_a_top_up_that_comes_too_late_for_its_request_leaves_it_what_it_held_and_what_it_paid(book: Book) -> None:
    """The request gives up waiting while the top-up's transaction runs, goes on without it and settles what it paid."""
    book.budget("10", period="total")
    hold = book.hold("1")
    topping_up = ToppingUp(TopUpRequest(hold, Decimal("0.5"), ()))
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT 1 FROM accounting_budgetperiod FOR UPDATE")
        book.writer._put(topping_up)
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert eventually(lambda: bool(book.rows(waiting)))
        assert topping_up.give_up()
    book.post(hold, "0.75")
    assert book.rows("SELECT state, hold_usd, cost_usd FROM ledger") == [("posted", Decimal("1.5"), Decimal("0.75"))]
    assert book.balance() == (Decimal("0.75"), Decimal(0))
