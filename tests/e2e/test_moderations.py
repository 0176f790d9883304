"""Moderations as the official client asks for them: free, which is a price of 0 and not an unknown one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from routing.models import ModelAlias
from tests.e2e.gateway import Gateway, Route
from tests.prices import LONG_AGO, add_price
from tests.simulator import Behaviour, faults

MODEL = "omni-moderation-latest"
PICTURE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}


def moderator(gateway: Gateway, *more: str, usd: str = "0") -> Route:
    route = gateway.route("openai", *more, model=MODEL, priced=False, cap=None)
    with gateway.orm():
        for provider in route.providers:
            add_price(provider, MODEL, LONG_AGO, input=usd, output="0")
        ModelAlias.objects.get(name=route.alias).save()
    return route


def test_a_moderation_is_free_on_the_books(gateway: Gateway) -> None:
    route = moderator(gateway)
    gateway.budget(route, "0.000001")
    answer = gateway.client().moderations.create(
        model=route.alias, input=["a kind word", "violence"], extra_body={"metadata": {"team": "a"}}
    )
    assert [result.flagged for result in answer.results] == [False, True]
    assert answer.results[1].categories.violence
    assert answer.model == route.alias
    (asked,) = gateway.sim.requests_to(route.providers[0])
    assert asked.body == {"model": MODEL, "input": ["a kind word", "violence"]}
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["tags"]) == ("moderations", "posted", {"team": "a"})
    assert (entry["cost_usd"], entry["hold_usd"]) == (Decimal(0), Decimal(0))
    assert entry["usage_source"] == "estimated"
    assert entry["input_tokens"] > 0


def test_texts_and_pictures_are_one_input(gateway: Gateway) -> None:
    route = moderator(gateway)
    given: Any = [{"type": "text", "text": "is this violence ?"}, PICTURE]
    answer = gateway.client().moderations.create(model=route.alias, input=given)
    assert [result.flagged for result in answer.results] == [True]


def test_a_failing_provider_is_followed_by_the_next(gateway: Gateway) -> None:
    route = moderator(gateway, "openai")
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    assert gateway.client().moderations.create(model=route.alias, input="a kind word").results
    gateway.sim.behave(route.providers[1], forever=Behaviour(body={"results": []}))
    with pytest.raises(openai.InternalServerError):
        gateway.client().moderations.create(model=route.alias, input="a kind word")


def test_a_request_without_a_model_is_for_the_model_that_openai_documents(gateway: Gateway) -> None:
    with gateway.nothing_written(), pytest.raises(openai.NotFoundError, match=MODEL):
        gateway.client().moderations.create(input="a kind word")


def test_a_moderation_that_costs_is_held_for(gateway: Gateway) -> None:
    route = moderator(gateway, usd="1000")
    gateway.budget(route, "0.01")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        gateway.client().moderations.create(model=route.alias, input="a kind word")
    assert refused.value.code == "request_exceeds_budget"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [{"type": "image_url"}]}, "input[0]"),
        ({"input": [{"type": "sound"}]}, "input[0]"),
        ({"input": "a", "thoroughness": "high"}, "thoroughness"),  # nobody knows what it costs
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = moderator(gateway)
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/moderations")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_moderator_is_not_asked_to_chat(gateway: Gateway) -> None:
    route = moderator(gateway)
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError, match="/v1/moderations"):
        gateway.client().chat.completions.create(model=route.alias, messages=[{"role": "user", "content": "hello"}])
