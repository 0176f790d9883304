"""A form that was made from an older state of its rows is refused, shows both values, and writes nothing."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import connection

from accounting.admin.pages import Page
from accounting.keys import fields_for
from accounting.models import ApiKey, Budget, Price, PriceRate
from routing.models import Fallback, ModelAlias, Provider, ProviderKey
from tests.admin.conftest import Operator, alias, chain, grant, provider, version

REFUSED = "so <strong>nothing was saved</strong>"


def future_price() -> Price:
    price = Price.objects.create(provider="openai", model="gpt-4o", effective_from="2999-01-01T00:00:00Z")
    for meter, usd in (("input", "3"), ("output", "12")):
        PriceRate.objects.create(price=price, meter=meter, usd_per_unit=Decimal(usd))
    return price


def page_of(row: Any) -> str:
    return f"{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


def test_every_page_of_the_admin_is_made_from_the_one_that_refuses_stale_forms() -> None:
    assert [str(page) for page in admin.site._registry.values() if not isinstance(page, Page)] == []


@pytest.mark.parametrize(
    ("make", "theirs", "mine", "shown"),
    [
        (Budget.objects.get, {"limit_usd": 5}, {"name": "mine"}, ("Limit in USD", "10", "5")),
        (lambda: provider("openai"), {"retries": 4}, {"name": "mine"}, ("Retries", "1", "4")),
        (lambda: alias("gpt-4o"), {"enabled": False}, {"weight": 7}, ("Enabled", "yes", "no")),
        (
            lambda: alias("gpt-4o"), {"provider": lambda: provider("google")}, {"weight": 7},
            ("Provider", "openai", "google"),
        ),
        (
            lambda: ApiKey.objects.create(name="bot", **fields_for("sk-gw-secret-of-bot")),
            {"allowed_aliases": ["gpt-4o", "gemini-pro"]}, {"requests_per_minute": 5},
            ("These", "empty", "gpt-4o, gemini-pro"),
        ),
        (future_price, {"source": "a letter"}, {"model": "gpt-5"}, ("Source", "operator", "a letter")),
        (lambda: User.objects.create_user("ute"), {"is_active": False}, {"first_name": "Ute"}, ("Active", "yes", "no")),
    ],
    ids=["budget", "provider", "alias", "alias's provider", "key", "price", "user"],
)  # fmt: skip
def test_a_form_from_an_older_state_is_refused_and_shows_both_values(
    operator: Operator, make: Any, theirs: dict[str, Any], mine: dict[str, Any], shown: tuple[str, str, str]
) -> None:
    row = make()
    fields = operator.form(page_of(row))
    type(row).objects.filter(pk=row.pk).update(**{k: v() if callable(v) else v for k, v in theirs.items()})
    before = (version(), type(row).objects.filter(pk=row.pk).values().get())
    answer = operator.send(page_of(row), fields | mine)
    page = answer.content.decode()
    assert answer.status_code == 409
    assert REFUSED in page
    found = {row.what: row for row in answer.context["differences"]}
    what, then, now = shown
    assert (found[what].then or "empty", found[what].now, found[what].is_theirs) == (then, now, True)
    (asked,) = mine.values()
    assert str(asked) in {row.yours for row in found.values() if not row.is_theirs}
    assert (version(), type(row).objects.filter(pk=row.pk).values().get()) == before
    assert not LogEntry.objects.exists()
    operator.post(page_of(row), operator.form(page_of(row)) | mine)  # made anew, it is taken
    row.refresh_from_db()
    assert {name: getattr(row, name) for name in mine} == mine


def test_a_rate_a_further_key_and_a_fallback_that_others_changed_refuse_their_pages_form(operator: Operator) -> None:
    price, openai = future_price(), provider("openai")
    key = ProviderKey.objects.create(provider=openai, key_reference="env:OPENAI_API_KEY_2")
    step = Fallback.objects.get(alias=alias("gpt-4o"))
    for row, rows, change in (
        (price, PriceRate.objects.filter(price=price, meter="input"), {"usd_per_unit": Decimal(4)}),
        (openai, ProviderKey.objects.filter(pk=key.pk), {"enabled": False}),
        (step.alias, Fallback.objects.filter(pk=step.pk), {"target": alias("gemini-flash")}),
    ):
        fields = operator.form(page_of(row))
        rows.update(**change)
        before = version()
        answer = operator.send(page_of(row), fields)
        assert (answer.status_code, version()) == (409, before)
        assert len([found for found in answer.context["differences"] if found.is_theirs]) == 1


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_row_of_an_inline_that_others_deleted_or_added_is_named(operator: Operator, is_deleted: bool) -> None:
    path = page_of(alias("gpt-4o"))
    fields = operator.form(path)
    if is_deleted:
        alias("gpt-4o").fallbacks.all().delete()
    else:
        Fallback.objects.create(alias=alias("gpt-4o"), position=2, target=alias("gemini-flash"))
    before = version()
    answer = operator.send(path, fields, weight=7)
    (theirs,) = (found for found in answer.context["differences"] if found.is_theirs)
    expected = "kind when it fails, position 1, target gemini-pro"
    if is_deleted:
        assert (theirs.then, theirs.now, theirs.yours) == (expected, "not there", expected)
    else:
        assert (theirs.then, theirs.now) == ("not there", "kind when it fails, position 2, target gemini-flash")
    assert version() == before
    assert chain("gpt-4o") == ([] if is_deleted else ["gemini-pro", "gemini-flash"])


def test_the_form_of_a_row_that_is_gone_makes_no_new_one(operator: Operator) -> None:
    budget = Budget.objects.get()
    fields = operator.form(page_of(budget))
    budget_page = page_of(budget)
    Budget.objects.all().delete()
    assert "Perhaps it was deleted?" in operator.post(budget_page, fields, name="mine")
    assert not Budget.objects.exists()


def test_rights_that_others_gave_or_took_are_not_undone(operator: Operator) -> None:
    group = Group.objects.create(name="finance")
    fields = operator.form(page_of(group))
    group.permissions.add(Permission.objects.get(codename="view_budget"))
    answer = operator.send(page_of(group), fields, name="mine")
    assert [found.what for found in answer.context["differences"] if found.is_theirs] == ["Permissions"]
    assert [permission.codename for permission in group.permissions.all()] == ["view_budget"]


@pytest.mark.parametrize("seen", ["", "made up", "of another row"])
def test_a_form_that_does_not_say_what_it_was_made_from_is_refused(operator: Operator, seen: str) -> None:
    budget, other = Budget.objects.get(), Budget.objects.create(name="other", limit_usd=1)
    fields = operator.form(page_of(budget))
    fields["seen"] = operator.form(page_of(other))["seen"] if seen == "of another row" else seen
    assert operator.send(page_of(budget), fields, name="mine").status_code == 409
    assert set(Budget.objects.values_list("name", flat=True)) == {"global", "other"}


def test_what_is_refused_shows_no_key_that_was_pasted(operator: Operator) -> None:
    openai = provider("openai")
    fields = operator.form(page_of(openai))
    Provider.objects.filter(pk=openai.pk).update(retries=4)
    page = operator.post(page_of(openai), fields, key_reference="sk-proj-8fJ2mQ0aVn3xZ7")
    assert REFUSED in page
    assert "sk-proj-8fJ2mQ0aVn3xZ7" not in page


def test_whoever_may_not_change_a_row_learns_nothing_from_a_stale_form(operator: Operator, newcomer: Operator) -> None:
    budget = Budget.objects.get()
    fields = operator.form(page_of(budget))
    Budget.objects.update(limit_usd=5)
    grant(newcomer, "accounting.view_budget")
    assert newcomer.send(page_of(budget), fields).status_code == 403


def test_a_list_that_was_made_from_an_older_state_is_refused(operator: Operator) -> None:
    path = "routing/modelalias/"
    fields = operator.list_form(path)
    for number, row in enumerate(ModelAlias.objects.all()):
        fields |= {f"form-{number}-id": row.pk, f"form-{number}-position": row.position, f"form-{number}-enabled": "on"}
    fields["form-3-position"] = 9
    ModelAlias.objects.filter(name="gpt-4o").update(enabled=False)
    before = version()
    answer = operator.send(path, fields)
    assert answer.status_code == 409
    shown = [(found.what, found.then, found.now, found.yours) for found in answer.context["differences"]]
    assert shown == [("gpt-4o: enabled", "yes", "no", "yes"), ("gemini-flash: position", "4", "4", "9")]
    assert version() == before
    assert alias("gpt-4o").enabled is False


def test_a_list_with_a_row_that_is_gone_is_refused(operator: Operator) -> None:
    path = "routing/modelalias/"
    fields = operator.list_form(path)
    for number, row in enumerate(ModelAlias.objects.all()):
        fields |= {f"form-{number}-id": row.pk, f"form-{number}-position": number, f"form-{number}-enabled": "on"}
    alias("claude-sonnet").delete()
    before = version()
    answer = operator.send(path, fields)
    assert answer.status_code == 409
    assert "a row that is gone: position" in [found.what for found in answer.context["differences"]]
    assert version() == before


@pytest.mark.django_db(transaction=True)
def test_of_two_forms_sent_at_once_one_is_saved_and_the_other_refused(operator: Operator) -> None:
    budget = Budget.objects.get()
    clients = [operator, Operator(User.objects.create_superuser("otto"))]
    forms = [
        clients[0].form(page_of(budget)) | {"limit_usd": "25"},
        clients[1].form(page_of(budget)) | {"time_zone": "Europe/Berlin"},
    ]
    start, answers = threading.Barrier(2), []

    def send(client: Operator, fields: dict[str, Any]) -> None:
        start.wait()
        answers.append(client.send(page_of(budget), fields).status_code)
        connection.close()

    threads = [threading.Thread(target=send, args=pair) for pair in zip(clients, forms, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409]
    budget.refresh_from_db()
    assert (budget.limit_usd, budget.time_zone) in ((Decimal(25), "UTC"), (Decimal(10), "Europe/Berlin"))


@pytest.mark.django_db(transaction=True)
def test_of_two_that_are_made_with_one_name_at_once_one_is_made_and_neither_fails(operator: Operator) -> None:
    operator.client.raise_request_exception = False
    fields = operator.form("accounting/budget/add/") | {"name": "team", "limit_usd": "5"}
    start, answers = threading.Barrier(4), []

    def send() -> None:
        start.wait()
        answers.append(operator.client.post("/admin/accounting/budget/add/", fields).status_code)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 302}
    assert Budget.objects.filter(name="team").count() == 1
