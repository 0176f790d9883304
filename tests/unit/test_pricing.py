"""Usage times price: exact, and to the last digit what litellm's own calculator says."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.pricing import PriceList, Rates, ceiling_usd, cost_usd, dearest_output_usd_per_mtok
from accounting.usage import Usage

SONNET = PriceList(
    base=Rates(
        input_usd_per_mtok=Decimal(3),
        output_usd_per_mtok=Decimal(15),
        cached_input_usd_per_mtok=Decimal("0.3"),
        cache_write_usd_per_mtok=Decimal("3.75"),
        cache_write_1h_usd_per_mtok=Decimal(6),
    )
)
PLAIN = PriceList(base=Rates(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10)))
TIERED = PriceList(
    base=Rates(input_usd_per_mtok=Decimal("1.25"), output_usd_per_mtok=Decimal(10)),
    long_context_above_tokens=200_000,
    long_context=Rates(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(15)),
)


def test_input_and_output_cost_their_rates() -> None:
    assert cost_usd(Usage(input_tokens=7, output_tokens=3), PLAIN) == Decimal("0.0000475")


def test_each_class_of_input_costs_its_own_rate() -> None:
    usage = Usage(
        input_tokens=1000,
        cached_input_tokens=400,
        cache_write_tokens=300,
        cache_write_1h_tokens=100,
        output_tokens=10,
    )
    # 300 plain, 400 cached, 200 written for five minutes, 100 for an hour, 10 out
    expected = (300 * Decimal(3) + 400 * Decimal("0.3") + 200 * Decimal("3.75") + 100 * 6 + 10 * 15) / 1_000_000
    assert cost_usd(usage, SONNET) == expected == Decimal("0.00252")


def test_a_class_without_a_rate_of_its_own_costs_its_totals_rate() -> None:
    usage = Usage(
        input_tokens=100,
        cached_input_tokens=20,
        cache_write_tokens=30,
        cache_write_1h_tokens=30,
        audio_input_tokens=10,
        output_tokens=50,
        reasoning_tokens=40,
        audio_output_tokens=5,
    )
    assert cost_usd(usage, PLAIN) == cost_usd(Usage(input_tokens=100, output_tokens=50), PLAIN)


@pytest.mark.parametrize(
    ("input_tokens", "cost"),
    [(200_000, "0.25"), (200_001, "0.5000025")],
)
def test_the_long_context_rates_begin_above_the_threshold(input_tokens: int, cost: str) -> None:
    assert cost_usd(Usage(input_tokens=input_tokens), TIERED) == Decimal(cost)


def test_a_sum_is_rounded_half_to_even_at_the_twelfth_place() -> None:
    odd = PriceList(base=Rates(input_usd_per_mtok=Decimal("0.0000005"), output_usd_per_mtok=Decimal(0)))
    assert cost_usd(Usage(input_tokens=1), odd) == Decimal("0E-12")
    assert cost_usd(Usage(input_tokens=3), odd) == Decimal("0.000000000002")


def test_a_price_list_survives_the_ledgers_json() -> None:
    for prices in (SONNET, PLAIN, TIERED):
        assert PriceList.from_json(prices.as_json()) == prices


def test_a_free_model_costs_nothing_and_an_unpriced_one_has_no_price_list() -> None:
    free = PriceList.from_litellm({"input_cost_per_token": 0.0, "output_cost_per_token": 0.0})
    assert free is not None
    assert cost_usd(Usage(input_tokens=5, output_tokens=5), free) == 0
    assert PriceList.from_litellm({"mode": "chat"}) is None


def test_litellms_floats_become_exact_decimals() -> None:
    prices = PriceList.from_litellm(
        {
            "input_cost_per_token": 3e-06,
            "output_cost_per_token": 1.5e-05,
            "cache_read_input_token_cost": 3e-07,
            "input_cost_per_token_above_200k_tokens": 6e-06,
            "output_cost_per_token_above_200k_tokens": 2.25e-05,
        }
    )
    assert prices is not None
    assert prices.base.input_usd_per_mtok == 3
    assert prices.base.cached_input_usd_per_mtok == Decimal("0.3")
    assert prices.long_context_above_tokens == 200_000
    assert prices.long_context is not None
    assert prices.long_context.output_usd_per_mtok == Decimal("22.5")
    assert prices.long_context.cached_input_usd_per_mtok == Decimal("0.3")


tokens = st.integers(min_value=0, max_value=2_000_000)
rate = st.decimals(min_value=0, max_value=1000, places=6)
rates = st.builds(
    Rates,
    input_usd_per_mtok=rate,
    output_usd_per_mtok=rate,
    cached_input_usd_per_mtok=st.none() | rate,
    cache_write_usd_per_mtok=st.none() | rate,
    cache_write_1h_usd_per_mtok=st.none() | rate,
    reasoning_usd_per_mtok=st.none() | rate,
    audio_input_usd_per_mtok=st.none() | rate,
    audio_output_usd_per_mtok=st.none() | rate,
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, write, audio, plain = (draw(tokens) for _ in range(4))
    reasoning, audio_out, text = (draw(tokens) for _ in range(3))
    return Usage(
        input_tokens=cached + write + audio + plain,
        cached_input_tokens=cached,
        cache_write_tokens=write,
        cache_write_1h_tokens=draw(st.integers(min_value=0, max_value=write)),
        audio_input_tokens=audio,
        output_tokens=reasoning + audio_out + text,
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_out,
    )


@given(usages(), rates, st.none() | rates, st.integers(min_value=0, max_value=3_000_000), st.tuples(tokens, tokens))
def test_no_usage_within_its_bounds_costs_more_than_the_ceiling(
    usage: Usage, base: Rates, long_context: Rates | None, threshold: int, more: tuple[int, int]
) -> None:
    prices = PriceList(base) if long_context is None else PriceList(base, threshold, long_context)
    ceiling = ceiling_usd(usage.input_tokens + more[0], usage.output_tokens + more[1], prices)
    assert cost_usd(usage, prices) <= ceiling
    assert dearest_output_usd_per_mtok(prices) >= base.output_usd_per_mtok


# --- litellm's own calculator ----------------------------------------------------------------------------

USAGES: dict[str, dict[str, Any]] = {
    "plain": {"input_tokens": 1234, "output_tokens": 567},
    "cached": {"input_tokens": 10_000, "cached_input_tokens": 8_192, "output_tokens": 3},
    "written": {"input_tokens": 9_000, "cache_write_tokens": 4_096, "output_tokens": 11},
    "written for an hour": {
        "input_tokens": 9_000,
        "cache_write_tokens": 4_096,
        "cache_write_1h_tokens": 1_024,
        "output_tokens": 11,
    },
    "read and written": {
        "input_tokens": 9_000,
        "cached_input_tokens": 1_500,
        "cache_write_tokens": 4_096,
        "output_tokens": 11,
    },
    "reasoning": {"input_tokens": 99, "output_tokens": 5_000, "reasoning_tokens": 4_321},
    "audio": {"input_tokens": 500, "audio_input_tokens": 400, "output_tokens": 700, "audio_output_tokens": 650},
    "long": {"input_tokens": 250_001, "output_tokens": 1_000},
    "long and cached": {"input_tokens": 250_001, "cached_input_tokens": 200_000, "output_tokens": 1_000},
    "at the threshold": {"input_tokens": 200_000, "output_tokens": 1},
}
MODELS = {
    "gpt-4o": ("openai", ("plain", "cached", "reasoning", "long")),
    "gpt-audio": ("openai", ("plain", "audio")),
    "o3-mini": ("openai", ("plain", "cached", "reasoning")),
    "claude-sonnet-4-6": (
        "anthropic",
        ("plain", "cached", "written", "written for an hour", "read and written", "long"),
    ),
    "gemini/gemini-2.5-pro": (
        "gemini",
        ("plain", "cached", "reasoning", "long", "long and cached", "at the threshold"),
    ),
    "gemini/gemini-2.5-flash-lite": ("gemini", ("plain", "cached", "reasoning", "audio")),
}


@pytest.fixture(scope="module")
def litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    return litellm


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, (_, names) in MODELS.items() for name in names])
def test_costs_agree_with_litellm_to_the_last_digit(litellm: Any, model: str, name: str) -> None:
    from litellm.types.utils import (
        CacheCreationTokenDetails,
        CompletionTokensDetailsWrapper,
        PromptTokensDetailsWrapper,
    )

    ours = Usage(**USAGES[name])
    provider, _ = MODELS[model]
    prices = PriceList.from_litellm(litellm.model_cost[model])
    assert prices is not None
    text_in = ours.input_tokens - ours.cached_input_tokens - ours.cache_write_tokens - ours.audio_input_tokens
    theirs = litellm.Usage(
        prompt_tokens=ours.input_tokens,
        completion_tokens=ours.output_tokens,
        total_tokens=ours.input_tokens + ours.output_tokens,
        cache_creation_input_tokens=ours.cache_write_tokens,
        cache_read_input_tokens=ours.cached_input_tokens,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=ours.cached_input_tokens,
            audio_tokens=ours.audio_input_tokens,
            text_tokens=text_in,
            cache_creation_tokens=ours.cache_write_tokens,
            cache_creation_token_details=CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=ours.cache_write_tokens - ours.cache_write_1h_tokens,
                ephemeral_1h_input_tokens=ours.cache_write_1h_tokens,
            ),
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(
            reasoning_tokens=ours.reasoning_tokens,
            audio_tokens=ours.audio_output_tokens,
            text_tokens=ours.output_tokens - ours.reasoning_tokens - ours.audio_output_tokens,
        ),
    )
    prompt, completion = litellm.cost_per_token(model=model, usage_object=theirs, custom_llm_provider=provider)
    # litellm sums floats; its sum is ours once both are written with the ledger's twelve places.
    assert cost_usd(ours, prices) == Decimal(str(prompt + completion)).quantize(Decimal("1e-12"))
