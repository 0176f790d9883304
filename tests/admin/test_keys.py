"""API keys in the admin: shown once, never again, and never more permissive than was asked for."""

from __future__ import annotations

import json
import re
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session

from accounting.keys import digest, fields_for, find, load_keys
from accounting.models import ApiKey, Budget
from tests.admin.conftest import Operator, alias, version

LIST = "accounting/apikey/"


def make(**fields: Any) -> ApiKey:
    values = {"name": "bot", **fields_for("sk-gw-secret-of-bot"), **fields}
    return ApiKey.objects.create(**values)


def page_of(key: ApiKey) -> str:
    return f"{LIST}{key.pk}/change/"


def test_a_new_key_is_shown_once_and_works(operator: Operator) -> None:
    fields = operator.form(f"{LIST}add/")
    answer = operator.send(
        f"{LIST}add/", fields, name="telegram-bot", allowed_aliases=["gpt-4o"], requests_per_minute=30
    )
    page = answer.content.decode()
    (secret,) = set(re.findall(r"sk-gw-[\w-]{43}", page))
    assert "no-store" in answer["Cache-Control"]
    key = ApiKey.objects.get()
    assert (key.name, key.allowed_aliases, key.requests_per_minute) == ("telegram-bot", ["gpt-4o"], 30)
    assert (key.prefix, key.digest) == (secret[:10], digest(secret))
    found = find(load_keys(), secret)
    assert found is not None
    assert found.name == "telegram-bot"

    for path in (LIST, page_of(key), f"{LIST}{key.pk}/history/", ""):
        later = operator.get(path)
        assert secret not in later
        assert key.digest not in later
    assert secret not in json.dumps(list(LogEntry.objects.values()), default=str)
    assert not any(secret in str(session.get_decoded()) for session in Session.objects.all())
    assert secret not in str(operator.client.cookies)


def test_save_and_continue_shows_the_key_as_well(operator: Operator) -> None:
    page = operator.post(f"{LIST}add/", operator.form(f"{LIST}add/"), name="bot", _continue="Save")
    assert re.search(r"sk-gw-[\w-]{43}", page)


def test_a_key_that_is_refused_is_not_made(operator: Operator) -> None:
    make()
    before = version()
    fields = operator.form(f"{LIST}add/")
    for name, reason in (("bot", "API key with this Name already exists."), ("anonymous", "is kept for requests")):
        page = operator.post(f"{LIST}add/", fields, name=name)
        assert reason in page
        assert not re.search(r"sk-gw-[\w-]{43}", page)
    assert ApiKey.objects.count() == 1
    assert version() == before


def test_changing_a_key_keeps_its_secret(operator: Operator) -> None:
    key = make()
    page = operator.post(page_of(key), operator.form(page_of(key)), name="bot-2")
    key.refresh_from_db()
    assert (key.name, key.digest) == ("bot-2", digest("sk-gw-secret-of-bot"))
    assert key.digest not in page


def test_a_deleted_alias_does_not_open_a_restricted_key_to_everything(operator: Operator) -> None:
    key = make(allowed_aliases=["gemini-flash"])
    alias("gemini-pro").fallbacks.all().delete()
    alias("gemini-flash").delete()
    fields = operator.form(page_of(key))
    assert fields["allowed_aliases"] == ["gemini-flash"]
    assert "gemini-flash (deleted)" in operator.get(page_of(key))
    operator.post(page_of(key), fields, requests_per_minute=5)
    key.refresh_from_db()
    assert (key.allowed_aliases, key.requests_per_minute) == (["gemini-flash"], 5)


def test_an_alias_that_never_existed_is_refused(operator: Operator) -> None:
    key = make()
    before = version()
    page = operator.post(page_of(key), operator.form(page_of(key)), allowed_aliases=["gpt-9"])
    assert "Select a valid choice. gpt-9 is not one of the available choices." in page
    assert version() == before


def test_keys_are_switched_off_and_on_from_the_list_and_the_history_says_by_whom(operator: Operator) -> None:
    first, second = make(), make(name="other", **fields_for("sk-gw-other"), enabled=False)
    selected = [first.pk, second.pk]
    page = operator.post(LIST, {"action": "disable", "_selected_action": selected})
    assert "Disabled 1 key(s); the next request knows." in page
    assert set(ApiKey.objects.values_list("enabled", flat=True)) == {False}
    operator.post(LIST, {"action": "enable", "_selected_action": selected})
    assert set(ApiKey.objects.values_list("enabled", flat=True)) == {True}
    assert sorted(LogEntry.objects.values_list("object_repr", "change_message", "user__username")) == [
        ("bot", "Disabled.", "olga"), ("bot", "Enabled.", "olga"), ("other", "Enabled.", "olga"),
    ]  # fmt: skip


def test_a_key_with_a_budget_is_not_deleted_and_the_page_says_why(operator: Operator) -> None:
    key = make()
    Budget.objects.create(name="of the bot", scope="key", api_key=key, limit_usd=5)
    before = version()
    page = operator.post(f"{LIST}{key.pk}/delete/", {"post": "yes"})
    assert "The budget “of the bot” is for the key “bot”: disable the key instead" in page
    assert ApiKey.objects.count() == 1
    assert version() == before


def test_a_key_without_a_budget_is_deleted(operator: Operator) -> None:
    key = make()
    operator.post(f"{LIST}{key.pk}/delete/", {"post": "yes"})
    assert not ApiKey.objects.exists()
