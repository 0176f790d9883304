"""Reconcile is silent about right books, whatever happened to them, and exact about wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import psycopg
import pytest
from django.db import connection, transaction

from accounting.ledger import corrections
from accounting.ledger.expiry import expire_dead
from accounting.ledger.reconcile import Discrepancy, reconcile
from accounting.models import Budget, LedgerEntry
from accounting.usage import Usage
from tests.clocks import eventually
from tests.ledger.conftest import Book


def off() -> list[tuple[str, Decimal, Decimal]]:
    """Each discrepancy: its words, the expected amount, the found amount."""
    return [(d.what, d.expected_usd, d.found_usd) for d in reconcile().discrepancies]


@contextmanager
def tampering() -> Iterator[None]:
    """Change rows past every guard, as a superuser could. Undone at the end."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
        yield
        transaction.set_rollback(True)


def change(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        assert cursor.rowcount == 1, statement


def settled(book: Book, cost: str = "0.25") -> LedgerEntry:
    hold = book.hold("1")
    book.post(hold, cost)
    return LedgerEntry.objects.get(pk=hold.entry_id)


def lose(book: Book) -> None:
    """The worker ends without settling, and its holds expire as a dead worker's do."""
    book.writer.stop()
    sessions = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'gateway ledger writer' AND datname = current_database()"
    )
    assert eventually(lambda: book.rows(sessions) == [(0,)])
    with psycopg.connect(**connection.get_connection_params()) as session:
        assert expire_dead(session)


# --- books that are right ------------------------------------------------------------------------------------


def test_an_empty_ledger_is_right(book: Book) -> None:
    result = reconcile()
    assert (result.periods, result.entries, result.discrepancies) == (0, 0, ())


def test_every_state_of_an_entry_is_right(book: Book) -> None:
    book.budget("10")
    book.budget("10", name="soft", mode="soft")
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic")
    settled(book)
    book.void(book.hold("1"))
    book.hold("1")
    assert off() == []
    lose(book)
    entry = LedgerEntry.objects.get(state="unknown")
    assert off() == []
    corrections.resolve(entry.pk, cost_usd=Decimal("0.4"), author="ann", reason="the provider's bill says so")
    assert off() == []


def test_a_request_without_a_price_is_right(book: Book) -> None:
    book.budget("10", mode="soft")
    book.post(book.hold(None), None)
    assert off() == []


def test_pictures_without_a_price_are_right(book: Book) -> None:
    hold = book.hold(None)
    picture = book.attempt(None, usage=Usage(quantities={"image": Decimal(1)}))
    assert book.writer.settle(book.settlement(hold, picture))
    assert LedgerEntry.objects.get().cost_usd is None
    assert off() == []


def test_a_request_that_ended_before_any_attempt_is_right(book: Book) -> None:
    book.budget("10")
    assert book.writer.settle(book.settlement(book.hold("1"), http_status=499, error_code="client_closed"))
    assert off() == []


def test_a_request_that_paid_two_providers_is_right_in_the_budgets_of_both(book: Book) -> None:
    book.budget("10")
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic")
    book.budget("10", name="openai", scope="provider", scope_value="openai")
    attempts = (
        book.attempt("0.1", outcome="interrupted"),
        book.attempt("0.3", provider="openai", model="gpt-4o", alias="gpt-4o"),
    )
    assert book.writer.settle(book.settlement(book.hold("1"), *attempts, fallback=True))
    assert off() == []


def test_adjusted_entries_are_right(book: Book) -> None:
    book.budget("10")
    book.budget("10", name="openai", scope="provider", scope_value="openai")
    entry = settled(book)
    corrections.adjust(entry.pk, amount_usd=Decimal("0.1"), author="ann", reason="a wrong price")
    corrections.adjust(entry.pk, amount_usd=Decimal("-0.05"), author="ann", reason="half of it back")
    assert off() == []


def test_an_entry_that_was_adjusted_before_a_budget_was_made_is_right_in_it(book: Book) -> None:
    book.budget("10")
    entry = settled(book)
    corrections.adjust(entry.pk, amount_usd=Decimal("0.1"), author="ann", reason="a wrong price")
    book.budget("20", name="late")
    settled(book, "0.5")  # opens the late budget's window, which begins with what was spent in it
    assert book.balance("late") == (Decimal("0.85"), Decimal(0))
    assert off() == []
    corrections.adjust(entry.pk, amount_usd=Decimal("0.02"), author="ann", reason="and a little more")
    assert book.balance("late") == (Decimal("0.87"), Decimal(0))
    assert off() == []


def test_a_request_that_passed_while_a_budget_was_disabled_is_right(book: Book) -> None:
    budget = book.budget("10")
    settled(book)
    Budget.objects.filter(pk=budget.pk).update(enabled=False)
    settled(book)
    assert off() == []
    Budget.objects.filter(pk=budget.pk).update(enabled=True)
    settled(book)
    assert off() == []


# --- books that are wrong --------------------------------------------------------------------------------------


def test_a_wrong_balance_is_told_with_its_budget_window_and_oldest_entry(book: Book) -> None:
    book.budget("10")
    first = settled(book)
    settled(book)
    with tampering():
        change("UPDATE accounting_budgetperiod SET posted_usd = posted_usd - 0.000000000001, held_usd = 2")
        posted, held = reconcile().discrepancies
    assert posted.where.startswith("budget 'global', period from ")
    assert posted.what == "posted is not the sum of its charges"
    assert (posted.expected_usd, posted.found_usd) == (Decimal("0.5"), Decimal("0.499999999999"))
    assert (posted.difference_usd, posted.since) == (Decimal("-0.000000000001"), first.created_at)
    assert held.what == "held is not the sum of its charges"
    assert (held.expected_usd, held.found_usd) == (Decimal(0), Decimal(2))
    assert off() == []


def test_an_entry_that_is_off_is_told_by_its_id_its_request_and_its_time(book: Book) -> None:
    book.budget("10")
    entry = settled(book)
    with tampering():
        change("UPDATE accounting_charge SET posted_usd = 0.2")
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.2")
        (found,) = reconcile().discrepancies
    assert found == Discrepancy(
        where=f"entry {entry.pk} (request req-1)",
        what="its charge to the budget 'global' is not its cost",
        expected_usd=Decimal("0.25"),
        found_usd=Decimal("0.2"),
        since=entry.created_at,
    )


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (
            ("UPDATE accounting_charge SET held_usd = 0.1", "UPDATE accounting_budgetperiod SET held_usd = 0.1"),
            ("a settled entry still holds", Decimal(0), Decimal("0.1")),
        ),
        (
            ("DELETE FROM accounting_charge", "UPDATE accounting_budgetperiod SET posted_usd = 0"),
            ("it is not charged to the budget 'global'", Decimal("0.25"), Decimal(0)),
        ),
        (
            ("DELETE FROM accounting_attempt",),
            ("its cost is not that of its attempts", Decimal(0), Decimal("0.25")),
        ),
        (
            ("UPDATE accounting_attempt SET cost_usd = 0.3",),
            ("its cost is not that of its attempts", Decimal("0.3"), Decimal("0.25")),
        ),
        (
            ("UPDATE accounting_ledgerentry SET cost_usd = NULL", "UPDATE accounting_charge SET posted_usd = 0",
             "UPDATE accounting_budgetperiod SET posted_usd = 0"),
            ("its cost is not that of its attempts", Decimal("0.25"), Decimal(0)),
        ),
    ],
)  # fmt: skip
def test_a_settled_entry_that_contradicts_itself_is_found(
    book: Book, statements: tuple[str, ...], says: tuple[str, Decimal, Decimal]
) -> None:
    book.budget("10")
    settled(book)
    with tampering():
        for statement in statements:
            change(statement)
        assert off() == [says]
    assert off() == []


def test_a_running_entry_that_holds_otherwise_than_it_says_is_found(book: Book) -> None:
    book.budget("10")
    book.hold("1")
    with tampering():
        change("UPDATE accounting_charge SET held_usd = 0.4")
        change("UPDATE accounting_budgetperiod SET held_usd = 0.4")
        assert off() == [("it holds otherwise in the budget 'global'", Decimal(1), Decimal("0.4"))]
    with tampering():
        change("UPDATE accounting_charge SET posted_usd = 0.4")
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.4")
        assert off() == [("a running entry is charged to the budget 'global'", Decimal(0), Decimal("0.4"))]


def test_an_adjustment_that_no_budget_was_charged_is_found(book: Book) -> None:
    book.budget("10")
    entry = settled(book)
    corrections.adjust(entry.pk, amount_usd=Decimal("0.1"), author="ann", reason="a wrong price")
    with tampering():
        change("DELETE FROM accounting_charge WHERE adjustment_id IS NOT NULL")
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.25")
        assert off() == [("its charge to the budget 'global' is not its cost", Decimal("0.35"), Decimal("0.25"))]


def test_a_provider_that_is_charged_otherwise_than_it_was_paid_is_found(book: Book) -> None:
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic")
    settled(book)
    with tampering():
        change("UPDATE accounting_charge SET posted_usd = 0.2")
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.2")
        assert off() == [("its charge to the budget 'anthropic' is not its cost", Decimal("0.25"), Decimal("0.2"))]


def test_a_lost_workers_entry_that_is_not_charged_its_hold_is_found(book: Book) -> None:
    book.budget("10")
    book.hold("1")
    lose(book)
    assert off() == []
    with tampering():
        change("UPDATE accounting_charge SET posted_usd = 0.4")
        change("UPDATE accounting_budgetperiod SET posted_usd = 0.4")
        assert off() == [("its charge to the budget 'global' is not its cost", Decimal(1), Decimal("0.4"))]


# --- while traffic goes on ---------------------------------------------------------------------------------------


def test_it_sees_one_moment_whatever_is_written_meanwhile(book: Book) -> None:
    """Several statements read balances and entries. An answer that is posted between them must not look wrong."""
    budget = book.budget("10")
    settled(book)
    seen: list[int] = []

    def writes_between(execute: object, statement: str, params: object, many: bool, context: object) -> object:
        answer = execute(statement, params, many, context)  # type: ignore[operator]
        if "count(*)" in statement:
            book.post(book.hold("1", budgets=()), "0.5")  # its own connection, committed
            with psycopg.connect(**connection.get_connection_params()) as other:  # and a balance without a charge
                other.execute("UPDATE accounting_budgetperiod SET posted_usd = 9 WHERE budget_id = %s", [budget.pk])
            seen.append(1)
        return answer

    with connection.execute_wrapper(writes_between):
        assert reconcile().discrepancies == ()
    assert seen == [1]
    assert len(reconcile().discrepancies) == 2  # now it sees the balance, and the request that no budget was charged
    change("UPDATE accounting_budgetperiod SET posted_usd = 0.25")
    Budget.objects.all().update(enabled=False)  # the test's own request was admitted without it
