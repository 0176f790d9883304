"""API keys as clients meet them, and live configuration: the next request on every worker uses a change."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest

from accounting.models import ApiKey, Budget
from routing.models import Fallback, ModelAlias, Provider
from tests.e2e.gateway import Gateway, asks, http, unique


def status(gateway: Gateway, alias: str, **headers: str) -> int:
    """The status of a chat request with these headers, on a new connection."""
    return gateway.post(json.dumps({"model": alias, **asks()}).encode(), **headers).status_code


def answers(gateway: Gateway, alias: str, times: int = 20) -> list[Any]:
    """Whole answers on as many new connections, so that each worker gets some."""
    raw = json.dumps({"model": alias, **asks()}).encode()
    return [gateway.post(raw) for _ in range(times)]


# --- keys --------------------------------------------------------------------------------------------------


def test_a_key_may_come_in_three_headers(guarded_gateway: Gateway) -> None:
    gateway, route, secret = guarded_gateway, guarded_gateway.route("openai"), guarded_gateway.key()
    assert status(gateway, route.alias, authorization=f"Bearer {secret}") == 200
    assert status(gateway, route.alias, authorization=f"bearer   {secret}") == 200
    assert status(gateway, route.alias, x_api_key=secret) == 200
    assert status(gateway, route.alias, api_key=secret) == 200
    with gateway.nothing_written():
        for headers in (
            {"authorization": secret},
            {"authorization": f"Basic {secret}"},
            {"authorization": "Bearer"},
            {"authorization": f"Bearer {secret}x"},
            {"x_api_key": secret[:-1]},
            {"cookie": f"key={secret}"},
        ):
            assert status(gateway, route.alias, **headers) == 401
        assert http.get(f"{gateway.url}/v1/models?api_key={secret}").status_code == 401


def test_a_key_ends_when_it_expires_and_when_it_is_switched_off(guarded_gateway: Gateway) -> None:
    gateway, route = guarded_gateway, guarded_gateway.route("openai")
    name = unique("key")
    secret = gateway.key(name=name, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert status(gateway, route.alias, api_key=secret) == 200
    changes: list[tuple[dict[str, Any], int]] = [
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, 401),
        ({"expires_at": None}, 200),
        ({"enabled": False}, 401),
        ({"enabled": True}, 200),
        ({"allowed_aliases": ["gemini-flash"]}, 403),
        ({"allowed_aliases": ["gemini-flash", route.alias]}, 200),
    ]
    for change, expected in changes:
        with gateway.orm():
            key = ApiKey.objects.get(name=name)
            for field, value in change.items():
                setattr(key, field, value)
            key.save()
        assert status(gateway, route.alias, api_key=secret) == expected, change
    assert {entry["key"] for entry in gateway.entries(route.alias)} == {name}


def test_a_deleted_key_is_refused_and_its_name_stays_on_the_books(guarded_gateway: Gateway) -> None:
    gateway, route, name = guarded_gateway, guarded_gateway.route("openai"), unique("key")
    secret = gateway.key(name=name)
    assert status(gateway, route.alias, api_key=secret) == 200
    with gateway.orm():
        ApiKey.objects.get(name=name).delete()
    assert status(gateway, route.alias, api_key=secret) == 401
    assert gateway.entry(route.alias)["key"] == name  # history keeps it


def test_a_key_sees_only_the_models_it_may_use(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    client = gateway.client(api_key=gateway.key(allowed_aliases=["gpt-4o", "gemini-flash"]))
    assert [model.id for model in client.models.list()] == ["gpt-4o", "gemini-flash"]
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("claude-sonnet")
    with pytest.raises(openai.AuthenticationError):
        gateway.client(api_key="dummy").models.list()


def test_an_open_gateway_takes_any_key_but_knows_its_own(gateway: Gateway) -> None:
    route, name = gateway.route("openai"), unique("key")
    secret = gateway.key(name=name)
    assert status(gateway, route.alias) == 200
    assert status(gateway, route.alias, authorization="Bearer dummy") == 200
    assert status(gateway, route.alias, authorization=f"Bearer {secret}") == 200
    assert [entry["key"] for entry in gateway.entries(route.alias)] == ["anonymous", "anonymous", name]


def test_an_open_gateway_refuses_a_key_that_was_switched_off(gateway: Gateway) -> None:
    route, secret = gateway.route("openai"), gateway.key(enabled=False)
    with gateway.nothing_written():
        assert [status(gateway, route.alias, api_key=secret) for _ in range(6)] == [401] * 6


def test_a_fallback_may_serve_what_the_key_may_not_ask_for(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(key_reference="env:NOBODY_SET_THIS")
    client = gateway.client(api_key=gateway.key(allowed_aliases=[route.alias]))
    assert client.chat.completions.create(model=route.alias, **asks()).model == route.aliases[1]


def test_the_database_has_no_key_that_could_be_used(gateway: Gateway) -> None:
    name = unique("key")
    secret = gateway.key(name=name)
    (row,) = gateway.rows("SELECT * FROM accounting_apikey WHERE name = %s", name)
    assert secret not in str(row)
    assert secret.startswith(row["prefix"])
    assert re.fullmatch("[0-9a-f]{64}", row["digest"])


def test_a_key_made_at_the_command_line_works_at_once_within_its_budget(gateway: Gateway) -> None:
    route, name = gateway.route("openai"), unique("key")
    made = gateway.running.manage("create_key", name, "--alias", route.alias, "--budget", "0.001")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.splitlines()[-1].strip()
    client = gateway.client(api_key=secret)
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="gpt-4o", **asks())
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=route.alias, **asks())
    assert raised.value.code == "request_exceeds_budget"
    client.chat.completions.create(model=route.alias, max_tokens=1, **asks("Hi"))
    assert gateway.entry(route.alias)["key"] == name


# --- live configuration ----------------------------------------------------------------------------------------


def test_a_saved_chain_is_used_by_the_very_next_request_of_every_worker(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", "openai")
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(key_reference="env:NOBODY_SET_THIS")
    for target in (1, 2, 1, 2):
        with gateway.orm():
            Fallback.objects.filter(alias__name=route.alias).delete()
            step = Fallback(
                alias=ModelAlias.objects.get(name=route.alias),
                position=1,
                target=ModelAlias.objects.get(name=route.aliases[target]),
            )
            step.save()
        used = {answer.headers["x-gateway-provider"] for answer in answers(gateway, route.alias)}
        assert used == {route.providers[target]}


def test_a_renamed_switched_off_or_new_alias_is_live(gateway: Gateway) -> None:
    route = gateway.route("openai")
    assert {answer.status_code for answer in answers(gateway, route.alias, 6)} == {200}
    renamed = unique("renamed")
    with gateway.orm():
        ModelAlias.objects.filter(name=route.alias).update(name=renamed)
    assert {answer.status_code for answer in answers(gateway, route.alias, 6)} == {404}
    assert {answer.status_code for answer in answers(gateway, renamed, 6)} == {200}
    with gateway.orm():
        ModelAlias.objects.filter(name=renamed).update(enabled=False)
    assert {answer.status_code for answer in answers(gateway, renamed, 6)} == {404}
    with gateway.orm():
        ModelAlias.objects.filter(name=renamed).update(enabled=True)
    assert {answer.status_code for answer in answers(gateway, renamed, 6)} == {200}


def test_a_model_changed_by_plain_sql_is_live_too(gateway: Gateway) -> None:
    route = gateway.route("openai")
    with gateway.no_hard_budget():
        for model in ("gpt-4o-mini", "gpt-4.1"):
            gateway.rows(
                "UPDATE routing_modelalias SET upstream_model = %s WHERE name = %s RETURNING id", model, route.alias
            )
            used = {answer.headers["x-gateway-model"] for answer in answers(gateway, route.alias, 10)}
            assert used == {model}


def test_a_budget_is_live(gateway: Gateway) -> None:
    route = gateway.route("openai")
    budget = gateway.budget(route, "0")
    assert {answer.status_code for answer in answers(gateway, route.alias, 6)} == {429}
    with gateway.orm():
        Budget.objects.filter(name=budget).update(limit_usd=1)
    assert {answer.status_code for answer in answers(gateway, route.alias, 6)} == {200}
    with gateway.orm():
        Budget.objects.filter(name=budget).update(limit_usd="0.0001")
    assert {answer.status_code for answer in answers(gateway, route.alias, 6)} == {429}
    with gateway.orm():
        Budget.objects.filter(name=budget).update(enabled=False)
    assert {answer.status_code for answer in answers(gateway, route.alias, 6)} == {200}


def test_a_new_key_is_known_to_every_worker_at_once(gateway: Gateway) -> None:
    route, name = gateway.route("openai"), unique("key")
    secret = gateway.key(name=name)
    assert {status(gateway, route.alias, api_key=secret) for _ in range(10)} == {200}
    assert {entry["key"] for entry in gateway.entries(route.alias)} == {name}
