"""What a request may cost is held before it runs: whatever changes the price is in the hold, or refused by name."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from accounting.models import Price
from accounting.pricing import PriceList
from routing.defaults import PRICES
from routing.models import Provider
from tests.e2e.gateway import Gateway, Route, asks, price
from tests.media import data_url, pdf
from tests.prices import LONG_AGO
from tests.simulator import Behaviour, Usage, faults

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
GPT_4O = next(prices for _, model, _, _, prices in PRICES if model == "gpt-4o")


def ask(gateway: Gateway, route: Route, *, stream: bool = False, **parameters: Any) -> dict[str, str]:
    """The gateway's headers."""
    answer = gateway.client().chat.completions.with_raw_response.create(
        model=route.alias, stream=stream, **{**asks(), **parameters}
    )
    parsed = answer.parse()
    if isinstance(parsed, openai.Stream):
        list(parsed)
    return {name.removeprefix("x-gateway-"): value for name, value in answer.headers.items()}


def priced(gateway: Gateway, *wires: str, prices: PriceList = GPT_4O, **fields: Any) -> Route:
    """A route whose steps all have this price."""
    route = gateway.route(*wires, priced=False, **fields)
    with gateway.orm():
        for provider, wire in zip(route.providers, wires, strict=True):
            model = {"anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-pro"}.get(wire, "gpt-4o")
            Price.objects.add(provider, fields.get("model") or model, LONG_AGO, prices, "operator")
    return route


@STREAMED
@pytest.mark.parametrize(
    ("asked", "served", "cost", "tier"),
    [
        ("priority", "priority", "0.02125", "priority"),
        ("priority", "default", "0.0125", "standard"),
        ("auto", "priority", "0.02125", "priority"),
        (None, "priority", "0.02125", "priority"),  # what the account is set to
        ("flex", "flex", "0.0125", "flex"),  # no price of its own
        ("priority", "scale", "0.0125", "standard"),
        ("default", "warp-9", "0.0125", "standard"),
    ],
)
def test_the_tier_that_was_served_decides_the_cost(
    gateway: Gateway, asked: str | None, served: str, cost: str, tier: str, *, stream: bool
) -> None:
    route = priced(gateway, "openai")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1000, 1000), service_tier=served))
    ask(gateway, route, stream=stream, **({} if asked is None else {"service_tier": asked}))
    entry = gateway.entry(route.alias)
    (attempt,) = gateway.attempts(route.alias)
    assert (entry["cost_usd"], attempt["cost_usd"]) == (Decimal(cost), Decimal(cost))
    assert (entry["tier"], attempt["tier"], entry["endpoint"]) == (tier, tier, "chat")
    assert bool(gateway.log_lines(event="unknown service tier", word=served)) == (served == "warp-9")


@pytest.mark.parametrize(
    ("asked", "output_usd_per_mtok"),
    [(None, "10"), ("default", "10"), ("flex", "10"), ("priority", "17"), ("auto", "17")],
)
def test_the_dearest_tier_that_the_request_allows_decides_the_hold(
    gateway: Gateway, asked: str | None, output_usd_per_mtok: str
) -> None:
    route = priced(gateway, "openai")
    more: dict[str, Any] = {} if asked is None else {"service_tier": asked}
    ask(gateway, route, max_tokens=1000, **more)
    ask(gateway, route, max_tokens=2000, **more)
    gateway.wait_settled(route.alias, 2)
    first, second = (entry["hold_usd"] for entry in gateway.entries(route.alias))
    assert second - first == Decimal(output_usd_per_mtok) / 1000


def test_a_tier_that_nobody_knows_is_refused_under_a_hard_budget(gateway: Gateway) -> None:
    route = priced(gateway, "openai")
    body = json.dumps(asks(model=route.alias, service_tier="warp-9")).encode()
    with gateway.nothing_written():
        refused = gateway.post(body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, "unbounded_cost", "service_tier")


def parts(*media: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Sum it up"}, *media]}]}


def pdf_part(data: bytes) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url("application/pdf", data)}}


@pytest.mark.parametrize(
    ("wire", "tokens_a_page", "word"),
    [("openai", 11_192, '"file_data"'), ("anthropic", 8_000, '"document"'), ("gemini", 1_200, "application/pdf")],
)
def test_a_pdf_passes_a_hard_budget_and_is_held_by_its_pages(
    gateway: Gateway, wire: str, tokens_a_page: int, word: str
) -> None:
    route = priced(gateway, wire, prices=GPT_4O)
    for pages in (1, 11):
        ask(gateway, route, **parts(pdf_part(pdf(pages))))
    gateway.wait_settled(route.alias, 2)
    one, eleven = (entry["hold_usd"] for entry in gateway.entries(route.alias))
    assert eleven - one >= 10 * tokens_a_page * Decimal("2.5") / 1_000_000
    assert eleven - one < 10 * (tokens_a_page + 200) * Decimal("2.5") / 1_000_000  # and the bytes of its name
    assert word in json.dumps(gateway.sim.requests_to(route.providers[0])[0].body)


@pytest.mark.parametrize(
    "media",
    [
        {"type": "image_url", "image_url": {"url": data_url("application/pdf", pdf(1)), "format": "video/mp4"}},
        {"type": "image_url", "image_url": {"url": data_url("image/png", b"a text of any length")}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ],
    ids=["called a film", "called a picture", "kept by the provider"],
)
def test_content_that_nobody_can_bound_is_refused_by_name_under_a_hard_budget(
    gateway: Gateway, media: dict[str, Any]
) -> None:
    route = priced(gateway, "openai")
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        ask(gateway, route, **parts(media))
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", "messages[0].content[1]")
    assert refused.value.type == "invalid_request_error"
    with gateway.no_hard_budget():
        ask(gateway, route, **parts(media))
    assert gateway.entry(route.alias)["state"] == "posted"


def test_text_behind_a_pictures_name_is_held_as_the_text_that_it_is(gateway: Gateway) -> None:
    route = priced(gateway, "gemini")
    ask(gateway, route, **parts({"type": "image_url", "image_url": {"url": data_url("text/plain", b"x" * 400_000)}}))
    assert gateway.entry(route.alias)["hold_usd"] > 400_000 * Decimal("2.5") / 1_000_000


def test_a_tier_without_a_price_is_refused_by_name_under_a_hard_budget(gateway: Gateway) -> None:
    route = gateway.route("openai")  # the standard tier alone has a price
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        ask(gateway, route, service_tier="priority")
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", "service_tier")


def test_a_later_step_at_which_the_cost_is_not_bounded_is_not_called(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", retries=0, priced=False)
    with gateway.orm():
        Price.objects.add(route.providers[0], "gpt-4o", LONG_AGO, GPT_4O, "operator")
        price(route.providers[1], "gpt-4o")
    gateway.sim.behave(route.providers[0], faults.server_error())
    with pytest.raises(openai.InternalServerError):
        ask(gateway, route, service_tier="priority")
    assert [request.provider for request in gateway.sim.requests] == [route.providers[0]]
    attempts = gateway.attempts(route.alias)
    assert [attempt["outcome"] for attempt in attempts] == ["server_error", "unbounded_cost"]
    assert "service_tier" in attempts[1]["error"]


SEARCHES = PriceList.of({"standard": {"input": "2.5", "output": "10", "search": "0.025"}})


@STREAMED
def test_a_model_that_always_searches_costs_its_fee(gateway: Gateway, stream: bool) -> None:
    route = priced(gateway, "openai", prices=SEARCHES, model="gpt-4o-search-preview")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1000, 100)))
    ask(gateway, route, stream=stream, web_search_options={})
    entry = gateway.entry(route.alias)
    assert entry["cost_usd"] == Decimal("0.0285")
    assert entry["quantities"] == {"search": "1"}
    assert entry["hold_usd"] > Decimal("0.025") + 1024 * Decimal("0.00001")


def test_searches_are_held_with_the_cap_that_the_provider_is_sent(gateway: Gateway) -> None:
    route = priced(gateway, "anthropic", prices=SEARCHES)
    ask(gateway, route, web_search_options={})
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.body is not None
    assert [tool["max_uses"] for tool in request.body["tools"]] == [5]
    assert gateway.entry(route.alias)["hold_usd"] > 5 * Decimal("0.025") + 375_000 * Decimal("0.0000025")


@pytest.mark.parametrize(
    ("wire", "parameters", "param"),
    [
        ("gemini", {"tools": [{"googleSearch": {}}]}, "tools[0]"),
        ("gemini", {"functions": [{"googleMaps": {}}]}, "functions[0]"),
        ("gemini", {"extra_body": {"cached_content": "cachedContents/1"}}, "cached_content"),
        ("gemini", {"modalities": ["text", "image"]}, "modalities"),
        (
            "anthropic",
            {"extra_body": {"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}},
            "mcp_servers",
        ),
        ("openai", {"web_search_options": {}}, "web_search_options"),
        ("openai", {"extra_body": {"n_predict": 100_000}}, "n_predict"),
    ],
)
def test_what_changes_the_price_is_refused_by_name_under_a_hard_budget(
    gateway: Gateway, wire: str, parameters: dict[str, Any], param: str
) -> None:
    route = priced(gateway, wire)
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        ask(gateway, route, **parameters)
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", param)


def test_a_parameter_that_nobody_knows_passes_where_no_hard_budget_applies(gateway: Gateway) -> None:
    route = priced(gateway, "openai")
    with gateway.no_hard_budget():
        ask(gateway, route, extra_body={"a_parameter_of_tomorrow": 1})
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.body is not None
    assert request.body["a_parameter_of_tomorrow"] == 1


def test_a_prediction_is_held_as_output(gateway: Gateway) -> None:
    route = priced(gateway, "openai")
    ask(gateway, route, prediction={"type": "content", "content": "x" * 60_000})
    assert gateway.entry(route.alias)["hold_usd"] > 60_000 * Decimal("0.00001")


@STREAMED
@pytest.mark.parametrize(("wire", "prices"), [("openai", GPT_4O), ("anthropic", SEARCHES), ("gemini", SEARCHES)])
def test_a_cap_of_ours_is_held_sent_and_said(gateway: Gateway, wire: str, prices: PriceList, stream: bool) -> None:
    route = priced(gateway, wire, prices=prices, cap=None)
    limit = gateway.budget(route, "2")
    headers = ask(gateway, route, stream=stream)
    cap = int(headers["output-cap"])
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.body is not None
    sent = request.body.get("generationConfig", request.body)
    assert cap in {
        sent.get(name) for name in ("max_tokens", "max_completion_tokens", "maxOutputTokens", "max_output_tokens")
    }
    hold_usd = gateway.entry(route.alias)["hold_usd"]
    assert cap * Decimal("0.00001") < hold_usd <= Decimal("0.1"), limit


def test_a_clients_own_cap_is_not_said_to_be_ours(gateway: Gateway) -> None:
    route = priced(gateway, "openai", cap=None)
    gateway.budget(route, "2")
    assert "output-cap" not in ask(gateway, route, max_tokens=12_000)
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.body is not None
    assert request.body["max_tokens"] == 12_000


def test_an_aliass_own_cap_is_said(gateway: Gateway) -> None:
    assert ask(gateway, priced(gateway, "openai", cap=777))["output-cap"] == "777"


def test_what_is_left_of_a_budget_narrows_the_cap(gateway: Gateway) -> None:
    route = priced(gateway, "openai", cap=None)
    gateway.budget(route, "2")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(0, 194_000)))
    ask(gateway, route)
    left = 2 - Decimal("1.94")
    cap = int(ask(gateway, route)["output-cap"])
    assert 5_900 < cap < 6_000
    gateway.wait_settled(route.alias, 2)
    assert gateway.entries(route.alias)[1]["hold_usd"] <= left


def test_less_than_an_ordinary_answer_is_refused_and_the_client_told_what_fits(gateway: Gateway) -> None:
    route = priced(gateway, "openai", cap=None)
    gateway.budget(route, "2")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(0, 198_000)))
    ask(gateway, route)
    gateway.wait_settled(route.alias)
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        ask(gateway, route)
    assert refused.value.code == "budget_exceeded"
    assert "It would fit with max_tokens of 19" in refused.value.message


@pytest.mark.parametrize("word", ["max_completion_tokens", "max_tokens"])
def test_a_provider_that_ignores_the_newer_name_of_the_cap_cannot_cost_more_than_the_hold(
    gateway: Gateway, word: str
) -> None:
    """DeepSeek reads `max_tokens` alone, and answers as long as it likes without it."""
    route = gateway.route("openai", model="deepseek-chat")
    with gateway.orm():
        deaf = f"deepseek-{route.alias}"  # by its name the simulator knows a server that reads `max_tokens` alone
        base_url = gateway.sim.base_url("openai", deaf)
        Provider.objects.filter(name=route.providers[0]).update(litellm_provider="deepseek", base_url=base_url)
    gateway.sim.behave(deaf, Behaviour(length=20_000))
    parameters: dict[str, Any] = {word: 3}
    ask(gateway, route, **parameters)
    entry = gateway.entry(route.alias)
    assert entry["output_tokens"] == 3
    assert entry["cost_usd"] <= entry["hold_usd"]
    assert not entry["overrun"]
