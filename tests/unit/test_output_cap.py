"""The output cap of a request whose client sets none: the model's own maximum, narrowed where money is short."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from accounting.budgets import BudgetRule
from accounting.periods import Period
from accounting.pricing import PriceList
from accounting.rates import RateLimits
from routing.catalog import Provider, Step
from routing.defaults import ALIASES, PRICES, PROVIDERS
from routing.endpoints.chat.request import parse_chat
from routing.endpoints.messages.request import parse_messages
from routing.serving.call import CappedBy
from routing.serving.ceiling import AT_ONCE, Ceiling, Room
from routing.upstreams.base import Deployment, Timeouts

PAGE = Path(__file__).parents[2] / "docs" / "ceilings.md"
PRICE = {model: prices for _, model, _, _, prices in PRICES}
FLAT = PriceList.of({"standard": {"input": "1", "output": "10"}})


def step(provider: str, model: str, cap: int | None = None) -> Step:
    row = Provider("p", provider, enabled=True, key_references=(), retries=0, breaker_failures=5,
                   breaker_failure_rate=1.0, breaker_cooldown_s=1.0)  # fmt: skip
    return Step("a", cap, row, Deployment("p", provider, model, None, Timeouts()))


def budget(limit_usd: str, mode: str = "hard") -> BudgetRule:
    return BudgetRule(1, "b", "global", None, "", mode, Period.DAY, "UTC", Decimal(limit_usd))


def ceiling(to: Step, price: PriceList | None, *budgets: BudgetRule, tokens: int | None = None, **more: Any) -> Ceiling:
    call = parse_chat({"model": "a", "messages": [{"role": "user", "content": "hi"}], **more})
    return Ceiling.of(call, to, price, Room.under(budgets, RateLimits(tokens_per_minute=tokens)))


def cap(*args: Any, **more: Any) -> int:
    return ceiling(*args, **more).most.output_cap_tokens


GPT_4O = step("openai", "gpt-4o")


def test_without_a_hard_budget_it_is_the_models_own_maximum() -> None:
    assert cap(GPT_4O, FLAT) == 16_384
    assert cap(GPT_4O, FLAT, budget("0.01", "soft")) == 16_384
    assert cap(step("anthropic", "claude-sonnet-4-6"), None) == 128_000


def test_under_a_hard_budget_it_leaves_room_for_others() -> None:
    narrowed = ceiling(GPT_4O, FLAT, budget("50"), budget("2"))
    assert narrowed.hold_usd is not None
    assert Decimal("0.09999") < narrowed.hold_usd <= Decimal(2) / AT_ONCE
    assert 9_980 < narrowed.most.output_cap_tokens < 10_000
    halves = ceiling(GPT_4O, FLAT, budget("2"), n=2).most
    assert halves.output_tokens <= narrowed.most.output_cap_tokens < halves.output_tokens + 2


def test_it_is_never_narrowed_below_an_ordinary_answer() -> None:
    assert cap(GPT_4O, FLAT, budget("0.000001")) == 4_096
    assert cap(step("openai", "gpt-4"), FLAT, budget("0.000001")) == 4_096
    assert cap(step("openai", "gpt-3.5-turbo-instruct"), FLAT, budget("0.01")) == 4_096


def test_a_key_with_few_tokens_a_minute_narrows_it_too() -> None:
    assert cap(GPT_4O, FLAT, tokens=200_000) == 10_000 - ceiling(GPT_4O, FLAT).most.input_tokens
    assert cap(GPT_4O, FLAT, tokens=20_000) == 4_096
    input_tokens = ceiling(GPT_4O, FLAT).most.input_tokens
    assert cap(GPT_4O, FLAT, tokens=500) == 500 - input_tokens, "it fits into an empty minute"
    assert cap(GPT_4O, FLAT, tokens=500, n=2) == (500 - input_tokens) // 2
    assert cap(GPT_4O, FLAT, tokens=input_tokens) == 1
    assert ceiling(GPT_4O, FLAT).output_cap_of(input_tokens + 7) == 7
    assert ceiling(GPT_4O, FLAT).output_cap_of(input_tokens) is None


def test_it_fits_beside_the_input_into_the_models_window() -> None:
    long = parse_chat({"model": "a", "messages": [{"role": "user", "content": "x" * 120_000}]})
    most = Ceiling.of(long, GPT_4O, FLAT, Room()).most
    assert most.input_tokens + most.output_cap_tokens == 128_000
    assert cap(step("openai", "gpt-4"), FLAT) == 4_096


def test_of_a_model_that_nobody_knows_it_is_an_ordinary_answer() -> None:
    assert cap(step("hosted_vllm", "our-own"), FLAT) == 4_096


@pytest.mark.parametrize(("own", "by"), [({}, CappedBy.ALIAS), ({"max_tokens": 9}, CappedBy.CLIENT)])
def test_what_an_operator_or_a_client_has_set_is_not_narrowed(own: dict[str, int], by: CappedBy) -> None:
    most = ceiling(step("openai", "gpt-4o", 100_000), FLAT, budget("0.01"), **own).most
    assert (most.output_cap_tokens, most.capped_by) == (own.get("max_tokens", 100_000), by)


def test_the_documents_say_how_many_run_at_once_on_a_first_start() -> None:
    rows = {}
    for alias, (provider, model, _) in ALIASES.items():
        to = step(PROVIDERS[provider][0], model)
        found = ceiling(to, PRICE[model], budget("10"))
        assert found.hold_usd is not None
        own = cap(to, PRICE[model])
        rows[alias] = f"{own:,} | {found.most.output_cap_tokens:,} | {found.hold_usd:.4f} | {10 // found.hold_usd}"
    said = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.* \| .* \| .* \| .*) \|$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert {alias: said.get(alias) for alias in rows} == rows


def test_a_model_that_is_billed_by_what_it_makes_is_not_free_because_its_tokens_are() -> None:
    by_the_clip = PriceList.of({"standard": {"input": "0", "output": "0", "image": "0.08"}})
    unbounded = ceiling(GPT_4O, by_the_clip).unbounded
    assert unbounded is not None
    assert (unbounded.param, str(unbounded)) == ("model", "gpt-4o is billed by the image, and nobody knows how many")
    free = PriceList.of({"standard": {"input": "0", "output": "0"}})
    assert ceiling(GPT_4O, free).unbounded is None
    beside_tokens = PriceList.of({"standard": {"input": "1", "output": "0", "image": "0.08"}})
    assert ceiling(GPT_4O, beside_tokens).unbounded is None


def test_at_the_priority_tier_a_hold_counts_what_a_provider_adds_to_a_short_prompt() -> None:
    dearer = PriceList.of({"standard": {"input": "2.5", "output": "10"}, "priority": {"input": "4.25", "output": "17"}})
    most = {tier: ceiling(GPT_4O, dearer, service_tier=tier, max_tokens=1000) for tier in ("priority", "default")}
    assert most["priority"].hold_usd == Decimal(1024 * 425 + 1000 * 1700) / 100_000_000
    assert most["default"].most.input_tokens < 150
    claude = step("anthropic", "claude-sonnet-4-6")
    assert ceiling(claude, FLAT, service_tier="auto", max_tokens=9).most.input_tokens < 150


def test_a_tier_that_costs_six_times_as_much_is_held_for_and_refused_without_its_price() -> None:
    """https://developers.openai.com/api/docs/guides/ultrafast-mode"""
    standard, priority = {"input": "10", "output": "50"}, {"input": "20", "output": "100"}
    prices = PriceList.of({"standard": standard, "priority": priority, "ultra": {"input": "60", "output": "300"}})
    most = ceiling(GPT_4O, prices, service_tier="ultrafast", max_tokens=1000)
    assert (most.hold_usd, most.unbounded) == (Decimal(1024 * 60 + 1000 * 300) / 1_000_000, None)
    unpriced = PriceList.of({"standard": standard, "priority": priority})
    without = ceiling(GPT_4O, unpriced, service_tier="ultrafast", max_tokens=1000).unbounded
    assert without is not None
    assert (without.param, str(without)) == ("service_tier", "gpt-4o has no price in the tier 'ultra'")


def test_anthropics_fast_mode_is_held_for_and_refused_without_its_price() -> None:
    """Claude Code asks for it with /fast."""
    claude = step("anthropic", "claude-opus-5")
    prices = PriceList.of({"standard": {"input": "5", "output": "25"}, "ultra": {"input": "10", "output": "50"}})
    most = ceiling(claude, prices, speed="fast", max_tokens=1000)
    assert (most.hold_usd, most.unbounded) == (Decimal(1024 * 10 + 1000 * 50) / 1_000_000, None)
    without = ceiling(claude, FLAT, speed="fast", max_tokens=1000).unbounded
    assert without is not None
    assert (without.param, str(without)) == ("speed", "claude-opus-5 has no price in the tier 'ultra'")
    body = {"model": "a", "max_tokens": 1000, "speed": "fast", "messages": [{"role": "user", "content": "hi"}]}
    native = Ceiling.of(parse_messages(body), claude, prices, Room())
    assert (native.hold_usd, native.unbounded) == (Decimal(1024 * 10 + 1000 * 50) / 1_000_000, None)


def test_a_tier_that_nobody_knows_is_not_bounded() -> None:
    unbounded = ceiling(GPT_4O, FLAT, service_tier="warp", max_tokens=1000).unbounded
    assert unbounded is not None
    assert (unbounded.param, str(unbounded)) == ("service_tier", "nobody knows what a tier of this name costs")


def test_a_deep_research_holds_for_its_searches_citations_and_thoughts() -> None:
    price = PriceList.of({"standard": {"input": "2", "output": "8", "reasoning": "3", "search": "0.005"}})
    found = ceiling(step("perplexity", "sonar-deep-research"), price, budget("10"), max_tokens=100)
    assert found.unbounded is None
    assert found.most.input_tokens > 250_000
    assert found.hold_usd == Decimal(found.most.input_tokens * 2 + 500_100 * 8) / 1_000_000 + 1
    without = ceiling(
        step("perplexity", "sonar-deep-research"), PriceList.of({"standard": {"input": "2", "output": "8"}})
    )
    assert without.unbounded is not None
    assert without.unbounded.param == "model", "a search has no price there"
