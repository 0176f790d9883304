"""Embeddings as the official client asks for them: the answers, the chain, and the books."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from routing.models import ModelAlias
from tests.e2e.gateway import INPUT_USD, Gateway
from tests.simulator import Behaviour, faults
from tests.simulator.openai_embeddings import vector

_MODELS = {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001"}


def cost_of(tokens: int) -> Decimal:
    return tokens * INPUT_USD / 1_000_000


def embed(gateway: Gateway, alias: str, given: Any, **parameters: Any) -> Any:
    return gateway.client().embeddings.create(model=alias, input=given, **parameters)


@pytest.mark.parametrize("wire", ["openai", "gemini"])
def test_the_official_client_gets_vectors_and_the_books_their_cost(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire, model=_MODELS[wire])
    answer = embed(gateway, route.alias, ["one two three", "four"], user="u-1", extra_body={"metadata": {"team": "a"}})
    # The client asks for base64 and reads it as 32-bit floats.
    assert answer.data[0].embedding == pytest.approx(vector("one two three"))
    assert answer.data[1].embedding == pytest.approx(vector("four"))
    assert answer.model == route.alias
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["end_user"], entry["tags"]) == (
        "embeddings", "posted", "u-1", {"team": "a"},
    )  # fmt: skip
    assert entry["output_tokens"] == 0
    assert entry["usage_source"] == ("provider" if wire == "openai" else "estimated")
    assert entry["cost_usd"] == cost_of(entry["input_tokens"])
    assert answer.usage.prompt_tokens == entry["input_tokens"] == 4
    assert entry["hold_usd"] >= entry["cost_usd"]


def test_every_path_of_the_endpoint_answers(gateway: Gateway) -> None:
    route = gateway.route("openai", model=_MODELS["openai"])
    body = json.dumps({"model": route.alias, "input": "hello"}).encode()
    paths = ("/v1/embeddings", "/embeddings", f"/openai/deployments/{route.alias}/embeddings")
    for path in paths:
        answer = gateway.post(body, path=path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-gateway-provider"] == route.providers[0]
        assert Decimal(answer.headers["x-gateway-cost-usd"]) == cost_of(1)
    gateway.wait_settled(route.alias, len(paths))


def test_a_failing_provider_is_followed_by_the_next(gateway: Gateway) -> None:
    route = gateway.route("openai", "gemini", model="text-embedding-3-small")
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    answer = embed(gateway, route.alias, [[15339, 1917]])
    assert answer.data[0].embedding == pytest.approx(vector("hello world"))
    entry = gateway.entry(route.alias)
    assert (entry["provider"], entry["fallback"], entry["attempts"]) == (route.providers[1], True, 3)


def test_a_hard_budget_holds(gateway: Gateway) -> None:
    route = gateway.route("openai", model=_MODELS["openai"])
    gateway.budget(route, "0.0001")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        embed(gateway, route.alias, "word " * 100)
    assert refused.value.code == "request_exceeds_budget"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [1, "a"]}, "input[0]"),
        ({"input": [[1, -1]]}, "input[0]"),
        ({"input": [{"image": "x"}]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "user": 5}, "user"),
        ({"input": "a", "dimension_of_tomorrow": 5}, "dimension_of_tomorrow"),  # nobody knows what it costs
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = gateway.route("openai", model=_MODELS["openai"])
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/embeddings")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_chat_model_is_not_asked_for_embeddings_nor_the_other_way_round(gateway: Gateway) -> None:
    chat = gateway.route("openai")
    embedding = gateway.route("openai", model=_MODELS["openai"])
    with gateway.nothing_written():
        with pytest.raises(openai.BadRequestError, match="/v1/chat/completions") as refused:
            embed(gateway, chat.alias, "hello")
        assert refused.value.param == "model"
        with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
            gateway.client().chat.completions.create(
                model=embedding.alias, messages=[{"role": "user", "content": "hello"}]
            )


def test_steps_of_another_kind_are_left_out_of_a_chain(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", model=_MODELS["openai"])
    with gateway.orm():
        ModelAlias.objects.filter(name=route.aliases[1]).update(upstream_model="claude-sonnet-4-6")
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    with pytest.raises(openai.InternalServerError):
        embed(gateway, route.alias, "hello")
    gateway.wait_settled(route.alias)
    assert {attempt["provider"] for attempt in gateway.attempts(route.alias)} == {route.providers[0]}


def test_an_answer_without_a_count_is_estimated(gateway: Gateway) -> None:
    route = gateway.route("openai", model=_MODELS["openai"])
    gateway.sim.behave(route.providers[0], Behaviour(report_usage=False))
    answer = embed(gateway, route.alias, "hello world")
    entry = gateway.entry(route.alias)
    assert (entry["usage_source"], entry["input_tokens"], entry["cost_usd"]) == ("estimated", 2, cost_of(2))
    assert answer.usage.prompt_tokens == 2
