"""A rehearsed hold is decided as a true one is, and leaves nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction

from accounting import ledger
from accounting.ledger import rehearsal
from accounting.ledger.records import Hold, HoldRequest
from accounting.models import ApiKey, Budget
from accounting.rates import RateLimits
from accounting.refusals import ConfigurationChanged, Refusal
from tests.ledger.conftest import Book

TABLES = ("ledgerentry", "attempt", "charge", "budgetperiod", "keyrate")


def contents(book: Book) -> list[Any]:
    return [book.rows(f"SELECT * FROM accounting_{table} ORDER BY 1") for table in TABLES]


def decided(hold: Any, request: HoldRequest) -> Any:
    """What the client would hear, and what would be held."""
    try:
        found: Hold = hold(request)
    except Refusal as refusal:
        return type(refusal), vars(refusal)
    rate = None if found.rate is None else (found.rate.tokens, found.rate.status.requests_left)
    return [(charge.rule.name, charge.held_usd) for charge in found.charges], found.hold_usd, rate


def assert_same(book: Book, hold: str | None, **fields: Any) -> Any:
    """The rehearsal and the true hold say the same, and only the true one writes."""
    before = contents(book)
    rehearsed = decided(ledger.would_hold, book.request(hold, **fields))
    assert contents(book) == before
    assert rehearsed == decided(book.writer.hold, book.request(hold, **fields))
    return rehearsed


def test_a_window_that_nobody_has_opened_is_not_opened_by_a_rehearsal(book: Book) -> None:
    book.budget("1")
    assert assert_same(book, "0.25") == ([("global", Decimal("0.25"))], Decimal("0.25"), None)
    assert contents(book)[3], "the true one has opened it"


@pytest.mark.parametrize("mode", ["hard", "soft", "alert"])
@pytest.mark.parametrize("amount", ["0", "0.5", "0.6", "1.5", None])
def test_each_budget_and_each_amount_is_decided_alike(book: Book, mode: str, amount: str | None) -> None:
    book.budget("1", mode=mode)
    book.budget("9", name="of the alias", scope="alias", scope_value="claude-sonnet", period="hour")
    book.post(book.hold("0.2"), "0.1")
    book.hold("0.4")
    assert_same(book, amount)


def test_a_budget_made_after_the_spending_counts_it_in_both(book: Book) -> None:
    book.budget("10", name="first")
    book.post(book.hold("0.5"), "0.4")
    book.hold("0.3")
    book.budget("1", name="late", period="month")
    assert_same(book, "0.5")
    book.budget("1", name="later", scope="provider", scope_value="anthropic", period="total")
    assert assert_same(book, "0.1")[0] == [
        ("first", Decimal("0.1")),
        ("late", Decimal("0.1")),
        ("later", Decimal("0.1")),
    ]


@pytest.mark.parametrize(
    "limits",
    [
        RateLimits(2),
        RateLimits(1),
        RateLimits(0),
        RateLimits(None, 100),
        RateLimits(None, 10),
        RateLimits(None, None, 1),
    ],
)
def test_rate_limits_are_decided_alike(book: Book, limits: RateLimits) -> None:
    key = ApiKey.objects.create(name="limited", prefix="x", digest="x" * 64)
    book.hold("0", key_id=key.pk, limits=limits, ceiling_tokens=1) if limits.requests_per_minute != 0 else None
    found = assert_same(book, "0", key_id=key.pk, limits=limits, ceiling_tokens=60)
    assert found


def test_an_outdated_configuration_is_refused_by_both(book: Book) -> None:
    book.budget("1")
    version = book.request("0").configuration_version - 1
    assert assert_same(book, "0.1", configuration_version=version)[0] is ConfigurationChanged


@pytest.mark.parametrize("is_gap", [False, True], ids=["a window that nobody has opened", "a window with a gap"])
def test_true_requests_do_not_wait_for_a_rehearsal_that_fills_a_window(book: Book, is_gap: bool) -> None:
    """Anybody with a key may rehearse, and filling a window takes as long as its ledger is big."""
    book.budget("10", name="first")
    late = book.budget("9", name="late", period="month") if is_gap else None
    running = book.hold("0.3")
    if late is None:
        book.budget("9", name="late", period="month")
    else:
        Budget.objects.filter(pk=late.pk).update(period="total")
        Budget.objects.filter(pk=late.pk).update(period="month")
    with transaction.atomic(), connection.cursor() as cursor:
        rehearsed = rehearsal._read(cursor, book.request("0.1").budgets, None)
        book.post(running, "0.2")  # raises when it waits
        book.hold("0.1")
        transaction.set_rollback(True)
    assert {balance.budget: balance.held_usd for balance in rehearsed.balances.values()} == {
        "first": Decimal("0.3"),
        "late": Decimal("0.3"),
    }
    assert book.rows("SELECT DISTINCT posted_usd, held_usd FROM accounting_budgetperiod") == [
        (Decimal("0.2"), Decimal("0.1"))
    ]
