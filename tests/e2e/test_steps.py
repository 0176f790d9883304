"""A step's budget decides for the step: the chain goes on to whoever has room, and ends when nobody has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from typing import Any

import openai
import pytest

from accounting.models import Budget
from routing.models import FurtherDeployment, ModelAlias, Provider
from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, asks, price, text_of, unique
from tests.simulator import Behaviour, Usage, faults

HI = Behaviour(text="Hi", usage=Usage(10, 10))


def ask(gateway: Gateway, route: Route, *, stream: bool = False, **parameters: Any) -> dict[str, str]:
    """The gateway's headers of an answer."""
    answer = gateway.client().chat.completions.with_raw_response.create(
        model=route.alias, stream=stream, **{**asks(max_tokens=100), **parameters}
    )
    parsed = answer.parse()
    assert (text_of(parsed) if isinstance(parsed, openai.Stream) else parsed.choices[0].message.content) == "Hi"
    return {name.removeprefix("x-gateway-"): value for name, value in answer.headers.items()}


def another_conversation(number: int) -> dict[str, Any]:
    """One that has a deployment of its own, as a conversation keeps the one that it has."""
    return {"messages": [{"role": "user", "content": f"question {number}"}]}


def say_hi(gateway: Gateway, route: Route) -> None:
    for provider in route.providers:
        gateway.sim.behave(provider, forever=HI)


def called(gateway: Gateway) -> list[str]:
    return [request.provider for request in gateway.sim.requests]


def outcomes(gateway: Gateway, route: Route) -> list[str]:
    return [attempt["outcome"] for attempt in gateway.attempts(route.alias)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("scope", ["alias", "provider"])
def test_without_room_at_its_first_step_a_request_goes_on_to_the_next(
    gateway: Gateway, scope: str, stream: bool
) -> None:
    route = gateway.route("openai", "openai")
    say_hi(gateway, route)
    first = {"alias": route.alias, "provider": route.providers[0]}[scope]
    budget = gateway.budget(route, "0.000001", scope=scope, scope_value=first)
    headers = ask(gateway, route, stream=stream)
    assert called(gateway) == [route.providers[1]]
    assert (headers["alias"], headers["fallback"], headers["attempts"]) == (route.aliases[1], "true", "2")
    entry = gateway.entry(route.alias)
    assert (entry["served_alias"], entry["http_status"], entry["fallback"]) == (route.aliases[1], 200, True)
    passed, answered = gateway.attempts(route.alias)
    assert (passed["outcome"], passed["cost_usd"], passed["provider"]) == ("no_room", 0, route.providers[0])
    assert (passed["error"], passed["next"]) == (f"no room in the budget '{budget}'", "the next step")
    assert (answered["outcome"], answered["cost_usd"]) == ("answered", entry["cost_usd"])
    assert [line["alert"] for line in gateway.log_lines(event="attempt failed", provider=route.providers[0])] == [False]
    assert gateway.rows("SELECT posted_usd FROM budget_status WHERE budget = %s", budget) == [{"posted_usd": 0}]


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_weighted_alias_uses_the_deployments_that_have_room(gateway: Gateway, mode: str) -> None:
    route, other = gateway.route("openai"), gateway.route("openai")
    with gateway.orm():
        alias = ModelAlias.objects.get(name=route.alias)
        alias.weight = 1
        alias.save()
        model = alias.upstream_model
        second = Provider.objects.get(name=other.providers[0])
        FurtherDeployment.objects.create(alias=alias, provider=second, upstream_model=model, weight=1, position=1)
    for name in (*route.providers, *other.providers):
        gateway.sim.behave(name, forever=HI)
    budget = gateway.budget(route, "0.0001", scope="provider", scope_value=route.providers[0], mode=mode)
    if mode == "soft":
        with gateway.orm():
            Budget.objects.filter(name=budget).update(limit_usd=Decimal("0.000001"))
        asked = count()
        while route.providers[0] not in called(gateway):  # it is spent by the first request that comes there
            ask(gateway, route, **another_conversation(next(asked)))
        gateway.wait_settled(route.alias)
    before = len(gateway.sim.requests)
    for number in range(8):
        ask(gateway, route, **another_conversation(number))
    assert set(called(gateway)[before:]) == set(other.providers)


def test_the_client_is_refused_when_nobody_has_room_and_hears_of_the_first_step(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    first = gateway.budget(route, "0.000001", scope="provider", scope_value=route.providers[0])
    gateway.budget(route, "0", scope="provider", scope_value=route.providers[1])
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as raised:
        ask(gateway, route)
    assert (raised.value.code, raised.value.body["budget"]) == ("request_exceeds_budget", first)  # type: ignore[index]


def test_a_dear_first_step_makes_room_for_a_cheaper_one_that_fits_what_is_left(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", priced=False)
    say_hi(gateway, route)
    with gateway.orm():
        model = ModelAlias.objects.get(name=route.alias).upstream_model
        price(route.providers[0], model, output="1000")
        price(route.providers[1], model, output="1")
        budget = unique("budget")
        Budget.objects.create(name=budget, scope="user", scope_value=route.alias, limit_usd=Decimal("0.01"))
    ask(gateway, route, user=route.alias)
    assert called(gateway) == [route.providers[1]]
    with pytest.raises(openai.RateLimitError):
        ask(gateway, route, user=route.alias, max_tokens=16_000)
    assert outcomes(gateway, route) == ["no_room", "answered"]


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_a_free_model_is_served_under_a_budget_that_is_overrun(gateway: Gateway, mode: str) -> None:
    route = gateway.route("openai", "openai", priced=False)
    with gateway.orm():
        model = ModelAlias.objects.get(name=route.alias).upstream_model
        price(route.providers[0], model)
        price(route.providers[1], model, input="0", output="0", cached_input="0", cache_write="0", cache_write_1h="0")
        Budget.objects.create(
            name=unique("budget"), scope="user", scope_value=route.alias, limit_usd=Decimal("0.005"), mode=mode
        )
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(10, 90_000)), forever=HI)
    gateway.sim.behave(route.providers[1], forever=HI)
    ask(gateway, route, user=route.alias)  # costs more than it held
    gateway.wait_settled(route.alias)
    ask(gateway, route, user=route.alias)
    assert called(gateway) == list(route.providers)
    gateway.wait_settled(route.alias, requests=2)
    assert gateway.entries(route.alias)[1]["cost_usd"] == 0
    assert outcomes(gateway, route) == ["answered", "no_room", "answered"]


@pytest.mark.parametrize("scope", ["alias", "provider"])
def test_a_fallback_without_room_is_passed_over_for_the_next(gateway: Gateway, scope: str) -> None:
    route = gateway.route("openai", "openai", "openai", retries=0)
    gateway.sim.behave(route.providers[0], faults.unavailable())
    gateway.sim.behave(route.providers[2], forever=HI)
    value = {"alias": route.aliases[1], "provider": route.providers[1]}[scope]
    gateway.budget(route, "0.000001", scope=scope, scope_value=value)
    ask(gateway, route)
    assert called(gateway) == [route.providers[0], route.providers[2]]
    assert outcomes(gateway, route) == ["server_error", "no_room", "answered"]


def test_a_hundred_at_once_never_exceed_the_first_step_s_budget_and_use_the_chain(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    for provider in route.providers:
        gateway.sim.behave(provider, forever=HI.but(latency_s=0.2))
    budget = gateway.budget(route, "0.008", scope="provider", scope_value=route.providers[0])  # room for a few holds
    with ThreadPoolExecutor(25) as threads:
        served = [headers["alias"] for headers in threads.map(lambda _: ask(gateway, route), range(100))]
    assert set(served) == set(route.aliases)
    gateway.wait_settled(route.alias, requests=100)
    balance = "SELECT limit_usd, posted_usd, held_usd FROM budget_status WHERE budget = %s"
    assert eventually(lambda: gateway.rows(balance, budget)[0]["held_usd"] == 0)
    (row,) = gateway.rows(balance, budget)
    (paid,) = gateway.rows("SELECT sum(cost_usd) AS usd FROM attempts WHERE provider = %s", route.providers[0])
    assert row["posted_usd"] == paid["usd"] <= row["limit_usd"]
    assert {entry["http_status"] for entry in gateway.entries(route.alias)} == {200}
