"""Rerankings over HTTP in Cohere's format: billed by the search at Cohere, by tokens elsewhere."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from routing.models import ModelAlias, Provider
from tests.e2e.gateway import Gateway, Route
from tests.prices import LONG_AGO, add_price
from tests.simulator import Behaviour, faults

DOCUMENTS = ["the moon is far", "a cat sleeps", "where the cat sleeps"]
BY_SEARCH = {"search": "0.0021", "input": "0"}
BY_TOKENS = {"input": "0.051", "output": "0"}


def reranker(gateway: Gateway, *steps: tuple[str, str, dict[str, str]]) -> Route:
    """A chain of (litellm's provider, model, price)."""
    route = gateway.route(*("openai" for _ in steps), priced=False, cap=None)
    with gateway.orm():
        for alias, name, (provider, model, price) in zip(route.aliases, route.providers, steps, strict=True):
            Provider.objects.filter(name=name).update(litellm_provider=provider)
            ModelAlias.objects.filter(name=alias).update(upstream_model=model)
            add_price(name, model, LONG_AGO, **price)
        ModelAlias.objects.get(name=route.alias).save()
    return route


def cohere(gateway: Gateway) -> Route:
    return reranker(gateway, ("cohere", "rerank-v3.5", BY_SEARCH))


def ask(gateway: Gateway, alias: str, path: str = "/v1/rerank", **parameters: Any) -> httpx.Response:
    body = {"model": alias, "query": "where sleeps the cat", "documents": DOCUMENTS, **parameters}
    return gateway.post(json.dumps(body).encode(), path=path)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_documents_are_put_in_order_for_a_search(gateway: Gateway, path: str) -> None:
    route = cohere(gateway)
    answer = ask(gateway, route.alias, path, top_n=2, metadata={"team": "a"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-cost-usd"] == "0.0021"
    said = answer.json()
    assert said["results"] == [{"index": 2, "relevance_score": 1.0}, {"index": 1, "relevance_score": 0.5}]
    assert said["meta"]["billed_units"] == {"search_units": 1}
    (asked,) = gateway.sim.requests_to(route.providers[0])
    assert asked.path.endswith("/v2/rerank")
    assert asked.body == {"model": "rerank-v3.5", "query": "where sleeps the cat", "documents": DOCUMENTS, "top_n": 2}
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["tags"]) == ("rerank", "posted", {"team": "a"})
    assert (entry["quantities"], entry["usage_source"]) == ({"search": "1"}, "provider")
    assert entry["cost_usd"] == entry["hold_usd"] == Decimal("0.0021")


def test_more_than_a_hundred_documents_and_long_ones_are_several_searches(gateway: Gateway) -> None:
    route = cohere(gateway)
    long = "word " * 1200  # three parts
    answer = ask(gateway, route.alias, documents=["a cat"] * 199 + [long])
    assert answer.json()["meta"]["billed_units"] == {"search_units": 3}
    entry = gateway.entry(route.alias)
    assert entry["cost_usd"] == 3 * Decimal("0.0021") <= entry["hold_usd"]


def test_the_clients_own_documents_stand_in_the_answer_when_it_asks_for_them(gateway: Gateway) -> None:
    route = cohere(gateway)
    said = ask(gateway, route.alias, documents=["the moon", {"text": "the cat"}], return_documents=True).json()
    assert [result["document"] for result in said["results"]] == [{"text": "the cat"}, {"text": "the moon"}]


def test_a_server_of_ones_own_is_billed_by_tokens_and_follows_cohere(gateway: Gateway) -> None:
    route = reranker(gateway, ("cohere", "rerank-v3.5", BY_SEARCH), ("hosted_vllm", "bge-reranker", BY_TOKENS))
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    answer = ask(gateway, route.alias, max_chunks_per_doc=2)
    assert answer.headers["x-gateway-provider"] == route.providers[1]
    assert answer.headers["x-gateway-dropped-params"] == "max_chunks_per_doc"
    assert [result["index"] for result in answer.json()["results"]] == [2, 1, 0]
    entry = gateway.entry(route.alias)
    tokens = 3 * 4 + 4 + 3 + 4
    assert (entry["input_tokens"], entry["fallback"]) == (tokens, True)
    assert entry["cost_usd"] == tokens * Decimal("0.051") / 1_000_000 <= entry["hold_usd"]


def test_an_answer_without_a_count_is_estimated(gateway: Gateway) -> None:
    route = cohere(gateway)
    gateway.sim.behave(route.providers[0], Behaviour(report_usage=False))
    assert ask(gateway, route.alias).json()["meta"]["billed_units"] == {"search_units": 1}
    entry = gateway.entry(route.alias)
    assert (entry["usage_source"], entry["cost_usd"]) == ("estimated", Decimal("0.0021"))


def test_an_order_of_documents_that_are_not_there_is_none(gateway: Gateway) -> None:
    route = cohere(gateway)
    body = {"id": "x", "results": [{"index": 7, "relevance_score": 0.5}], "meta": {"billed_units": {"search_units": 1}}}
    gateway.sim.behave(route.providers[0], forever=Behaviour(body=body))
    assert ask(gateway, route.alias).status_code == 502
    entry = gateway.entry(route.alias)
    assert entry["cost_usd"] == Decimal("0.0021")  # it is billed all the same


def test_a_hard_budget_holds_and_the_error_is_in_coheres_words(gateway: Gateway) -> None:
    route = cohere(gateway)
    gateway.budget(route, "0.002")
    with gateway.nothing_written():
        answer = ask(gateway, route.alias)
    assert answer.status_code == 429
    said = answer.json()
    assert said["message"] == said["error"]["message"]
    assert said["error"]["code"] == "request_exceeds_budget"
    assert said["id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": None}, "query"),
        ({"query": 5}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 5]}, "documents[1]"),
        ({"documents": [{"text": 5}]}, "documents[0]"),
        ({"top_n": 0}, "top_n"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"documents": [{"image": "https://pictures.example/1.png"}]}, "documents[0]"),  # nobody knows its tokens
        ({"depth": 3}, "depth"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = cohere(gateway)
    with gateway.nothing_written():
        answer = ask(gateway, route.alias, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_price_by_tokens_does_not_bound_what_is_billed_by_searches(gateway: Gateway) -> None:
    route = reranker(gateway, ("cohere", "rerank-v3.5", BY_TOKENS))
    with gateway.nothing_written():
        answer = ask(gateway, route.alias)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unbounded_cost")
