"""What a request may cost is held before it runs: whatever changes the price is in the hold, or refused by name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import openai
import pytest

from accounting.models import Price
from accounting.pricing import PriceList
from routing.defaults import PRICES
from tests.e2e.gateway import Gateway, Route, asks
from tests.prices import LONG_AGO
from tests.simulator import Behaviour, Usage

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
    [(None, "10"), ("default", "10"), ("flex", "10"), ("priority", "17"), ("auto", "17"), ("warp-9", "17")],
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
