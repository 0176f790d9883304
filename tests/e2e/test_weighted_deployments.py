"""Weighted deployments of one alias: requests are shared out, and each is the others' fallback before the chain."""

from __future__ import annotations

from collections import Counter

import pytest

from accounting.models import Budget
from routing.models import ModelAlias, Provider
from tests.e2e.gateway import Gateway, Route, asks, unique
from tests.simulator import faults


@pytest.fixture
def route(gateway: Gateway) -> Route:
    """An alias with two weighted deployments and an ordered one, and a fallback; each at a provider of its own."""
    route = gateway.route("openai", "openai", "openai", "anthropic", retries=0)
    own, second, ordered, fallback = route.aliases
    with gateway.orm():
        alias = ModelAlias.objects.get(name=own)
        alias.fallbacks.exclude(target__name=fallback).delete()
        ModelAlias.objects.filter(name=own).update(weight=1)
        for name, weight in ((second, 1), (ordered, None)):
            provider = Provider.objects.get(aliases__name=name)
            alias.deployments.create(
                position=alias.deployments.count() + 1, provider=provider, upstream_model="gpt-4o", weight=weight
            )
    return route


def ask(gateway: Gateway, route: Route) -> str:
    """The provider that answered, in a conversation of its own."""
    answer = gateway.client().chat.completions.with_raw_response.create(model=route.alias, **asks(unique("Hello")))
    return str(answer.headers["x-gateway-provider"])


def test_requests_are_shared_out_among_the_weighted_alone(gateway: Gateway, route: Route) -> None:
    served = Counter(ask(gateway, route) for _ in range(40))
    assert set(served) == set(route.providers[:2])  # fails by chance once in 5e11 runs
    assert {(e["attempts"], e["fallback"]) for e in gateway.entries(route.alias)} == {(1, False)}


def test_the_other_weighted_one_follows_then_the_ordered_then_the_chain(gateway: Gateway, route: Route) -> None:
    for name in route.providers[:3]:
        gateway.sim.behave(name, faults.unavailable().but(window_s=30))
    assert ask(gateway, route) == route.providers[3]
    tried = [attempt["provider"] for attempt in gateway.attempts(route.alias)]
    assert set(tried[:2]) == set(route.providers[:2])
    assert tried[2:] == list(route.providers[2:])


def test_the_weights_themselves_are_live(gateway: Gateway, route: Route) -> None:
    ask(gateway, route)
    with gateway.orm():
        ModelAlias.objects.filter(name=route.alias).update(weight=None)
    assert {ask(gateway, route) for _ in range(8)} == {route.providers[1]}, "the only one that has a weight"
    with gateway.orm():
        ModelAlias.objects.get(name=route.alias).deployments.update(weight=None)
    assert {ask(gateway, route) for _ in range(8)} == {route.providers[0]}, "the alias's own, as ever"


def test_the_hold_is_that_of_the_deployment_drawn_first(gateway: Gateway, route: Route) -> None:
    """A provider's budget has charges only of requests that began at the provider."""
    with gateway.orm():
        name = Budget.objects.create(
            name=unique("budget"), scope="provider", scope_value=route.providers[1], limit_usd=5
        ).name
    served = [ask(gateway, route) for _ in range(20)]
    (charged,) = gateway.rows(
        "SELECT count(*) AS requests FROM accounting_charge c JOIN accounting_budgetperiod p ON p.id = c.period_id"
        " JOIN accounting_budget b ON b.id = p.budget_id WHERE b.name = %s",
        name,
    )
    assert charged["requests"] == served.count(route.providers[1])
