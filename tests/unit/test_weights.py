"""The order in which a request tries an alias's weighted deployments."""

from __future__ import annotations

import random
from collections import Counter

from routing.catalog import Alias, Catalog, Provider, Step
from routing.upstreams.base import Deployment, Timeouts


def step(model: str, weight: int | None, *, enabled: bool = True) -> Step:
    provider = Provider(f"of {model}", "openai", enabled, ("",), 1, 5, 0.5, 30)
    return Step("a", 100, provider, Deployment(provider.name, "openai", model, None, Timeouts()), weight)


def draw(*own: Step, times: int = 1, seed: int = 7) -> list[tuple[str, ...]]:
    catalog = Catalog(1, {"a": Alias("a", True, 100, False, own, {})}, {}, (), {})
    draw = random.Random(seed).random
    return [tuple(s.deployment.model for s in catalog.chain("a", chance=lambda _: draw())) for _ in range(times)]


def test_without_weights_the_order_is_the_operators() -> None:
    assert set(draw(step("x", None), step("y", None), step("z", None), times=50)) == {("x", "y", "z")}


def test_each_is_first_as_often_as_its_share_says() -> None:
    drawn = draw(step("x", 1), step("y", 3), step("z", 6), times=20_000)
    first = Counter(order[0] for order in drawn)
    assert all(abs(first[model] / 20_000 - share) < 0.015 for model, share in (("x", 0.1), ("y", 0.3), ("z", 0.6)))


def test_those_that_remain_follow_by_the_same_rule() -> None:
    drawn = [order for order in draw(step("x", 1), step("y", 3), step("z", 6), times=20_000) if order[0] == "z"]
    second = Counter(order[1] for order in drawn)
    assert abs(second["y"] / len(drawn) - 0.75) < 0.02


def test_the_weighted_come_before_the_ordered() -> None:
    drawn = draw(step("ordered", None), step("x", 1), step("last", None), step("y", 1), times=200)
    assert set(drawn) == {("x", "y", "ordered", "last"), ("y", "x", "ordered", "last")}


def test_a_disabled_provider_gives_its_share_to_the_others() -> None:
    drawn = draw(step("x", 1000, enabled=False), step("y", 1), step("z", 1), times=400)
    first = Counter(order[0] for order in drawn)
    assert set(first) == {"y", "z"}
    assert min(first.values()) > 150
