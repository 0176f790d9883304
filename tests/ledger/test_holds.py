"""Admission: holds, refusals, and what they leave behind."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection

from accounting.budgets import load_rules
from accounting.ledger.records import TopUpRequest
from accounting.models import ApiKey, Budget, LedgerEntry
from accounting.refusals import (
    BudgetExceeded,
    BudgetInFlight,
    ConfigurationChanged,
    HoldLost,
    RequestExceedsBudget,
    Unpriced,
)
from tests.ledger.conftest import Book


def test_a_hold_is_a_durable_row_and_weighs_in_the_budget(book: Book) -> None:
    book.budget("10")
    hold = book.hold("0.25", request_id="req-7", tags={"team": "a"}, end_user="u1")
    entry = LedgerEntry.objects.get()
    assert (entry.pk, entry.state, entry.hold_usd, entry.cost_usd) == (
        hold.entry_id,
        "held",
        Decimal("0.25"),
        None,
    )
    assert (entry.request_id, entry.alias, entry.key, entry.end_user) == (
        "req-7",
        "claude-sonnet",
        "bot",
        "u1",
    )
    assert entry.tags == {"team": "a"}
    assert book.balance() == (Decimal(0), Decimal("0.25"))


def test_posting_replaces_the_hold_by_the_cost(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("0.25"), "0.000123456789")
    entry = LedgerEntry.objects.get()
    assert (entry.state, entry.cost_usd, entry.overrun) == ("posted", Decimal("0.000123456789"), False)
    assert entry.settled_at is not None
    assert book.balance() == (Decimal("0.000123456789"), Decimal(0))
    assert book.rows("SELECT position, outcome, cost_usd FROM attempts") == [(1, "answered", Decimal("0.000123456789"))]


def test_voiding_gives_the_whole_hold_back_and_keeps_the_failed_attempt(book: Book) -> None:
    book.budget("10")
    book.void(book.hold("0.25"))
    entry = LedgerEntry.objects.get()
    assert (entry.state, entry.cost_usd, entry.http_status) == ("voided", Decimal(0), 502)
    assert book.balance() == (Decimal(0), Decimal(0))
    assert book.rows("SELECT outcome, http_status, cost_usd FROM attempts") == [("server_error", 503, Decimal(0))]


def test_a_cost_above_the_hold_is_posted_whole_and_flagged(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("0.25"), "0.75")
    entry = LedgerEntry.objects.get()
    assert (entry.cost_usd, entry.overrun) == (Decimal("0.75"), True)
    assert book.balance() == (Decimal("0.75"), Decimal(0))


def test_a_hard_budget_admits_up_to_its_limit_exactly(book: Book) -> None:
    book.budget("1")
    book.hold("0.6")
    book.hold("0.4")
    with pytest.raises(BudgetInFlight) as refused:
        book.hold("0.000000000001")
    assert [refused.value.limit_usd, refused.value.spent_usd, refused.value.held_usd] == [1, 0, 1]
    assert LedgerEntry.objects.count() == 2
    assert book.balance() == (Decimal(0), Decimal(1))


def test_a_spent_budget_refuses_and_says_until_when(book: Book) -> None:
    book.budget("1", period="day")
    book.post(book.hold("1"), "1")
    with pytest.raises(BudgetExceeded) as refused:
        book.hold("0.01")
    assert refused.value.resets_at is not None
    assert (refused.value.resets_at.hour, refused.value.resets_at.minute) == (0, 0)
    assert LedgerEntry.objects.count() == 1


def test_a_request_larger_than_the_whole_budget_is_told_so(book: Book) -> None:
    book.budget("1")
    with pytest.raises(RequestExceedsBudget):
        book.hold("1.01")
    assert book.is_empty()


def test_every_budget_that_applies_must_have_room_or_none_is_touched(book: Book) -> None:
    book.budget("10")
    book.budget("0.1", name="small", scope="alias", scope_value="claude-sonnet")
    with pytest.raises(RequestExceedsBudget) as refused:
        book.hold("0.2")
    assert refused.value.budget == "small"
    assert book.is_empty()
    assert book.balance() == (Decimal(0), Decimal(0))


def test_budgets_of_other_scopes_do_not_apply(book: Book) -> None:
    key = ApiKey.objects.create(name="other", prefix="sk-gw-o", digest="d" * 64)
    scopes: tuple[dict[str, Any], ...] = (
        {"scope": "key", "api_key": key},
        {"scope": "alias", "scope_value": "gpt-4o"},
        {"scope": "provider", "scope_value": "openai"},
        {"scope": "user", "scope_value": "someone"},
        {"scope": "tag", "scope_value": "team=b"},
    )
    for number, fields in enumerate(scopes):
        book.budget("0", name=f"b{number}", **fields)
    assert book.hold("5", tags={"team": "a"}).charges == ()


def test_a_soft_budget_holds_nothing_and_refuses_once_spent(book: Book) -> None:
    book.budget("1", mode="soft")
    first, second = book.hold("5"), book.hold("5")
    assert book.balance() == (Decimal(0), Decimal(0))
    book.post(first, "0.7")
    book.post(second, "0.7")
    with pytest.raises(BudgetExceeded):
        book.hold("5")
    assert book.balance() == (Decimal("1.4"), Decimal(0))
    assert LedgerEntry.objects.count() == 2


def test_an_alert_budget_never_refuses(book: Book) -> None:
    book.budget("1", mode="alert")
    book.post(book.hold("5"), "5")
    book.hold("5")
    assert book.balance() == (Decimal(5), Decimal(0))


def test_an_unpriced_model_is_refused_under_a_hard_budget(book: Book) -> None:
    book.budget("10")
    with pytest.raises(Unpriced):
        book.hold(None)
    assert book.is_empty()


def test_an_unpriced_model_without_a_hard_budget_costs_null_never_zero(book: Book) -> None:
    book.budget("10", mode="soft")
    book.post(book.hold(None), None)
    entry = LedgerEntry.objects.get()
    assert (entry.state, entry.hold_usd, entry.cost_usd) == ("posted", None, None)


def test_a_hold_with_an_outdated_snapshot_is_sent_back(book: Book) -> None:
    book.budget("10")
    request = book.request("0.1")
    Budget.objects.update(limit_usd=Decimal("0.05"))
    with pytest.raises(ConfigurationChanged):
        book.writer.hold(request)
    assert book.is_empty()


def test_a_changed_limit_decides_about_the_next_request(book: Book) -> None:
    book.budget("1")
    book.post(book.hold("1"), "0.9")
    with pytest.raises(BudgetExceeded):
        book.hold("0.2")
    Budget.objects.update(limit_usd=Decimal("1.1"))
    book.hold("0.2")
    assert book.balance() == (Decimal("0.9"), Decimal("0.2"))


def test_a_budget_made_late_begins_with_what_its_window_has_spent(book: Book) -> None:
    book.budget("10", period="day")
    book.post(book.hold("1"), "0.9")
    running = book.hold("0.5")
    book.budget("2", name="month", period="month")
    with pytest.raises(BudgetExceeded) as refused:
        book.hold("1.5")
    assert (refused.value.budget, refused.value.spent_usd, refused.value.held_usd) == (
        "month", Decimal("0.9"), Decimal("0.5"),
    )  # fmt: skip
    # A request that began before the budget existed is charged to it all the same.
    book.post(running, "0.3")
    assert book.balance("month") == (Decimal("1.2"), Decimal(0))


def test_changing_a_budgets_period_loses_nothing(book: Book) -> None:
    book.budget("1", period="day")
    book.post(book.hold("1"), "0.9")
    Budget.objects.update(period="month")
    with pytest.raises(BudgetExceeded) as refused:
        book.hold("0.2")
    assert refused.value.spent_usd == Decimal("0.9")
    assert LedgerEntry.objects.count() == 1


def test_a_top_up_holds_more_in_every_budget_and_the_whole_in_a_new_one(book: Book) -> None:
    book.budget("1")
    book.budget("1", name="openai", scope="provider", scope_value="openai")
    hold = book.hold("0.2")
    openai = tuple(rule for rule in load_rules() if rule.name == "openai")
    grown = book.writer.top_up(TopUpRequest(hold, Decimal("0.3"), openai))
    assert grown.hold_usd == Decimal("0.5")
    assert book.balance() == (Decimal(0), Decimal("0.5"))
    assert book.balance("openai") == (Decimal(0), Decimal("0.5"))
    assert LedgerEntry.objects.get().hold_usd == Decimal("0.5")
    attempts = (
        book.attempt("0.1", outcome="interrupted"),
        book.attempt("0.25", provider="openai", model="gpt-4o", alias="gpt-4o"),
    )
    assert book.writer.settle(book.settlement(grown, *attempts, fallback=True))
    assert book.balance() == (Decimal("0.35"), Decimal(0))
    assert book.balance("openai") == (Decimal("0.25"), Decimal(0))


def test_a_top_up_without_room_leaves_the_hold_as_it_was(book: Book) -> None:
    book.budget("1")
    hold = book.hold("0.6")
    with pytest.raises(BudgetExceeded):
        book.writer.top_up(TopUpRequest(hold, Decimal("1.5"), ()))
    assert LedgerEntry.objects.get().hold_usd == Decimal("0.6")
    assert book.balance() == (Decimal(0), Decimal("0.6"))


def test_a_top_up_of_a_settled_request_is_refused(book: Book) -> None:
    book.budget("1")
    hold = book.hold("0.1")
    book.void(hold)
    with pytest.raises(HoldLost):
        book.writer.top_up(TopUpRequest(hold, Decimal("0.1"), ()))
    assert book.balance() == (Decimal(0), Decimal(0))


def test_a_late_settlement_of_a_voided_request_leaves_no_attempts_that_nobody_paid(book: Book) -> None:
    book.budget("10")
    hold = book.hold("1")
    book.void(hold)
    late = book.settlement(hold, book.attempt("0.25", outcome="interrupted"), book.attempt("0.25"))
    assert book.writer.settle(late)
    assert LedgerEntry.objects.get().state == "voided"
    assert book.rows("SELECT position, cost_usd FROM attempts") == [(1, Decimal(0))]


def test_settling_twice_changes_nothing(book: Book) -> None:
    book.budget("10")
    hold = book.hold("1")
    book.post(hold, "0.5")
    assert book.writer.settle(book.settlement(hold, book.attempt("0.7")))
    assert LedgerEntry.objects.get().cost_usd == Decimal("0.5")
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    assert book.rows("SELECT count(*) FROM attempts") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounting_ledgerentry SET cost_usd = 0",
        "UPDATE accounting_ledgerentry SET state = 'held', settled_at = NULL, cost_usd = NULL",
        "DELETE FROM accounting_ledgerentry",
        "UPDATE accounting_attempt SET cost_usd = 0",
        "DELETE FROM accounting_attempt",
        "UPDATE accounting_charge SET posted_usd = 0",
        "DELETE FROM accounting_charge",
    ],
)
def test_settled_rows_are_immutable_even_for_plain_sql(book: Book, statement: str) -> None:
    book.budget("10")
    book.post(book.hold("1"), "0.5")
    before = book.rows("SELECT * FROM accounting_ledgerentry"), book.rows("SELECT * FROM accounting_charge")
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute(statement)
    assert (
        book.rows("SELECT * FROM accounting_ledgerentry"),
        book.rows("SELECT * FROM accounting_charge"),
    ) == before


def test_one_bad_row_does_not_fail_its_neighbours(book: Book) -> None:
    book.budget("10")
    outcomes: dict[str, object] = {}

    def hold(name: str, user: str) -> None:
        try:
            outcomes[name] = book.hold("0.1", request_id=name, end_user=user)
        except Exception as error:  # noqa: BLE001  whatever it is, the test looks at it
            outcomes[name] = error
        finally:
            connection.close()  # this thread's own

    requests = [("good-1", ""), ("bad", "\x00"), ("good-2", "")]
    threads = [threading.Thread(target=hold, args=request) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(outcomes["bad"], Exception)
    assert sorted(LedgerEntry.objects.values_list("request_id", flat=True)) == ["good-1", "good-2"]
    assert book.balance() == (Decimal(0), Decimal("0.2"))


def test_reaching_a_limit_is_logged_once_with_the_word_budget(book: Book, caplog: pytest.LogCaptureFixture) -> None:
    book.budget("1", mode="alert")
    for cost in ("0.6", "0.6", "0.6"):
        book.post(book.hold("1"), cost)
    said = [record for record in caplog.records if "budget" in record.getMessage()]
    assert [(record.getMessage(), vars(record)["spent_usd"]) for record in said] == [
        ("budget reached its limit", "1.2")
    ]
