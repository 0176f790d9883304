"""litellm's price map is read whole, omissions are named, and costs equal litellm's own calculator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatch
from typing import Any

import pytest

from accounting.pricing import PriceList, cost_usd
from accounting.usage import Meter, Tier, Usage
from routing.upstreams import litellm_import, price_map
from tests.prices import LONG_AGO

#: Prices of the map that our prices do not have, and why.
NOT_CARRIED = {
    "*_balanced": "a tier of Sail alone",
    "*_decisions": "a tier of one model, for its router's decisions",
    "off_peak_pricing": "by the hour of the day: the dearer, standard rates are charged",
    "search_free_requests": "an account's allowance, of which a request does not know the rest",
    "web_search_billing_unit": "no price: whether a search is counted by query or by prompt",
    "regional_endpoint_uplift_multiplier": "where a deployment answers is its address: price it as it is billed there",
    "regional_processing_uplift_multiplier_*": "as above",
    "fedramp_uplift_multiplier": "as above",
    "provider_specific_entry": "factors for a region; that of Anthropic's fast mode is read",
    "cost_per_second": "rented capacity, paid by the hour and not by the request",
    "cache_creation_input_audio_token_cost": "no provider counts written audio apart from written text",
    "input_cost_per_token_cache_hit": "cache_read_input_token_cost under its old name, beside it",
    "explicit_cache_read_input_token_cost": "a discount for caches that a client manages by an API that we do not have",
    "citation_cost_per_token": "citations count as input, which costs the same in the one model that has this price",
    "input_cost_per_request": "a fee a request of four models that Perplexity retired",
    "input_cost_per_text_message": "of a realtime session, which is no endpoint here",
    "input_cost_per_video_token*": "no endpoint takes video whose tokens are counted apart",
    "output_cost_per_video_token": "no endpoint makes video whose tokens are counted",
    "input_cost_per_video_per_second_above_*s_interval": "by the length of a video, of one retired embedding model",
    "input_cost_per_pixel": "taken where the entry names a size, as the price of an image; no answer counts pixels",
    "output_cost_per_pixel": "as above",
    "input_dbu_cost_per_token": "Databricks' own unit; the price in dollars stands beside it",
    "output_dbu_cost_per_token": "as above",
    "ocr_cost_per_credit": "a page takes one to many credits, and no answer says how many",
    "guardrail_cost_per_unit": "no model",
    "tiered_pricing": "of searches, by the number of results; by input tokens it is carried",
}
#: Names in the map that are not prices.
NO_PRICES = (
    "supports_*", "supported_*", "max_*", "mode", "litellm_provider", "source", "metadata", "comment",
    "deprecation_date", "rpm", "tpm", "token_count_*", "prompt_cache_min_tokens", "output_vector_size",
    "deprecation_source", "successor_model", "reasoning_contexts", "reasoning_modes", "thinking_on_by_default",
    "default_reasoning_effort", "reasoning_effort_levels", "thinking_always_on", "bedrock_*", "uses_embed_content",
    "use_openai_responses_path", "vertex_ai_audio_api", "gemini_*", "audio_transcription_config",
)  # fmt: skip


@pytest.fixture(scope="module")
def litellm() -> Any:
    return litellm_import.load()


def entries(litellm: Any) -> Iterator[tuple[str, Any]]:
    """The map without its first entry, which explains the others."""
    return ((model, entry) for model, entry in litellm.model_cost.items() if model != "sample_spec")


def test_every_price_of_the_map_is_carried_or_left_out_for_a_reason(litellm: Any) -> None:
    names = {name for _, entry in entries(litellm) for name in entry}
    carried = {name for name in names if price_map.is_price(name)}
    left_out = {name for name in names - carried if any(fnmatch(name, pattern) for pattern in NOT_CARRIED)}
    unknown = {name for name in names - carried - left_out if not any(fnmatch(name, pattern) for pattern in NO_PRICES)}
    assert unknown == set()
    assert [name for name in names if fnmatch(name, "*cost*") and name not in carried | left_out] == []
    assert [pattern for pattern in NOT_CARRIED if not any(fnmatch(name, pattern) for name in left_out)] == []


#: A zero of these gives way to the price that the model is billed by: of its images, or of the sound's seconds.
REPLACED = ("output_cost_per_token", "input_cost_per_second")


def test_every_carried_price_is_a_rate_with_its_tier_and_threshold(litellm: Any) -> None:
    """Each price is a rate of the same amount."""
    for model, entry in entries(litellm):
        prices = price_map.read(entry, "")
        named = {name: value for name, value in entry.items() if price_map.is_price(name) and value is not None}
        if prices is None:
            assert not named, model
            continue
        for name, value in named.items():
            if name == price_map.SEARCHES or (name in REPLACED and not value):
                continue
            threshold = re.search(r"_above_(\d+)k_tokens", name)
            above = int(threshold[1]) * 1000 if threshold else 0
            endings = {"flex": Tier.FLEX, "priority": Tier.PRIORITY, "ultrafast": Tier.ULTRA, "batches": Tier.BATCH}
            tier = next((tier for ending, tier in endings.items() if name.endswith(f"_{ending}")), Tier.STANDARD)
            found = [r.usd_per_unit for r in prices.rates if (r.tier, r.above_input_tokens) == (tier, above)]
            amount = Decimal(str(value))
            assert amount in found or amount * 1_000_000 in found, (model, name)


def test_what_is_read_is_written_under_the_same_names_and_reads_the_same(litellm: Any) -> None:
    for model, entry in entries(litellm):
        provider = str(entry["litellm_provider"])
        prices = price_map.read(entry, provider)
        if prices is None:
            continue
        said, unsaid = price_map.write(prices, provider)
        assert unsaid == [], model
        assert price_map.read({"mode": entry.get("mode"), **said}, provider) == prices, model
        for name, value in entry.items():
            if price_map.is_price(name) and name in said and name != price_map.SEARCHES and value:
                assert said[name] == Decimal(str(value)), (model, name)


def test_a_free_model_costs_nothing_and_an_unpriced_one_has_no_price() -> None:
    free = price_map.read({"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}, "openai")
    assert free is not None
    assert cost_usd(Usage(input_tokens=5, output_tokens=5), free) == 0
    assert price_map.read({"mode": "chat"}, "openai") is None


def test_litellms_floats_become_exact_decimals_of_all_tiers_and_thresholds() -> None:
    prices = price_map.read(
        {
            "input_cost_per_token": 3e-06,
            "output_cost_per_token": 1.5e-05,
            "cache_read_input_token_cost": 3e-07,
            "input_cost_per_token_above_200k_tokens": 6e-06,
            "input_cost_per_token_above_512k_tokens": 1.2e-05,
            "output_cost_per_token_above_200k_tokens_batches": 2.25e-05,
            "input_cost_per_token_flex": "1.5e-06",
        },
        "openai",
    )
    assert prices == PriceList.of(
        {
            "standard": {"input": "3", "output": "15", "cached_input": "0.3"},
            "standard above 200000": {"input": "6"},
            "standard above 512000": {"input": "12"},
            "batch above 200000": {"output": "22.5"},
            "flex": {"input": "1.5"},
        }
    )


def test_ranges_of_input_tokens_are_thresholds() -> None:
    ranges = [
        {"input_cost_per_token": 4e-07, "output_cost_per_token": 1.2e-06, "output_cost_per_reasoning_token": 4e-06,
         "range": [0, 256000.0]},
        {"input_cost_per_token": 1.2e-06, "output_cost_per_token": 3.6e-06, "range": [256000.0, 1000000.0]},
    ]  # fmt: skip
    assert price_map.read({"tiered_pricing": ranges}, "dashscope") == PriceList.of(
        {
            "standard": {"input": "0.4", "output": "1.2", "reasoning": "4"},
            "standard above 256000": {"input": "1.2", "output": "3.6", "reasoning": "3.6"},
        }
    )


def test_images_have_the_prices_of_their_sizes() -> None:
    prices = price_map.price_of("openai", "gpt-image-1")
    assert prices is not None
    one = Usage(quantities={"image:high/1024x1536": Decimal(1)})
    assert cost_usd(one, prices) == Decimal("0.25")
    by_pixel = price_map.price_of("azure", "dall-e-3")
    assert by_pixel is not None
    assert cost_usd(Usage(quantities={"image:hd/1024x1024": Decimal(1)}), by_pixel) == Decimal("0.087999958221")


def test_a_model_that_chats_and_is_billed_by_the_clip_has_no_price_of_nothing() -> None:
    assert price_map.price_of("gemini", "lyria-3-pro-preview") is None
    assert price_map.price_of("gemini", "gemini-2.5-flash-image") is not None


def test_a_search_without_a_size_costs_as_a_medium_one() -> None:
    prices = price_map.price_of("perplexity", "sonar")
    assert prices is not None
    for name, usd in (("search", "0.008"), ("search:low", "0.005"), ("search:high", "0.012")):
        assert cost_usd(Usage(quantities={name: Decimal(1)}), prices) == Decimal(usd)


def test_xai_charges_its_higher_rates_at_the_threshold_already() -> None:
    entry = {"input_cost_per_token": 1e-6, "input_cost_per_token_above_200k_tokens": 2e-6}
    for provider, usd in (("xai", "0.4"), ("openai", "0.2")):
        prices = price_map.read(entry, provider)
        assert prices is not None
        assert cost_usd(Usage(input_tokens=200_000), prices) == Decimal(usd)
        assert price_map.write(prices, provider)[0].keys() == entry.keys()


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


TIERS = {Tier.STANDARD: None, Tier.FLEX: "flex", Tier.PRIORITY: "priority", Tier.ULTRA: "ultrafast"}


def in_litellms_words(litellm: Any, ours: Usage, *, long_life: str = "1h") -> Any:
    from litellm.types.utils import (
        CacheCreationTokenDetails,
        CompletionTokensDetailsWrapper,
        PromptTokensDetailsWrapper,
    )

    image_in, image_out = int(ours.of(Meter.IMAGE_INPUT)), int(ours.of(Meter.IMAGE_OUTPUT))
    text_in = (
        ours.input_tokens - ours.cached_input_tokens - ours.cache_write_tokens - ours.audio_input_tokens - image_in
    )
    return litellm.Usage(
        prompt_tokens=ours.input_tokens,
        completion_tokens=ours.output_tokens,
        total_tokens=ours.input_tokens + ours.output_tokens,
        cache_creation_input_tokens=ours.cache_write_tokens,
        cache_read_input_tokens=ours.cached_input_tokens,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=ours.cached_input_tokens,
            audio_tokens=ours.audio_input_tokens,
            image_tokens=image_in,
            text_tokens=text_in,
            cache_creation_tokens=ours.cache_write_tokens,
            cache_creation_token_details=CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=ours.cache_write_tokens - ours.cache_write_1h_tokens,
                **{f"ephemeral_{long_life}_input_tokens": ours.cache_write_1h_tokens},
            ),
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(
            reasoning_tokens=ours.reasoning_tokens,
            audio_tokens=ours.audio_output_tokens,
            image_tokens=image_out,
            text_tokens=ours.output_tokens - ours.reasoning_tokens - ours.audio_output_tokens - image_out,
        ),
    )


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, (_, names) in MODELS.items() for name in names])
def test_costs_agree_with_litellm_to_the_last_digit(litellm: Any, model: str, name: str) -> None:
    ours = Usage(**USAGES[name])
    provider, _ = MODELS[model]
    prices = price_map.read(litellm.model_cost[model], provider)
    assert prices is not None
    prompt, completion = litellm.cost_per_token(
        model=model, usage_object=in_litellms_words(litellm, ours), custom_llm_provider=provider
    )
    # litellm adds floats. Both sums are equal when written with the ledger's twelve places.
    assert cost_usd(ours, prices) == Decimal(str(prompt + completion)).quantize(Decimal("1e-12"))


def test_costs_agree_over_the_whole_map(litellm: Any) -> None:
    """Every model with token prices, below, at and above its thresholds, in each of its tiers.

    Batches are not compared. When the map has no long-context rate for a batch, litellm takes the short rate, which is
    too low, and we take the standard long rate.
    """
    from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token

    checked = set()
    for model, entry in entries(litellm):
        provider = str(entry["litellm_provider"])
        by_token = {name: value for name, value in entry.items() if "cost" in name or name == "tiered_pricing"}
        if "off_peak_pricing" in entry or not (
            {"input_cost_per_token", "output_cost_per_token"} <= by_token.keys()
            or any("range" in step for step in by_token.get("tiered_pricing") or ())
        ):
            continue
        if (same := f"{provider} {sorted(by_token.items())}") in checked:
            continue
        checked.add(same)
        prices = price_map.read(entry, provider)
        assert prices is not None, model
        steps = {2_000, *(found.above_input_tokens for found in prices.rates if found.above_input_tokens)}
        tiers = {Tier.STANDARD, *(found.tier for found in prices.rates)} - {Tier.BATCH}
        if "fast" in (entry.get("provider_specific_entry") or {}):
            tiers.remove(Tier.ULTRA)  # litellm takes the multiple beside this function
        for input_tokens in {n for step in steps for n in (step, step + 1)}:
            part = input_tokens // 10
            usage = Usage(
                input_tokens, part, 2 * part, part, part, 1000, 300, 100,
                quantities={"image_input": Decimal(part), "image_output": Decimal(50)},
            )  # fmt: skip
            lives = "12h" if "cache_creation_input_token_cost_above_12hr" in entry else "1h"
            theirs = in_litellms_words(litellm, usage, long_life=lives)
            for tier in tiers:
                prompt, completion = generic_cost_per_token(
                    "m", theirs, provider, service_tier=TIERS[tier], model_info=entry, current_time=LONG_AGO
                )
                cost = cost_usd(usage, prices, tier=tier)
                assert cost is not None, model
                assert abs(cost - Decimal(str(prompt + completion))) < Decimal("1e-9"), (model, tier, input_tokens)
    assert len(checked) > 500


def test_anthropics_fast_mode_costs_what_litellm_says(litellm: Any) -> None:
    """https://platform.claude.com/docs/en/build-with-claude/fast-mode"""
    from litellm.llms.anthropic.cost_calculation import cost_per_token

    fast = [
        model for model, entry in litellm.model_cost.items()
        if entry.get("litellm_provider") == "anthropic" and "fast" in (entry.get("provider_specific_entry") or {})
    ]  # fmt: skip
    assert fast
    usage = Usage(1000, cached_input_tokens=400, cache_write_tokens=200, cache_write_1h_tokens=100, output_tokens=300)
    for model in fast:
        prices = price_map.price_of("anthropic", model)
        assert prices is not None
        theirs = in_litellms_words(litellm, usage)
        theirs.speed = "fast"
        cost = Decimal(str(sum(cost_per_token(model, theirs)))).quantize(Decimal("1e-12"))
        assert cost_usd(usage, prices, tier=Tier.ULTRA) == cost > (cost_usd(usage, prices) or 0)
