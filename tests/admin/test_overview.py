"""The first page, and who sees what: problems, budgets and the last day, for those who may."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounting.models import Budget, LedgerEntry, Price
from routing import defaults
from routing.models import Provider
from tests.admin.conftest import Operator, grant, lose_worker
from tests.ledger.conftest import Book

PAGES = [
    "routing/provider/", "routing/modelalias/", "accounting/apikey/", "accounting/budget/", "accounting/price/",
    "accounting/ledgerentry/", "accounting/attempt/", "accounting/adjustment/", "auth/user/", "auth/group/",
]  # fmt: skip


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "sk-provider-secret")


@pytest.mark.usefixtures("keys")
def test_a_healthy_gateway_shows_no_problems(operator: Operator) -> None:
    page = operator.get("")
    assert "Nothing needs you" in page
    assert "No request yet." in page
    assert "$0 of $10 a day" in page
    assert "sk-provider-secret" not in page


def test_missing_keys_and_unpriced_aliases_are_the_first_thing_to_see(
    operator: Operator, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    Price.objects.filter(model="gpt-4o").delete()
    page = operator.get("")
    assert "The provider google has no key: env:GEMINI_API_KEY leads to nothing." in page
    assert "The alias gpt-4o is unpriced: nobody has said what gpt-4o costs at openai." in page
    assert "/admin/accounting/price/add/?provider=openai&amp;model=gpt-4o" in page
    assert "Nothing needs you" not in page


def test_a_further_key_that_leads_to_nothing_is_named_and_the_provider_still_has_one(
    operator: Operator, keys: None
) -> None:
    Provider.objects.get(name="google").further_keys.create(key_reference="env:NOBODY_SET_THIS")
    page = operator.get("")
    assert "The provider google has fewer keys than it is given: env:NOBODY_SET_THIS leads to nothing." in page
    assert "has no key" not in page


def test_the_last_day_is_summed_up_and_unknown_entries_stand_out(book: Book, keys: None) -> None:
    defaults.ensure()
    book.post(book.hold("0.5", request_id="one"), "0.25")
    book.void(book.hold("0.5", request_id="two"))
    book.hold("0.125", request_id="three")
    olga = Operator(User.objects.create_superuser("olga"))
    page = olga.get("")
    assert "$0.25 of $10 a day" in page
    assert "running now, $0.125 held" in page
    assert "unknown ledger entries" not in page
    lose_worker(book)
    page = olga.get("")
    assert "1 unknown ledger entries, charged at their holds ($0.125)" in page
    assert "?state__exact=unknown" in page


def test_the_first_page_makes_few_queries_however_many_requests_there_are(book: Book, keys: None) -> None:
    defaults.ensure()
    olga = Operator(User.objects.create_superuser("olga"))
    olga.get("")  # the process reads its catalog
    counts = []
    for _ in range(2):
        for _ in range(10):
            book.post(book.hold("0.01"), "0.01")
        with CaptureQueriesContext(connection) as queries:
            olga.get("")
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert LedgerEntry.objects.count() == 20


def test_staff_without_rights_see_nothing(newcomer: Operator) -> None:
    page = newcomer.get("")
    assert "Your account has no rights here yet." in page
    for word in ("claude-sonnet", "global", "env:", "Latest requests", "Ledger", "Providers"):
        assert word not in page
    for path in PAGES:
        assert newcomer.client.get(f"/admin/{path}").status_code == 403
        assert newcomer.client.get(f"/admin/{path}add/").status_code == 403


def test_a_right_shows_its_part_of_the_first_page_and_no_other(newcomer: Operator) -> None:
    grant(newcomer, "accounting.view_budget")
    page = newcomer.get("")
    assert "of $10 a day" in page
    assert "Latest requests" not in page
    assert "/admin/accounting/budget/" in page
    assert "/admin/routing/provider/" not in page
    budget = Budget.objects.get()
    assert newcomer.send(f"accounting/budget/{budget.pk}/change/", {"limit_usd": "99"}).status_code == 403
    budget.refresh_from_db()
    assert budget.limit_usd == 10


def test_strangers_are_asked_to_sign_in(configuration: None) -> None:
    for path in ("", *PAGES):
        answer = Client().get(f"/admin/{path}")
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next=/admin/{path}")


def test_users_who_are_not_staff_are_kept_out(configuration: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("una"))
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens(operator: Operator, path: str) -> None:
    assert "<title>" in operator.get(path)


def test_a_user_is_added_with_a_password(operator: Operator) -> None:
    operator.post(
        "auth/user/add/",
        {"usable_password": "true"},
        username="vera",
        password1="correct horse 9",
        password2="correct horse 9",
    )
    assert User.objects.get(username="vera").check_password("correct horse 9")


@pytest.mark.parametrize("hidden", ["configurationversion", "charge", "budgetperiod"])
def test_what_the_machinery_writes_for_itself_has_no_page(operator: Operator, hidden: str) -> None:
    assert operator.client.get(f"/admin/accounting/{hidden}/").status_code == 404


def test_system_checks_need_no_tables() -> None:
    """`migrate` runs the checks on an empty database. This test has no database, so any query fails it."""
    call_command("check")
