"""The first page, and who sees what: problems, budgets and the last day, for those who may."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounting.ledger.reconcile import Comparison, Discrepancy, reconcile, remember
from accounting.models import Budget, LedgerEntry, Price, Reconciliation, RefusedRequest
from routing import defaults
from routing.admin.problems import CHECKS
from routing.models import Breaker, ModelAlias, Provider
from tests.admin.conftest import Operator, grant, lose_worker, provider, text
from tests.clocks import eventually
from tests.ledger.conftest import Book

PAGES = [
    "routing/provider/", "routing/modelalias/", "accounting/apikey/", "accounting/budget/", "accounting/price/",
    "accounting/ledgerentry/", "accounting/attempt/", "accounting/adjustment/", "accounting/reconciliation/",
    "auth/user/", "auth/group/",
]  # fmt: skip


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "sk-provider-secret")


@pytest.fixture
def compared(db: None) -> None:
    """The books were compared, as each start does."""
    remember(reconcile())


@pytest.mark.usefixtures("keys", "compared")
def test_a_healthy_gateway_shows_no_problems(operator: Operator) -> None:
    page = operator.get("")
    assert "Nothing needs you" in text(page, "verdict")
    assert text(page, "passed") == " ".join(f"check {check.passed}" for check in CHECKS)
    assert "Not shown to you" not in page
    assert "No request yet." in page
    assert "$0 of $10 a day" in page
    assert "sk-provider-secret" not in page


def problems(page: str) -> str:
    """What the page says must be done. It is never green at the same time."""
    assert "Nothing needs you" not in page
    return text(page, "problems")


def test_missing_keys_and_unpriced_aliases_are_the_first_thing_to_see(
    operator: Operator, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    Price.objects.filter(model="gpt-4o").delete()
    page = operator.get("")
    assert (
        "The provider google has no key: env:GEMINI_API_KEY leads to nothing. Steps at it are skipped, of gemini-pro "
        "and gemini-flash. Set GEMINI_API_KEY where the gateway runs, and start it again."
    ) in problems(page)
    assert f"/admin/routing/provider/{provider('google').pk}/change/" in page
    assert "The alias gpt-4o is unpriced: nobody has said what gpt-4o costs at openai." in problems(page)
    assert "/admin/accounting/price/add/?provider=openai&amp;model=gpt-4o" in page


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
    assert text(page, "day") == (
        "$0.25 spent 3 requests 1 failed 0 served by a fallback 1 running now $0.125 held by them 0 refused"
    )
    assert "all_models_failed" in text(page, "failures")
    assert "no entry is unknown" in page
    lose_worker(book)
    page = olga.get("")
    assert "1 ledger entry is unknown, charged at its hold ($0.125): its worker died" in problems(page)
    assert "?state__exact=unknown" in page


# --- each check ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keys", "compared")
def test_a_budget_whose_alias_or_provider_is_gone_limits_nothing_and_the_page_says_so(operator: Operator) -> None:
    Budget.objects.create(name="of-old", scope="alias", scope_value="claude-sonnet", limit_usd=0)
    Budget.objects.create(name="of-eu", scope="provider", scope_value="mistral-eu", limit_usd=5)
    page = operator.get("")
    assert "The budget of-eu limits nothing: there is no provider mistral-eu." in problems(page)
    assert "The budget of-old is spent: $0 of $0 a day. It refuses requests until its limit is raised." in problems(
        page
    )
    ModelAlias.objects.get(name="claude-sonnet").delete()
    page = operator.get("")
    assert "The budget of-old limits nothing: there is no alias claude-sonnet." in problems(page)
    assert "It refuses requests" not in page
    assert "gateway-bar-full" not in page
    budgets = text(page, "budgets")
    assert budgets.index("global hard") < budgets.index("of-old hard, alias gone")


@pytest.mark.usefixtures("keys", "compared")
@pytest.mark.parametrize(
    ("limit", "mode", "words"),
    [
        ("0.25", "hard", "The budget team is spent: $0.25 of $0.25 a day. It refuses requests until "),
        ("0.25", "soft", "The budget team is spent: $0.25 of $0.25 a day. It refuses requests until "),
        ("0.25", "alert", "The alert budget team has passed its limit: $0.25 of $0.25 a day."),
        ("0.3", "soft", "The budget team is nearly spent: $0.25 of $0.30 a day."),
        ("0.4", "hard", "The budget team is nearly spent: $0.25 of $0.40 a day, and $0.10 held by running requests."),
    ],
)
def test_a_budget_that_is_spent_or_nearly_is_named(book: Book, limit: str, mode: str, words: str) -> None:
    defaults.ensure()
    team = book.budget("5", name="team", mode=mode)
    book.post(book.hold("0.3"), "0.25")
    book.hold("0.1")
    Budget.objects.filter(pk=team.pk).update(limit_usd=Decimal(limit))
    page = Operator(User.objects.create_superuser("olga")).get("")
    assert words in problems(page)
    assert f"/admin/accounting/budget/{team.pk}/change/" in page
    Budget.objects.filter(pk=team.pk).update(limit_usd=Decimal("0.6"))
    assert "Nothing needs you" in Operator(User.objects.get()).get("")


@pytest.mark.usefixtures("keys", "compared")
def test_an_open_breaker_is_named_with_the_aliases_that_it_hurts(operator: Operator) -> None:
    now = datetime.now(UTC)
    fields = {"since": now, "open_until": now + timedelta(seconds=30), "failures": 5, "last_kind": "server_error"}
    breaker = Breaker.objects.create(provider="openai", model="gpt-4o", state="open", generation=1, **fields)
    page = operator.get("")
    assert "The breaker of openai gpt-4o is open, since " in problems(page)
    assert "(last: server_error). Requests for gpt-4o skip it until " in problems(page)
    assert f"/admin/routing/breaker/{breaker.pk}/change/" in page
    Breaker.objects.update(state="closed")
    assert "Nothing needs you" in operator.get("")


@pytest.mark.usefixtures("keys", "compared")
def test_a_refused_key_is_named_until_it_answers_again(book: Book) -> None:
    defaults.ensure()
    olga = Operator(User.objects.create_superuser("olga"))

    def call(**fields: Any) -> None:
        attempt = book.attempt("0", key_reference="env:ANTHROPIC_API_KEY", **fields)
        assert book.writer.settle(book.settlement(book.hold("0.1"), attempt, book.attempt("0.01")))

    call(outcome="authentication", http_status=401, error="invalid x-api-key")
    page = olga.get("")
    assert "anthropic refused the key env:ANTHROPIC_API_KEY at " in problems(page)
    assert "(401) and has not taken it since: invalid x-api-key" in problems(page)
    assert f"/admin/routing/provider/{provider('anthropic').pk}/change/" in page
    call(outcome="server_error", http_status=500)
    assert "anthropic refused the key" in problems(olga.get(""))
    call()
    assert "Nothing needs you" in olga.get("")
    call(outcome="authentication", http_status=403)
    assert "(403)" in problems(olga.get(""))
    Provider.objects.filter(name="anthropic").update(key_reference="env:OPENAI_API_KEY")
    assert "Nothing needs you" in olga.get(""), "nobody uses that key any more"


@pytest.mark.usefixtures("keys", "compared")
def test_an_alias_that_nobody_can_answer_and_a_chain_that_leads_nowhere_are_named(operator: Operator) -> None:
    Provider.objects.filter(name="google").update(enabled=False)
    page = problems(operator.get(""))
    assert "Nobody can answer gemini-pro and gemini-flash: no step of their chains has an enabled provider" in page
    assert "The chain of claude-sonnet has steps that lead nowhere: gemini-pro, as its provider is disabled." in page
    Provider.objects.filter(name="google").update(enabled=True)
    ModelAlias.objects.filter(name="gemini-flash").update(enabled=False)
    page = problems(operator.get(""))
    assert "Nobody can answer" not in page
    assert "The chain of gemini-pro has steps that lead nowhere: gemini-flash, as the alias is disabled." in page


@pytest.mark.usefixtures("keys", "compared")
def test_many_problems_of_one_kind_hide_no_other_kind(operator: Operator) -> None:
    openai = provider("openai")
    ModelAlias.objects.bulk_create(
        ModelAlias(name=f"new-{number}", provider=openai, upstream_model=f"new-{number}") for number in range(200)
    )
    Provider.objects.filter(name="google").update(enabled=False)
    page = problems(operator.get(""))
    assert page.count("is unpriced") == 3
    assert "And 197 more of these." in page
    assert "Nobody can answer gemini-pro" in page


@pytest.mark.usefixtures("keys", "compared")
def test_requests_that_fail_are_counted_by_their_code(book: Book) -> None:
    defaults.ensure()
    olga = Operator(User.objects.create_superuser("olga"))
    for _ in range(19):
        book.post(book.hold("0.01"), "0.01")
    assert "Nothing needs you" in olga.get("")
    book.void(book.hold("0.01"))
    page = olga.get("")
    assert "1 of the last hour's 20 requests failed: all_models_failed 1." in problems(page)
    assert "/admin/accounting/ledgerentry/?ended=failed&amp;created_at_from=" in page
    listed = olga.get("accounting/ledgerentry/?ended=failed")
    assert listed.count("all_models_failed") == 1
    assert "200</td>" not in listed


@pytest.mark.usefixtures("keys", "compared")
def test_refused_requests_of_the_last_hour_are_counted_by_their_code(operator: Operator) -> None:
    now = datetime.now(UTC)
    refuse = RefusedRequest.objects.create
    refuse(at=now - timedelta(hours=2), request_id="r-0", code="invalid_api_key")
    page = operator.get("")
    assert "Nothing needs you" in page
    assert "nobody was refused in the last hour" in page
    refuse(at=now, request_id="r-1", code="model_not_found", alias="gpt-9")
    assert "1 request of the last hour was refused: model_not_found 1." in problems(operator.get(""))
    refuse(at=now, code="budget_exceeded", budget="global", count=1200)  # a count
    page = operator.get("")
    assert "1201 requests of the last hour were refused: budget_exceeded 1200, model_not_found 1." in problems(page)
    assert text(page, "day").endswith("1,202 refused")
    assert "/admin/accounting/refusedrequest/?at_from=" in page
    link = re.search(r"accounting/refusedrequest/\?at_from=[\d-]+", page)
    assert link is not None
    listed = operator.get(link.group())
    assert "model_not_found" in listed


@pytest.mark.usefixtures("keys")
def test_the_books_are_green_only_when_they_were_compared_and_right(operator: Operator) -> None:
    assert "Nobody has compared the books yet" in problems(operator.get(""))
    off = Discrepancy("budget 'global'", "posted is not the sum of its charges", Decimal(4), Decimal(5), None)
    remember(Comparison(periods=3, entries=7, discrepancies=(off, off)))
    page = operator.get("")
    words = "budget 'global': posted is not the sum of its charges: 5 instead of 4 (+1 USD)"
    assert f"UTC: {words}. And 1 more." in problems(page)
    run = Reconciliation.objects.get()
    assert words in html.unescape(operator.get(f"accounting/reconciliation/{run.pk}/change/"))
    remember(Comparison(periods=3, entries=7, discrepancies=()))
    page = operator.get("")
    assert "Nothing needs you" in page
    assert "UTC, right (7 entries)" in text(page, "verdict")


@pytest.mark.usefixtures("keys", "compared")
def test_holds_that_nobody_expires_mean_that_no_writer_is_at_work(operator: Operator) -> None:
    now = datetime.now(UTC)
    fields = {"writer_id": 1, "request_id": "r", "key": "bot", "alias": "gpt-4o", "created_at": now}
    LedgerEntry.objects.create(id=uuid4(), expires_at=now - timedelta(minutes=2), **fields)
    page = operator.get("")
    assert "1 hold should have ended long ago: no worker's ledger writer is at work to expire it." in problems(page)
    assert "?state__exact=held" in page


@pytest.mark.usefixtures("keys")
def test_a_writer_that_waits_for_a_lock_is_named(transactional_db: None) -> None:
    defaults.ensure()
    remember(reconcile())
    olga = Operator(User.objects.create_superuser("olga"))
    parameters = {**connection.get_connection_params(), "application_name": "gateway ledger writer"}
    with psycopg.connect(**parameters) as slow:
        slow.execute("SELECT 1")
        assert eventually(lambda: "1 worker of the gateway waited for Postgres for up to " in olga.get(""), 10)
        problems(olga.get(""))
        slow.rollback()
        slow.execute("LOCK TABLE accounting_ledgerentry")
        assert "The ledger cannot be written: somebody has locked it" in problems(olga.get(""))
    assert "Nothing needs you" in olga.get("")


@pytest.mark.usefixtures("keys", "compared")
def test_system_checks_are_shown_to_superusers(operator: Operator, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert "gateway.W003: ALLOWED_HOSTS=* lets any web page reach the gateway" in problems(operator.get(""))


@pytest.mark.usefixtures("keys")
def test_a_check_that_postgres_refuses_has_not_passed(transactional_db: None) -> None:
    defaults.ensure()
    remember(reconcile())
    olga = Operator(User.objects.create_superuser("olga"))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE routing_breakerstate RENAME TO moved")
        try:
            page = olga.get("")
        finally:
            cursor.execute("ALTER TABLE moved RENAME TO routing_breakerstate")
    assert "Nobody knows about breakers: Postgres refused to say (UndefinedTable)." in problems(page)
    assert "every breaker is closed" not in page
    assert "every budget has room" in page


# --- words of all pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("accounting/ledgerentry/", "Each request that is admitted has a row here, from its hold on."),
        ("accounting/ledgerentry/?q=req-1", "No admitted request fits. One that was refused is under Refusals."),
        ("accounting/refusedrequest/?q=req-1", "No refused request fits. A request that was admitted is under Ledger."),
        ("accounting/attempt/", "Each call of a provider has a row here, once its request is settled."),
        ("accounting/reconciliation/", "Each start of the gateway compares what is new"),
        ("routing/breaker/", "A deployment's breaker is listed from the first time that it opens."),
    ],
)
def test_an_empty_list_says_what_will_be_there_and_not_to_make_it(operator: Operator, path: str, words: str) -> None:
    page = operator.get(path)
    assert words in text(page, "empty")
    assert "Create a new item" not in page


def test_a_title_is_a_name_as_clients_send_it(operator: Operator) -> None:
    page = operator.get(f"routing/modelalias/{ModelAlias.objects.get(name='claude-sonnet').pk}/change/")
    assert re.search(r'title="claude-sonnet">\s*claude-sonnet\s*</a *>', page)
    assert "Claude-sonnet" not in page


# --- who may see what ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("keys", "compared")
def test_the_page_claims_nothing_about_what_it_did_not_show(newcomer: Operator) -> None:
    for check in CHECKS:
        grant(newcomer, *check.rights)
    page = newcomer.get("")
    assert "Of what you may see, all is in order" in page
    assert text(page, "hidden") == "Not shown to you: system checks."
    assert "Nothing needs you" not in page


@pytest.mark.usefixtures("keys", "compared")
def test_a_reader_of_budgets_hears_of_budgets_alone(newcomer: Operator) -> None:
    grant(newcomer, "accounting.view_budget")
    Provider.objects.update(enabled=False)
    page = newcomer.get("")
    assert "Of what you may see, all is in order" in page
    assert text(page, "passed").endswith("every budget has room")
    for subject in ("missing provider keys", "aliases that nobody can answer", "the books", "breakers"):
        assert subject in text(page, "hidden")
    assert "gemini-pro" not in page


def test_who_may_see_other_pages_only_is_not_told_to_ask_for_rights(newcomer: Operator) -> None:
    grant(newcomer, "auth.view_user")
    page = newcomer.get("")
    assert "Your account may see nothing of what this page shows." in page
    assert "no rights here yet" not in page


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
