"""Wildcards: any model of a provider whose price is known, asked for by its name, priced and held like an alias."""

from __future__ import annotations

import json
from decimal import Decimal
from urllib.parse import unquote

import httpx
import openai

from accounting.models import Budget
from routing.models import Fallback, ModelAlias, Provider
from tests.e2e.gateway import Gateway, asks, unique
from tests.prices import add_price
from tests.simulator import Behaviour, Usage, faults

#: What litellm's price map says of gpt-4o-mini, in USD per million tokens.
MINI_INPUT_USD, MINI_OUTPUT_USD = Decimal("0.15"), Decimal("0.6")


def wildcard(gateway: Gateway, upstream_model: str = "*") -> str:
    """A new wildcard at a new provider that speaks OpenAI's format; what stands before its ``*``."""
    name = unique("any")
    with gateway.orm():
        provider = Provider.objects.create(
            name=name,
            litellm_provider="openai",
            base_url=gateway.sim.base_url("openai", name),
            key_reference="env:OPENAI_API_KEY",
        )
        ModelAlias.objects.create(
            name=f"{name}/*", provider=provider, upstream_model=upstream_model, output_cap_tokens=1024, position=1000
        )
    return name


def ask(gateway: Gateway, model: str, **headers: str) -> httpx.Response:
    return gateway.post(json.dumps({"model": model, **asks()}).encode(), **headers)


def test_a_model_behind_a_wildcard_costs_what_litellms_price_map_says(gateway: Gateway) -> None:
    name = wildcard(gateway)
    gateway.sim.behave(name, Behaviour(usage=Usage(1000, 500)))
    said = gateway.client().chat.completions.create(model=f"{name}/gpt-4o-mini", **asks())
    assert said.model == f"{name}/gpt-4o-mini"
    (asked,) = gateway.sim.requests_to(name)
    assert (asked.body or {})["model"] == "gpt-4o-mini"
    entry = gateway.entry(f"{name}/gpt-4o-mini")
    assert (entry["provider"], entry["model"], entry["fallback"]) == (name, "gpt-4o-mini", False)
    assert entry["cost_usd"] == (1000 * MINI_INPUT_USD + 500 * MINI_OUTPUT_USD) / 1_000_000


def test_a_price_of_our_own_comes_before_litellms(gateway: Gateway) -> None:
    name = wildcard(gateway)
    with gateway.orm():
        add_price(name, "gpt-4o-mini", input="7", output="9")
    gateway.sim.behave(name, Behaviour(usage=Usage(1000, 500)))
    assert ask(gateway, f"{name}/gpt-4o-mini").status_code == 200
    assert gateway.entry(f"{name}/gpt-4o-mini")["cost_usd"] == Decimal("0.0115")


def test_a_model_whose_price_nobody_knows_does_not_exist(gateway: Gateway) -> None:
    name = wildcard(gateway)
    with gateway.nothing_written():
        for model in ("no-such-model", "*", "gpt-4o-mini" * 20):
            refused = ask(gateway, f"{name}/{model}")
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert gateway.sim.requests_to(name) == []


def test_an_alias_and_a_longer_wildcard_come_before_a_wildcard(gateway: Gateway) -> None:
    short = wildcard(gateway)
    with gateway.orm():
        provider = Provider.objects.get(name=short)
        for name, model in ((f"{short}/own", "gpt-4o"), (f"{short}/fast-*", "*")):
            ModelAlias.objects.create(name=name, provider=provider, upstream_model=model, position=1000)
        add_price(short, "gpt-4o", input="1", output="1")
    for model in ("own", "fast-gpt-4o-mini", "gpt-4.1"):
        assert ask(gateway, f"{short}/{model}").status_code == 200
    assert [(request.body or {})["model"] for request in gateway.sim.requests_to(short)] == [
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4.1",
    ]


def test_the_list_of_models_has_those_of_the_price_map_in_the_place_of_the_wildcard(gateway: Gateway) -> None:
    name = wildcard(gateway)
    listed = {model.id for model in gateway.client().models.list()}
    assert {f"{name}/gpt-4o", f"{name}/gpt-4o-mini"} <= listed
    assert f"{name}/*" not in listed
    assert not any(model.endswith(("/dall-e-3", "/text-embedding-3-small")) for model in listed)
    assert gateway.client().models.retrieve(f"{name}/gpt-4o").id == f"{name}/gpt-4o"


def test_a_key_may_be_kept_from_wildcards_or_held_to_one(guarded_gateway: Gateway) -> None:
    gateway, name = guarded_gateway, wildcard(guarded_gateway)
    model = f"{name}/gpt-4o-mini"
    for fields, status in (
        ({}, 200),
        ({"uses_wildcards": False}, 403),
        ({"allowed_aliases": [f"{name}/*"]}, 200),
        ({"allowed_aliases": [model]}, 200),
        ({"allowed_aliases": ["claude-sonnet"]}, 403),
        ({"allowed_aliases": [model], "uses_wildcards": False}, 403),
    ):
        secret = gateway.key(**fields)
        assert ask(gateway, model, api_key=secret).status_code == status, fields
        client = gateway.client(api_key=secret)
        assert (model in {listed.id for listed in client.models.list()}) == (status == 200)


def test_a_hard_budget_of_a_wildcard_holds_for_all_its_models(gateway: Gateway) -> None:
    name = wildcard(gateway)
    with gateway.orm():
        Budget.objects.create(
            name=unique("budget"), scope="alias", scope_value=f"{name}/*", limit_usd=Decimal("0.000001")
        )
    refused = ask(gateway, f"{name}/gpt-4o-mini")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "request_exceeds_budget")


def test_a_budget_of_a_wildcard_that_is_made_late_counts_what_was_spent(gateway: Gateway) -> None:
    name = wildcard(gateway)
    gateway.sim.behave(name, Behaviour(usage=Usage(1000, 500)))
    assert ask(gateway, f"{name}/gpt-4o-mini").status_code == 200
    gateway.wait_settled(f"{name}/gpt-4o-mini")
    with gateway.orm():
        Budget.objects.create(name=unique("late"), scope="alias", scope_value=f"{name}/*", limit_usd=Decimal("0.0004"))
    refused = ask(gateway, f"{name}/gpt-4o-mini")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    (status,) = gateway.rows("SELECT posted_usd FROM budget_status WHERE scope_value = %s", f"{name}/*")
    assert status["posted_usd"] == Decimal("0.00045")


def test_a_missing_model_is_the_clients_word_and_neither_an_alert_nor_a_failure(gateway: Gateway) -> None:
    name = wildcard(gateway)
    gateway.sim.behave(name, forever=faults.model_not_found())
    for _ in range(8):  # more than open a breaker
        refused = ask(gateway, f"{name}/gpt-4o-mini")
        assert refused.status_code == 404
    assert [attempt["outcome"] for attempt in gateway.attempts(f"{name}/gpt-4o-mini")] == ["not_found"] * 8
    assert [line["alert"] for line in gateway.log_lines(event="attempt failed", provider=name)] == [False] * 8
    gateway.sim.behave(name, forever=Behaviour())
    assert ask(gateway, f"{name}/gpt-4o-mini").status_code == 200


def test_a_wildcard_has_a_chain_and_is_none_itself(gateway: Gateway) -> None:
    name, route = wildcard(gateway), gateway.route("openai")
    with gateway.orm():
        any_model = ModelAlias.objects.get(name=f"{name}/*")
        Fallback.objects.create(alias=any_model, position=1, target=ModelAlias.objects.get(name=route.alias))
        Fallback.objects.create(alias=ModelAlias.objects.get(name=route.alias), position=1, target=any_model)
    gateway.sim.behave(name, forever=faults.model_not_found())
    answered = ask(gateway, f"{name}/gpt-4o-mini")
    assert (answered.status_code, answered.headers["x-gateway-alias"]) == (200, route.alias)
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    assert ask(gateway, route.alias).status_code == 502


def test_a_name_in_any_letters_is_an_alias_in_bodies_paths_headers_and_books(gateway: Gateway) -> None:
    route = gateway.route("openai")
    name = f"Modèle 模型 100% {unique('a b')}"
    with gateway.orm():
        ModelAlias.objects.filter(name=route.alias).update(name=name)
    answered = ask(gateway, name)
    assert answered.status_code == 200
    assert answered.json()["model"] == name
    assert unquote(answered.headers["x-gateway-alias"]) == name
    assert gateway.entry(name)["served_alias"] == name
    assert gateway.client().models.retrieve(name).id == name
    client = openai.OpenAI(base_url=f"{gateway.url}/openai/deployments/{name}", api_key="dummy", max_retries=0)
    assert client.chat.completions.create(model="anything", **asks()).model == name
    assert name in {model.id for model in gateway.client().models.list()}
