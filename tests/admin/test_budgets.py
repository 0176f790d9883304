"""Budgets in the admin: complete scopes, live balances, and history that stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounting.keys import fields_for
from accounting.models import ApiKey, Budget, BudgetPeriod
from routing import defaults
from routing.models import ModelAlias
from tests.admin.conftest import Operator, alias, grant, provider, text, version
from tests.ledger.conftest import Book

LIST = "accounting/budget/"


def add(operator: Operator, **fields: Any) -> str:
    return operator.post(f"{LIST}add/", operator.form(f"{LIST}add/"), **{"name": "new", "limit_usd": "5", **fields})


def test_a_budget_of_everything_is_added(operator: Operator) -> None:
    add(operator, limit_usd="0.000000000001", period="month", time_zone="Europe/Berlin", mode="soft")
    budget = Budget.objects.get(name="new")
    assert (budget.scope, budget.api_key, budget.scope_value) == ("global", None, "")
    assert (budget.limit_usd, budget.period, budget.time_zone, budget.mode) == (
        Decimal("0.000000000001"), "month", "Europe/Berlin", "soft",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"scope": "key"}, "Choose the key that this budget is for."),
        ({"scope": "alias"}, "Say which alias this budget is for."),
        ({"scope": "alias", "scope_value": "gpt-9"}, "There is no alias “gpt-9”. There are: claude-sonnet, gpt-4o,"),
        (
            {"scope": "provider", "scope_value": "x"},
            "There is no provider “x”. There are: anthropic, google and openai.",
        ),
        ({"scope": "user"}, "Say which user this budget is for."),
        ({"scope": "tag", "scope_value": "team"}, "Write a tag as name=value."),
        ({"scope": "tag", "scope_value": "=a"}, "Write a tag as name=value."),
        ({"limit_usd": "-1"}, "Ensure this value is greater than or equal to 0."),
        ({"limit_usd": "0.0000000000001"}, "Ensure that there are no more than 12 decimal places."),
        ({"limit_usd": "ten"}, "Enter a number."),
        ({"time_zone": "Mars/Olympus"}, "Mars/Olympus is not a time zone"),
        ({"name": "global"}, "Budget with this Name already exists."),
        ({"period": "fortnight"}, "Select a valid choice."),
    ],
)
def test_an_incomplete_budget_is_refused_with_the_reason(
    operator: Operator, fields: dict[str, str], reason: str
) -> None:
    before = version()
    assert reason in add(operator, **fields)
    assert Budget.objects.count() == 1
    assert version() == before


def test_what_the_scope_does_not_use_is_emptied(operator: Operator) -> None:
    key = ApiKey.objects.create(name="bot", **fields_for("sk-gw-1"))
    add(operator, scope="alias", scope_value=" gpt-4o ", api_key=key.pk)
    budget = Budget.objects.get(name="new")
    assert (budget.scope_value, budget.api_key) == ("gpt-4o", None)
    page = f"{LIST}{budget.pk}/change/"
    operator.post(page, operator.form(page), scope="key", api_key=key.pk)
    budget.refresh_from_db()
    assert (budget.scope, budget.scope_value, budget.api_key) == ("key", "", key)


def test_a_budget_of_a_deleted_alias_can_still_be_changed(operator: Operator) -> None:
    budget = Budget.objects.create(name="old", scope="alias", scope_value="claude-sonnet", limit_usd=5)
    alias("claude-sonnet").delete()
    page = f"{LIST}{budget.pk}/change/"
    operator.post(page, operator.form(page), limit_usd="7")
    budget.refresh_from_db()
    assert budget.limit_usd == Decimal(7)


def test_the_list_shows_where_budgets_stand_now(book: Book) -> None:
    defaults.ensure()
    book.post(book.hold("0.5"), "0.250000000001")
    book.hold("0.5")
    page = Operator(User.objects.create_superuser("olga")).get(LIST)
    assert "$10 / day" in page
    assert '<span class="gateway-usd" title="$0.250000000001">$0.25</span>' in page
    assert "$0.50<" in page
    assert '<span class="gateway-usd" title="$9.249999999999">$9.25</span>' in page
    assert "2% spent, 5% held" in page


def test_a_budget_with_history_is_not_deleted_and_the_page_says_what_to_do(book: Book) -> None:
    defaults.ensure()
    book.post(book.hold("0.5"), "0.25")
    operator = Operator(User.objects.create_superuser("olga"))
    before, budget = version(), Budget.objects.get()
    page = operator.post(f"{LIST}{budget.pk}/delete/", {"post": "yes"})
    assert "global cannot be deleted:" in page
    assert "“global” has requests on the books that count against it: disable it instead." in page
    assert Budget.objects.count() == 1
    assert version() == before
    form = operator.form(f"{LIST}{budget.pk}/change/")
    del form["enabled"]
    operator.post(f"{LIST}{budget.pk}/change/", form)
    assert not Budget.objects.get().enabled


def test_an_unused_budget_is_deleted(operator: Operator) -> None:
    operator.post(f"{LIST}{Budget.objects.get().pk}/delete/", {"post": "yes"})
    assert not Budget.objects.exists()


@pytest.mark.parametrize(("mode", "follows"), [("alert", "nothing is refused"), ("hard", "requests are refused")])
def test_a_budget_saved_below_what_is_spent_says_so_at_once(
    book: Book, caplog: pytest.LogCaptureFixture, mode: str, follows: str
) -> None:
    olga = Operator(User.objects.create_superuser("olga"))
    book.post(book.hold("1"), "0.75")
    page = add(olga, name="late", mode=mode, limit_usd="0.5")
    assert "The budget “late” has reached its limit: $0.75 of $0.5 is spent in its present period" in page
    assert follows in page
    assert [
        vars(record)["budget"] for record in caplog.records if record.getMessage() == "budget reached its limit"
    ] == ["late"]
    assert "has reached its limit" not in add(olga, name="large", mode=mode, limit_usd="5")
    assert book.rows("SELECT budget, posted_usd FROM budget_status WHERE is_current ORDER BY budget") == [
        ("large", Decimal("0.75")),
        ("late", Decimal("0.75")),
    ]


# --- the budget's page -----------------------------------------------------------------------------------------


def page_of(budget: Budget) -> str:
    return f"{LIST}{budget.pk}/change/"


def test_a_budgets_page_shows_its_balance_and_who_spent_it(book: Book) -> None:
    defaults.ensure()
    book.post(book.hold("0.5", key="bot", alias="claude-sonnet", end_user="ada"), "0.250000000001")
    book.post(book.hold("0.5", key="bot", alias="gpt-4o"), "0.5")
    book.post(book.hold("0.5", key="cron", alias="gpt-4o", end_user="ada"), "0.125")
    book.hold("0.5", key="cron", alias="gpt-4o")
    page = Operator(User.objects.create_superuser("olga")).get(page_of(Budget.objects.get()))
    balance = text(page, "balance")
    assert balance == "$10 limit $0.875 spent $0.50 held by running requests $8.62 available"
    assert 'title="$0.875000000001"' in page
    spenders = text(page, "spenders")
    assert "bot 2 $0.75 cron 2 $0.125 + $0.50 held" in spenders
    assert "gpt-4o 3 $0.625 + $0.50 held claude-sonnet 1 $0.25" in spenders
    assert "ada 2 $0.375" in spenders
    assert "/admin/accounting/ledgerentry/?key=bot&amp;created_at_from=" in page


def test_only_the_ten_who_spent_most_are_listed(book: Book) -> None:
    defaults.ensure()
    for number in range(12):
        book.post(book.hold("0.5", key=f"key-{number:02}"), f"0.{number + 10}")
    page = Operator(User.objects.create_superuser("olga")).get(page_of(Budget.objects.get()))
    spenders = text(page, "spenders")
    assert "key-11 1 $0.21" in spenders
    assert "key-02" in spenders
    assert "key-01" not in spenders


def test_who_spent_is_not_shown_to_who_may_not_see_the_ledger(book: Book) -> None:
    defaults.ensure()
    book.post(book.hold("0.5", key="telegram"), "0.25")
    nils = Operator(User.objects.create_user("nils", is_staff=True))
    grant(nils, "accounting.view_budget")
    page = nils.get(page_of(Budget.objects.get()))
    assert "Not shown to you: this needs the right to view ledger entries." in page
    assert "telegram" not in page
    assert text(page, "balance").startswith("$10 limit $0.25 spent")
    assert "10.000000000000" not in page


def test_a_budgets_page_lists_the_windows_before(book: Book) -> None:
    defaults.ensure()
    budget = Budget.objects.get()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for day in range(14):
        budget.periods.create(
            period_start=start + timedelta(days=day), period_end=start + timedelta(days=day + 1), posted_usd=day
        )
    page = Operator(User.objects.create_superuser("olga")).get(page_of(budget))
    windows = text(page, "windows")
    assert "2026-03-14 00:00 2026-03-15 00:00 $13 $0" in windows
    assert "2026-03-03" in windows
    assert "2026-03-02 00:00 2026" not in windows
    assert "No request has counted in this window yet." in page
    BudgetPeriod.objects.all().delete()


def test_a_limit_is_edited_without_trailing_zeros(operator: Operator) -> None:
    assert 'value="10"' in operator.get(page_of(Budget.objects.get()))


def test_a_new_budget_says_that_the_next_request_adds_what_was_spent(book: Book) -> None:
    defaults.ensure()
    book.post(book.hold("0.5"), "0.25")
    later = book.budget("5", name="later")
    page = Operator(User.objects.create_superuser("olga")).get(page_of(later))
    assert "What was spent before the budget was made or changed is added with the next request." in page


def test_a_budget_of_a_deleted_alias_is_marked(operator: Operator) -> None:
    Budget.objects.create(name="old", scope="alias", scope_value="claude-sonnet", limit_usd=5)
    Budget.objects.create(name="wild", scope="alias", scope_value="openai/*", limit_usd=5)
    assert "alias claude-sonnet (gone)" not in operator.get(LIST)
    alias("claude-sonnet").delete()
    page = operator.get(LIST)
    assert "alias claude-sonnet (gone)" in page
    assert "openai/* (gone)" not in page


def test_the_list_of_budgets_makes_as_few_queries_for_fifty_as_for_one(operator: Operator) -> None:
    counts = []
    for _ in range(2):
        operator.get(LIST)  # reads the changed configuration, once
        with CaptureQueriesContext(connection) as queries:
            operator.get(LIST)
        counts.append(len(queries))
        if len(counts) == 1:
            Budget.objects.bulk_create(Budget(name=f"budget-{number}", limit_usd=5) for number in range(49))
    assert counts[0] == counts[1]


def test_a_budget_of_nothing_is_used_up_before_its_first_request(operator: Operator) -> None:
    Budget.objects.create(name="closed", scope="alias", scope_value="gpt-4o", limit_usd=0)
    page = operator.get(LIST)
    assert page.count("gateway-bar-full") == 1
    assert "100% spent, 0% held" in page


@pytest.mark.parametrize("why", ["it is disabled", "its alias is gone"])
def test_a_budget_of_nothing_that_refuses_nothing_is_not_shown_as_used_up(operator: Operator, why: str) -> None:
    budget = Budget.objects.create(
        name="closed", scope="alias", scope_value="claude-sonnet", limit_usd=0, enabled=why != "it is disabled"
    )
    if why == "its alias is gone":
        alias("claude-sonnet").delete()
    for page in (LIST, page_of(budget)):
        shown = operator.get(page)
        assert "gateway-bar-full" not in shown
        assert "0% spent, 0% held" in shown
        assert "100%" not in shown


def test_a_budget_may_be_for_a_name_that_a_wildcard_answers_to(operator: Operator) -> None:
    ModelAlias.objects.create(name="house/*", provider=provider("openai"), upstream_model="gpt-*")
    add(operator, scope="alias", scope_value="house/4o")
    assert Budget.objects.get(name="new").scope_value == "house/4o"
    assert "alias house/4o" in operator.get(LIST)
    assert "(gone)" not in operator.get(LIST)
