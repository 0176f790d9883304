"""Prompt caches stay warm: a conversation keeps its deployment, and moves only while that is not well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from routing.models import FurtherDeployment, ModelAlias, Provider, ProviderKey
from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, asks, unique
from tests.simulator import faults

CONVERSATIONS, TURNS = 8, 10


def spread(gateway: Gateway, deployments: int, **provider: Any) -> Route:
    """An alias with so many deployments of equal weight, each at a provider of its own."""
    route = gateway.route(*["openai"] * deployments, **provider)
    with gateway.orm():
        alias = ModelAlias.objects.get(name=route.alias)
        alias.fallbacks.all().delete()
        ModelAlias.objects.filter(pk=alias.pk).update(weight=1)
        for position, name in enumerate(route.providers[1:], start=1):
            FurtherDeployment.objects.create(
                alias=alias,
                position=position,
                provider=Provider.objects.get(name=name),
                upstream_model="gpt-4o",
                weight=1,
            )
    return route


def ask(gateway: Gateway, route: Route, **parameters: Any) -> str:
    """The provider that answered."""
    answer = gateway.client().chat.completions.with_raw_response.create(model=route.alias, **parameters)
    return str(answer.headers["x-gateway-provider"])


def cached_share(gateway: Gateway, route: Route) -> float:
    """Of all input tokens of some conversations that take turns, and grow."""
    told: dict[int, list[Any]] = {
        number: [{"role": "system", "content": f"{unique('You')} " + "know the law of the sea. " * 220}]
        for number in range(CONVERSATIONS)
    }
    for turn in range(TURNS):
        for messages in told.values():
            messages.append({"role": "user", "content": f"Question {turn}. " + "What of the gold? " * 40})
            ask(gateway, route, messages=messages)
            messages.append({"role": "assistant", "content": "Aye."})
    entries = gateway.entries(route.alias)
    assert len(entries) == CONVERSATIONS * TURNS
    return float(sum(e["cached_input_tokens"] for e in entries) / sum(e["input_tokens"] for e in entries))


def test_with_four_deployments_as_much_is_cached_as_with_one(gateway: Gateway, tmp_path: Path) -> None:
    one, four = spread(gateway, 1), spread(gateway, 4)
    (tmp_path / "key").write_text("sk-provider-another-77a0")
    with gateway.orm():
        for name in four.providers[:2]:
            provider = Provider.objects.get(name=name)
            ProviderKey.objects.create(provider=provider, key_reference=f"file:{tmp_path / 'key'}")
    share = cached_share(gateway, one)
    assert share > 0.7
    assert cached_share(gateway, four) >= 0.95 * share
    assert len({e["provider"] for e in gateway.entries(four.alias)}) > 1, "they are shared out all the same"


def test_a_conversation_moves_while_its_breaker_is_open_and_comes_back(gateway: Gateway) -> None:
    route = spread(gateway, 3, retries=0, breaker_failures=1, breaker_cooldown_s=1)
    body = asks(unique("Hello"))
    home = ask(gateway, route, **body)
    assert {ask(gateway, route, **body) for _ in range(4)} == {home}
    gateway.sim.behave(home, faults.unavailable().but(window_s=1))
    away = {ask(gateway, route, **body) for _ in range(6)}
    assert home not in away
    assert len(away) == 1, "all of it to the same other one"
    assert eventually(lambda: ask(gateway, route, **body) == home, within_s=10)
    assert {ask(gateway, route, **body) for _ in range(4)} == {home}


def test_a_named_session_keeps_its_deployment_whatever_it_says(gateway: Gateway) -> None:
    route = spread(gateway, 4)
    by_name = {
        ask(gateway, route, **asks(unique("Hello")), extra_headers={"x-session-id": f"{route.alias} session"})
        for _ in range(8)
    }
    assert len(by_name) == 1
    assert len({ask(gateway, route, **asks(unique("Hello"))) for _ in range(24)}) > 1
