"""Budgets in the admin: complete scopes, live balances, and history that stays."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from accounting.keys import fields_for
from accounting.models import ApiKey, Budget
from routing import defaults
from tests.admin.conftest import Operator, alias, version
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
        ({"scope": "provider", "scope_value": "x"}, "There is no provider “x”. There are: anthropic, google, openai."),
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
    assert "$0.250000000001" in page
    assert "$0.5<" in page
    assert "$9.249999999999" in page
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
