"""Usage times price is exact, and equals litellm's own calculator to the last digit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounting.pricing import COSTS_AS, PriceList, Rate, ceiling_usd, cost_usd, dearest_output_usd_per_mtok
from accounting.usage import TOKEN_METERS, Meter, Tier, Usage, UsageSource
from tests.old_prices import OldPrice, OldRates, as_rates, old_cost_usd

SONNET = PriceList.of(
    {"standard": {"input": "3", "output": "15", "cached_input": "0.3", "cache_write": "3.75", "cache_write_1h": "6"}}
)
PLAIN = PriceList.of({"standard": {"input": "2.5", "output": "10"}})
TIERED = PriceList.of(
    {
        "standard": {"input": "1.25", "output": "10"},
        "standard above 200000": {"input": "2.5", "output": "15"},
    }
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
    odd = PriceList.of({"standard": {"input": "0.0000005"}})
    assert cost_usd(Usage(input_tokens=1), odd) == Decimal("0E-12")
    assert cost_usd(Usage(input_tokens=3), odd) == Decimal("0.000000000002")


# --- thresholds, tiers and what is missing ---------------------------------------------------------------


def usd(prices: PriceList, meter: Meter, tier: Tier = Tier.STANDARD, input_tokens: int = 1) -> Decimal | None:
    return prices.rates_of(tier, input_tokens).get(meter)


STEPS = PriceList.of(
    {
        "standard": {"input": "1", "output": "10", "cached_input": "0.1", "reasoning": "12"},
        "standard above 128000": {"input": "2", "output": "20"},
        "standard above 256000": {"input": "4"},
        "flex": {"input": "0.5", "output": "5"},
        "priority": {"input": "3", "output": "30", "reasoning": "33"},
        "priority above 128000": {"output": "60"},
    }
)


@pytest.mark.parametrize(
    ("meter", "tier", "input_tokens", "rate"),
    [
        (Meter.INPUT, Tier.STANDARD, 128_000, "1"),
        (Meter.INPUT, Tier.STANDARD, 128_001, "2"),
        (Meter.INPUT, Tier.STANDARD, 256_001, "4"),
        (Meter.OUTPUT, Tier.STANDARD, 256_001, "20"),  # the highest threshold that has a rate for it
        (Meter.CACHED_INPUT, Tier.STANDARD, 256_001, "0.1"),
        (Meter.INPUT, Tier.FLEX, 1, "0.5"),
        (Meter.CACHED_INPUT, Tier.FLEX, 1, "0.1"),  # as the standard tier
        (Meter.INPUT, Tier.FLEX, 128_001, "2"),  # the threshold before the tier
        (Meter.OUTPUT, Tier.PRIORITY, 128_001, "60"),
        (Meter.INPUT, Tier.BATCH, 1, "1"),
        (Meter.AUDIO_INPUT, Tier.PRIORITY, 1, "3"),  # a class without any rate, as its total
        (Meter.CACHE_WRITE_1H, Tier.FLEX, 256_001, "4"),
        (Meter.CACHED_IMAGE_INPUT, Tier.STANDARD, 1, "0.1"),
        (Meter.REASONING, Tier.STANDARD, 1, "12"),
        (Meter.REASONING, Tier.FLEX, 1, "5"),  # billed as output when only output has a rate of the tier …
        (Meter.REASONING, Tier.STANDARD, 128_001, "20"),  # … or of the threshold
        (Meter.REASONING, Tier.PRIORITY, 1, "33"),
        (Meter.REASONING, Tier.PRIORITY, 128_001, "60"),
    ],
)
def test_the_closest_rate_counts(meter: Meter, tier: Tier, input_tokens: int, rate: str) -> None:
    assert usd(STEPS, meter, tier, input_tokens) == Decimal(rate)


def test_every_token_class_but_the_totals_costs_as_another() -> None:
    assert TOKEN_METERS - COSTS_AS.keys() == {Meter.INPUT, Meter.OUTPUT}
    assert {usd(PLAIN, meter) for meter in TOKEN_METERS} == {Decimal("2.5"), Decimal(10)}


def test_units_cost_their_kind_and_else_what_is_left() -> None:
    prices = PriceList.of({"standard": {"search": "0.01", "search:high": "0.025", "input_character": "15"}})
    usage = Usage(quantities={"search:high": Decimal(2), "search:low": Decimal(3), "input_character": Decimal(100)})
    assert cost_usd(usage, prices) == Decimal("0.05") + Decimal("0.03") + Decimal("0.0015")


def test_image_and_cached_audio_tokens_are_parts_of_the_totals() -> None:
    prices = PriceList.of(
        {
            "standard": {
                "input": "1", "image_input": "2", "cached_input": "0.1", "cached_audio_input": "0.5", "output": "10",
                "image_output": "40",
            }
        }
    )  # fmt: skip
    usage = Usage(
        input_tokens=100, cached_input_tokens=50, output_tokens=30,
        quantities={"image_input": Decimal(20), "cached_audio_input": Decimal(10), "image_output": Decimal(25)},
    )  # fmt: skip
    # 30 plain, 20 of images, 40 cached, 10 cached of audio; 5 of text, 25 of images
    expected = 30 * 1 + 20 * 2 + 40 * Decimal("0.1") + 10 * Decimal("0.5") + 5 * 10 + 25 * 40
    assert cost_usd(usage, prices) == expected / 1_000_000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=1),
        Usage(output_tokens=1),
        Usage(quantities={"page": Decimal(1)}),
        Usage(quantities={"image:high/1024x1024": Decimal(1)}),
    ],
)
def test_what_has_no_rate_is_unpriced_and_not_free(usage: Usage) -> None:
    prices = PriceList.of({"standard": {"search": "0.01", "image:low/1024x1024": "0.02"}})
    assert cost_usd(usage, prices) is None
    assert ceiling_usd(usage.input_tokens, usage.output_tokens, prices, quantities=usage.quantities) is None


def test_the_dearest_of_the_tiers_that_a_request_allows_is_held() -> None:
    assert ceiling_usd(1_000_000, 0, PLAIN) == Decimal("2.5")
    everything = (Tier.STANDARD, Tier.FLEX, Tier.PRIORITY)
    assert ceiling_usd(1000, 1000, STEPS) == (1 + 12) * Decimal("0.001")
    assert ceiling_usd(1000, 1000, STEPS, tiers=everything) == (3 + 33) * Decimal("0.001")
    assert ceiling_usd(1000, 1000, STEPS, tiers=(Tier.FLEX,)) == (Decimal("0.5") + 5) * Decimal("0.001")
    assert dearest_output_usd_per_mtok(STEPS) == 20
    assert dearest_output_usd_per_mtok(STEPS, tiers=everything) == 60


def test_a_unit_of_unknown_kind_is_held_as_the_dearest() -> None:
    prices = PriceList.of({"standard": {"image:low": "0.01", "image:high": "0.2"}, "batch": {"image:high": "0.1"}})
    for name, held in (("image", "0.6"), ("image:low", "0.03"), ("image:high", "0.6")):
        assert ceiling_usd(0, 0, prices, quantities={name: Decimal(3)}) == Decimal(held)
    assert ceiling_usd(0, 0, prices, tiers=(Tier.BATCH,), quantities={"image": Decimal(3)}) == Decimal("0.3")


def test_a_price_has_one_rate_a_place() -> None:
    with pytest.raises(ValueError, match="one rate"):
        PriceList((Rate(Meter.INPUT, Decimal(1)), Rate(Meter.INPUT, Decimal(2))))


def test_a_price_is_its_rates_in_any_order_and_survives_the_ledgers_json() -> None:
    assert PriceList(tuple(reversed(STEPS.rates))) == STEPS
    for prices in (SONNET, PLAIN, TIERED):
        assert PriceList.of(prices.as_json(Tier.STANDARD)) == prices
    assert STEPS.as_json(Tier.FLEX) == {
        "standard": {"input": "1", "cached_input": "0.1", "output": "10", "reasoning": "12"},
        "standard above 128000": {"input": "2", "output": "20"},
        "standard above 256000": {"input": "4"},
        "flex": {"input": "0.5", "output": "5"},
    }


@pytest.mark.parametrize("band", ["night", "standard above 0", "standard above many", "above 5"])
def test_an_invalid_band_is_refused(band: str) -> None:
    with pytest.raises(ValueError, match="is not a tier"):
        PriceList.of({band: {"input": "1"}})


def test_usages_add_up_meter_by_meter() -> None:
    first = Usage(input_tokens=1, quantities={"search": Decimal(1), "page": Decimal("0.5")})
    second = Usage(output_tokens=2, source=UsageSource.ESTIMATED, quantities={"search": Decimal(2)})
    assert first + second == Usage(
        input_tokens=1,
        output_tokens=2,
        source=UsageSource.ESTIMATED,
        quantities={"search": Decimal(3), "page": Decimal("0.5")},
    )


# --- over all prices and usages --------------------------------------------------------------------------

tokens = st.integers(min_value=0, max_value=2_000_000)
money = st.decimals(min_value=0, max_value=1000, places=6)
old_rates = st.builds(
    OldRates,
    input=money,
    output=money,
    cached_input=st.none() | money,
    cache_write=st.none() | money,
    cache_write_1h=st.none() | money,
    reasoning=st.none() | money,
    audio_input=st.none() | money,
    audio_output=st.none() | money,
)
old_long_rates = st.builds(
    OldRates,
    input=money,
    output=money,
    cached_input=st.none() | money,
    cache_write=st.none() | money,
    cache_write_1h=st.none() | money,
)
old_prices = st.builds(OldPrice, old_rates) | st.builds(
    OldPrice, old_rates, st.integers(min_value=1, max_value=3_000_000), old_long_rates
)
places = st.tuples(
    st.sampled_from(sorted(TOKEN_METERS)), st.sampled_from(Tier), st.sampled_from((0, 128_000, 1_000_000))
)
price_lists = st.dictionaries(places, money, max_size=40).map(
    lambda rates: PriceList(
        tuple(
            Rate(meter, usd, tier=tier, above_input_tokens=above)
            for (meter, tier, above), usd in (
                {(Meter.INPUT, Tier.STANDARD, 0): Decimal(1), (Meter.OUTPUT, Tier.STANDARD, 0): Decimal(2)} | rates
            ).items()
        )
    )
)


@st.composite
def usages(draw: st.DrawFn, *, with_images: bool = True) -> Usage:
    cached, write, audio, plain, image = (draw(tokens) for _ in range(5))
    reasoning, audio_out, text, image_out = (draw(tokens) for _ in range(4))
    if not with_images:
        image = image_out = 0
    parts = {"image_input": image, "image_output": image_out, "cached_audio_input": image and cached // 2}
    return Usage(
        input_tokens=cached + write + audio + plain + image,
        cached_input_tokens=cached,
        cache_write_tokens=write,
        cache_write_1h_tokens=draw(st.integers(min_value=0, max_value=write)),
        audio_input_tokens=audio,
        output_tokens=reasoning + audio_out + text + image_out,
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_out,
        quantities={name: Decimal(amount) for name, amount in parts.items() if amount},
    )


@given(usages(with_images=False), old_prices)
def test_what_the_first_version_charged_comes_out_to_the_last_digit(usage: Usage, price: OldPrice) -> None:
    assert cost_usd(usage, as_rates(price)) == old_cost_usd(usage, price)


@given(usages(), price_lists, st.sets(st.sampled_from(Tier), min_size=1), st.tuples(tokens, tokens))
def test_no_usage_within_its_bounds_costs_more_than_the_ceiling(
    usage: Usage, prices: PriceList, tiers: set[Tier], more: tuple[int, int]
) -> None:
    ceiling = ceiling_usd(usage.input_tokens + more[0], usage.output_tokens + more[1], prices, tiers=tiers)
    assert ceiling is not None
    for tier in tiers:
        cost = cost_usd(usage, prices, tier=tier)
        assert cost is not None
        assert cost <= ceiling
        output = usd(prices, Meter.OUTPUT, tier, usage.input_tokens)
        assert output is not None
        assert dearest_output_usd_per_mtok(prices, tiers=tiers) >= output
