"""API keys in the admin: shown once, never again, and never more permissive than was asked for."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session

from accounting.keys import digest, fields_for, find, load_keys
from accounting.models import ApiKey, Budget
from tests.admin.conftest import Operator, alias, grant, version

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


# --- which aliases -------------------------------------------------------------------------------------------


def test_unticking_the_last_alias_does_not_open_all_of_them(operator: Operator) -> None:
    key = make(allowed_aliases=["gpt-4o"])
    fields = operator.form(page_of(key))
    assert fields["which_aliases"] == "listed"
    before = version()
    assert "Tick an alias, or choose “all aliases”." in operator.post(page_of(key), fields | {"allowed_aliases": []})
    del fields["which_aliases"]  # a form of before
    assert "Tick an alias" in operator.post(page_of(key), fields | {"allowed_aliases": []})
    key.refresh_from_db()
    assert (key.allowed_aliases, version()) == (["gpt-4o"], before)


def test_a_key_is_opened_to_all_aliases_by_saying_so(operator: Operator) -> None:
    key = make(allowed_aliases=["gpt-4o"])
    fields = operator.form(page_of(key)) | {"which_aliases": "all"}
    assert "Untick all aliases" in operator.post(page_of(key), fields)
    key.refresh_from_db()
    assert key.allowed_aliases == ["gpt-4o"]
    operator.post(page_of(key), fields | {"allowed_aliases": []})
    key.refresh_from_db()
    assert key.allowed_aliases == []
    operator.post(page_of(key), operator.form(page_of(key)), allowed_aliases=["gpt-4o"])  # to tick is to restrict
    key.refresh_from_db()
    assert key.allowed_aliases == ["gpt-4o"]


# --- whose money ---------------------------------------------------------------------------------------------


def test_owner_tags_and_end_user_are_edited(operator: Operator) -> None:
    key = make()
    fields = operator.form(page_of(key)) | {
        "owner": "Growth", "tags": "team=red\n\n cost centre = a=b", "required_tags": "project,ticket",
        "end_user": "crm", "binds_fallbacks": "on",
    }  # fmt: skip
    del fields["callers_name_end_users"]
    operator.post(page_of(key), fields)
    key.refresh_from_db()
    assert (key.owner, key.tags, key.required_tags) == (
        "Growth", {"team": "red", "cost centre": "a=b"}, ["project", "ticket"],
    )  # fmt: skip
    assert (key.end_user, key.callers_name_end_users, key.binds_fallbacks) == ("crm", False, True)
    shown = operator.form(page_of(key))
    assert (shown["tags"], shown["required_tags"]) == ("team=red\ncost centre=a=b", "project,ticket")
    operator.post(page_of(key), shown, tags="", required_tags="")
    key.refresh_from_db()
    assert (key.tags, key.required_tags) == ({}, [])
    assert "Growth" in operator.get(LIST)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("tags", "red", "Write each tag once"),
        ("tags", "team=red\nteam=blue", "Write each tag once"),
        ("tags", "team=", "needs a printable value"),
        ("required_tags", "a=b", "no “=”"),
    ],
)
def test_a_tag_that_no_budget_could_name_is_refused(operator: Operator, field: str, value: str, reason: str) -> None:
    key = make()
    before = version()
    assert reason in operator.post(page_of(key), operator.form(page_of(key)), **{field: value})
    assert version() == before


# --- its life ------------------------------------------------------------------------------------------------


def test_an_expired_key_looks_expired(operator: Operator) -> None:
    now = datetime.now(UTC)
    for name, expires_at, enabled in (
        ("for ever", None, True), ("far", now + timedelta(days=30), True), ("near", now + timedelta(days=3), True),
        ("over", now - timedelta(days=1), True), ("off", now - timedelta(days=1), False),
    ):  # fmt: skip
        make(name=name, **fields_for(f"sk-gw-{name}"), expires_at=expires_at, enabled=enabled)
    page = operator.get(LIST)
    assert re.findall(r"\b(active|expires in \d d|expired|disabled)\s*</span>", page) == [
        "active", "active", "expires in 2 d", "disabled", "expired",
    ]  # fmt: skip
    for state, names in {
        "active": ["far", "for ever", "near"], "soon": ["near"], "expired": ["over"], "disabled": ["off"], "two": [],
    }.items():  # fmt: skip
        found = operator.client.get(f"/admin/{LIST}?state={state}").context["cl"].result_list
        assert [key.name for key in found] == names


def test_an_end_in_the_past_is_refused_but_an_expired_key_is_edited(operator: Operator) -> None:
    key = make(expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    operator.post(page_of(key), operator.form(page_of(key)), requests_per_minute=7)
    key.refresh_from_db()
    assert key.requests_per_minute == 7
    before = version()
    page = operator.post(page_of(key), operator.form(page_of(key)), expires_at_0="2021-01-01")
    assert "This is in the past. To stop the key, disable it." in page
    assert version() == before


def test_rotating_shows_the_new_secret_once_and_keeps_the_old_one_for_the_grace(operator: Operator) -> None:
    key = make(requests_per_minute=5)
    Budget.objects.create(name="of the bot", scope="key", api_key=key, limit_usd=5)
    assert f"{key.pk}/rotate/" in operator.get(page_of(key))
    form = operator.client.get(f"/admin/{LIST}{key.pk}/rotate/").context["form"]
    assert form["grace_h"].value() == 24
    answer = operator.send(f"{LIST}{key.pk}/rotate/", {"seen": form["seen"].value(), "grace_h": 72})
    (secret,) = set(re.findall(r"sk-gw-[\w-]{43}", answer.content.decode()))
    assert "no-store" in answer["Cache-Control"]
    key.refresh_from_db()
    assert (key.digest, key.prefix, key.old_digest) == (digest(secret), secret[:10], digest("sk-gw-secret-of-bot"))
    assert key.rotated_at is not None
    assert key.old_valid_until == key.rotated_at + timedelta(hours=72)
    assert (key.requests_per_minute, key.budgets.count()) == (5, 1)
    both = [find(load_keys(), presented) for presented in (secret, "sk-gw-secret-of-bot")]
    assert [found and (found.id, found.retires_at) for found in both] == [
        (key.pk, None), (key.pk, key.old_valid_until),
    ]  # fmt: skip
    (line,) = LogEntry.objects.values_list("user__username", "change_message")
    assert line == (
        "olga",
        f"Rotated. The secret before: {key.old_prefix}… is good until {key.old_valid_until:%Y-%m-%d %H:%M} UTC.",
    )
    for path in (LIST, page_of(key), f"{LIST}{key.pk}/history/"):
        later = operator.get(path)
        assert secret not in later
        assert key.digest not in later
        assert key.old_digest not in later


def test_a_rotation_that_is_sent_twice_is_made_once(operator: Operator) -> None:
    key = make()
    sent = {"seen": "", "grace_h": 24}
    operator.post(f"{LIST}{key.pk}/rotate/", sent)
    key.refresh_from_db()
    rotated = key.digest
    for stale in (sent, sent | {"seen": "2020-01-01T00:00:00+00:00"}, sent | {"seen": "no moment"}):
        page = operator.post(f"{LIST}{key.pk}/rotate/", stale)
        assert "was rotated since this form was made" in page
        assert not re.search(r"sk-gw-[\w-]{43}", page)
    key.refresh_from_db()
    assert key.digest == rotated
    assert LogEntry.objects.count() == 1


def test_a_rotation_without_grace_ends_the_old_secret_at_once(operator: Operator) -> None:
    key = make()
    operator.post(f"{LIST}{key.pk}/rotate/", {"seen": "", "grace_h": 0})
    found = find(load_keys(), "sk-gw-secret-of-bot")
    assert found is not None
    assert found.retires_at is not None
    assert found.retires_at <= datetime.now(UTC)


def test_who_may_only_look_at_keys_cannot_rotate_them_nor_ask_for_their_hashes(newcomer: Operator) -> None:
    key = make(tags={"team": "red"}, old_digest="0" * 64)
    grant(newcomer, "accounting.view_apikey", "accounting.view_budget")
    page = newcomer.get(page_of(key))
    assert "Rotate" not in page
    assert key.digest not in page
    before = version()
    assert newcomer.client.post(f"/admin/{LIST}{key.pk}/rotate/", {"seen": "", "grace_h": 0}).status_code == 403
    assert version() == before
    for lookup in ("digest__startswith", "digest", "old_digest__startswith", "digest__gt", "digest__regex"):
        assert newcomer.client.get(f"/admin/{LIST}?{lookup}=0").status_code == 400
        assert newcomer.client.get(f"/admin/accounting/budget/?api_key__{lookup}=0").status_code == 400


def test_a_key_without_a_budget_is_deleted(operator: Operator) -> None:
    key = make()
    operator.post(f"{LIST}{key.pk}/delete/", {"post": "yes"})
    assert not ApiKey.objects.exists()
