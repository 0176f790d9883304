"""A limit that is reached is told of once, also when the limit has moved; and one window of a budget is current."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from accounting.ledger import limits
from accounting.ledger.writer import Writer
from accounting.models import Budget, BudgetPeriod
from accounting.refusals import BudgetExceeded, BudgetInFlight, RequestExceedsBudget
from tests.ledger.conftest import Book


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Of each line its budget, limit and what is spent."""
    return [
        (vars(record)["budget"], vars(record)["limit_usd"], vars(record)["spent_usd"])
        for record in caplog.records
        if record.getMessage() == "budget reached its limit"
    ]


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gateway.ledger")


def test_a_budget_that_is_made_below_what_is_spent_says_so_with_the_next_request(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.post(book.hold("1"), "0.75")
    book.budget("0.5", name="late", mode="alert")
    for _ in range(3):
        book.post(book.hold("0.25"), "0.125")
    assert told(caplog) == [("late", "0.5", "0.75")]


def test_a_limit_that_is_lowered_below_what_is_spent_says_so_once(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    budget = book.budget("10", mode="alert")
    book.post(book.hold("1"), "0.75")
    Budget.objects.filter(pk=budget.pk).update(limit_usd=Decimal("0.5"))
    assert told(caplog) == []
    for _ in range(3):
        book.post(book.hold("0.25"), "0.125")
    assert told(caplog) == [("global", "0.5", "0.75")]


def test_a_limit_that_is_raised_is_told_of_when_it_is_reached_again(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    budget = book.budget("0.5", mode="alert")
    book.post(book.hold("1"), "0.75")
    Budget.objects.filter(pk=budget.pk).update(limit_usd=1)
    for _ in range(3):
        book.post(book.hold("0.25"), "0.25")
    assert told(caplog) == [("global", "0.5", "0.75"), ("global", "1", "1")]


def test_a_refused_request_tells_of_a_hard_limit_that_was_lowered(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    budget = book.budget("10")
    book.post(book.hold("1"), "0.75")
    Budget.objects.filter(pk=budget.pk).update(limit_usd=Decimal("0.5"))
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            book.hold("0.25")
    assert told(caplog) == [("global", "0.5", "0.75")]


def test_a_budget_of_nothing_has_reached_no_limit_before_the_first_cent(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.budget("0", mode="alert")
    held = book.hold("1")
    assert told(caplog) == []
    book.post(held, "0.5")
    assert told(caplog) == [("global", "0", "0.5")]


def test_many_writers_tell_of_one_limit_once(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    budget = book.budget("10", mode="alert")
    book.post(book.hold("1"), "0.75")
    Budget.objects.filter(pk=budget.pk).update(limit_usd=Decimal("0.5"))
    books = [Book(Writer()) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: books[n % 4].post(books[n % 4].hold("0.25"), "0.125"), range(32)))
    for other in books:
        other.writer.stop()
    assert told(caplog) == [("global", "0.5", "0.75")]


def test_looking_at_a_saved_budget_opens_its_window_and_tells_at_once(
    book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    book.post(book.hold("1"), "0.75")
    budget = book.budget("0.5", mode="alert")
    for _ in range(2):
        balance = limits.look(budget)
        assert balance is not None
        assert (balance.posted_usd, balance.limit_usd) == (Decimal("0.75"), Decimal("0.5"))
    assert told(caplog) == [("global", "0.5", "0.75")]
    book.post(book.hold("0.25"), "0.125")
    assert len(told(caplog)) == 1


def test_one_window_of_a_budget_is_current_after_its_kind_of_period_has_changed(book: Book) -> None:
    budget = book.budget("10", period="day")
    book.post(book.hold("1"), "0.5")
    current = (
        "SELECT coalesce(period_end - period_start < '2 days', false), posted_usd FROM budget_status WHERE is_current"
    )
    for period, zone in (("month", "UTC"), ("day", "UTC"), ("week", "Asia/Tokyo"), ("total", "UTC"), ("day", "UTC")):
        Budget.objects.filter(pk=budget.pk).update(period=period, time_zone=zone)
        book.post(book.hold("1"), "0.5")
        spent = Decimal(book.rows("SELECT sum(cost_usd) FROM ledger")[0][0])
        assert book.rows(current) == [(period == "day", spent)], (period, zone)
    assert BudgetPeriod.objects.count() == 4


def test_a_window_that_two_zones_share_is_current_in_either(book: Book) -> None:
    budget = book.budget("10", period="total")
    for zone in ("UTC", "Asia/Tokyo", "UTC"):
        Budget.objects.filter(pk=budget.pk).update(time_zone=zone)
        book.post(book.hold("1"), "0.5")
        assert book.rows("SELECT count(*) FROM budget_status WHERE is_current") == [(1,)]
    assert BudgetPeriod.objects.count() == 1


def test_the_client_hears_of_the_budget_that_stands_in_its_way_for_the_longest(book: Book) -> None:
    book.budget("1", name="hour", period="hour")
    book.budget("1", name="total", period="total")
    book.post(book.hold("1"), "1")
    with pytest.raises(BudgetExceeded) as refused:
        book.hold("0.5")
    assert refused.value.budget == "total"
    Budget.objects.filter(name="total").update(limit_usd=10)
    with pytest.raises(BudgetExceeded) as refused:
        book.hold("0.5")
    assert refused.value.budget == "hour"
    Budget.objects.filter(name="hour").update(limit_usd=Decimal("1.5"))
    running = book.hold("0.5")
    Budget.objects.filter(name="total").update(limit_usd=1)
    with pytest.raises(BudgetExceeded) as refused:  # while "hour" would have room once the other one settles
        book.hold("0.5")
    assert refused.value.budget == "total"
    Budget.objects.filter(name="total").update(limit_usd=10)
    with pytest.raises(BudgetInFlight):
        book.hold("0.5")
    with pytest.raises(RequestExceedsBudget):
        book.hold("1.75")
    book.void(running)
