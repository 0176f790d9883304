"""The ids of responses lead their owner back to the deployment, and nobody else anywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.keys import ANONYMOUS_KEY, Key
from accounting.rates import RateLimits
from routing.catalog import Alias, Catalog, Provider, Step
from routing.endpoints.responses.kept import Kept, opened, owner_of, sealed
from routing.endpoints.responses.looking_up import keeper_of, path_of
from routing.exceptions import ModelNotAllowed, ResponseNotKept
from routing.models import ChainKind
from routing.upstreams.base import Deployment, Timeouts
from routing.upstreams.responses_dialect import Keeper

KEPT = Kept("an alias / мой", Keeper("openai-1", "gpt-5", "0a1b2c3d"), "resp_" + "0" * 48)


def key(number: int, digest: str = "") -> Key:
    return Key(number, f"key {number}", digest, True, None, frozenset(), RateLimits())


def test_the_owner_finds_it_also_after_a_rotation_of_the_key() -> None:
    made = sealed(KEPT, owner_of(key(7, "old")))
    assert opened(made, owner_of(key(7, "new"))) == KEPT
    assert made.startswith("resp_")
    assert KEPT.id not in made


@pytest.mark.parametrize("other", [owner_of(key(8)), owner_of(ANONYMOUS_KEY), owner_of(None), ""])
def test_nobody_else_finds_it(other: str) -> None:
    assert opened(sealed(KEPT, owner_of(key(7))), other) is None


def test_another_installation_does_not_find_it(settings: Any) -> None:
    made = sealed(KEPT, "anonymous")
    settings.SECRET_KEY = "another"
    assert opened(made, "anonymous") is None


@given(st.integers(5, 150), st.characters(codec="ascii"))
def test_a_changed_id_is_none(place: int, letter: str) -> None:
    made = sealed(KEPT, "anonymous")
    changed = made[:place] + letter + made[place + 1 :]
    assert changed == made or opened(changed, "anonymous") in (None, KEPT)
    assert opened(changed, "key 1") is None


@pytest.mark.parametrize(
    "name", ["", "resp_", "resp_1", "resp_é", "resp_" + "A" * 5_000, "chatcmpl-1", "resp_" + "AAAA" * 10]
)
def test_what_is_no_id_of_ours_is_none(name: str) -> None:
    assert opened(name, "anonymous") is None


@pytest.mark.parametrize(
    ("provider_id", "path"),
    [
        ("resp_1", "responses/resp_1/cancel"),
        ("../files/1?a#b", "responses/..%2Ffiles%2F1%3Fa%23b/cancel"),
        ("a lone \ud800", "responses/a%20lone%20%ED%A0%80/cancel"),
    ],
)
def test_an_odd_id_of_a_provider_s_leads_to_no_other_path(provider_id: str, path: str) -> None:
    kept = opened(sealed(replace(KEPT, id=provider_id), "anonymous"), "anonymous")
    assert kept is not None
    assert path_of(kept, "cancel") == path


@pytest.mark.parametrize("provider_id", ["", ".", ".."])
def test_an_id_that_is_a_step_elsewhere_is_not_asked_for(provider_id: str) -> None:
    with pytest.raises(ResponseNotKept):
        path_of(replace(KEPT, id=provider_id), "")


def catalog_with_fallback() -> Catalog:
    def alias(name: str, provider: str, chains: dict[str, tuple[str, ...]]) -> Alias:
        row = Provider(provider, "openai", True, (), 0, 5, 1.0, 1.0)
        step = Step(name, None, row, Deployment(provider, "openai", "gpt-5", None, Timeouts()))
        return Alias(name, True, None, False, (step,), chains)

    aliases = [alias("a", "first", {ChainKind.GENERAL: ("b",)}), alias("b", "second", {})]
    return Catalog(1, {each.name: each for each in aliases}, {}, (), {})


@pytest.mark.parametrize("keeper", ["first", "second"])
def test_a_key_that_is_bound_finds_nothing_at_a_fallback_that_it_may_not_use(keeper: str) -> None:
    kept = Kept("a", Keeper(keeper, "gpt-5", "0"), "resp_1")
    free = replace(key(7), allowed_aliases=frozenset({"a"}))
    assert keeper_of(kept, catalog_with_fallback(), free).provider.name == keeper
    bound = replace(free, binds_fallbacks=True)
    if keeper == "first":
        assert keeper_of(kept, catalog_with_fallback(), bound).provider.name == keeper
        return
    with pytest.raises(ResponseNotKept):
        keeper_of(kept, catalog_with_fallback(), bound)


def test_a_key_that_may_no_longer_use_the_alias_finds_nothing() -> None:
    elsewhere = replace(key(7), allowed_aliases=frozenset({"b"}))
    with pytest.raises(ModelNotAllowed):
        keeper_of(Kept("a", Keeper("first", "gpt-5", "0"), "resp_1"), catalog_with_fallback(), elsewhere)
