"""The arithmetic of the first version, unchanged. The new one must reproduce its charges to the last digit."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal

from accounting.pricing import PriceList
from accounting.usage import Usage

PLACES = Decimal("0.000000000001")


@dataclass(frozen=True)
class OldRates:
    """USD per million tokens, as the columns of a price had them."""

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    audio_input: Decimal | None = None
    audio_output: Decimal | None = None


@dataclass(frozen=True)
class OldPrice:
    """The long context has no own rates for reasoning and audio, because the table had no such columns."""

    base: OldRates
    above: int | None = None
    long: OldRates | None = None


def old_cost_usd(usage: Usage, price: OldPrice) -> Decimal:
    is_long = price.long is not None and price.above is not None and usage.input_tokens > price.above
    rates = price.long if is_long and price.long is not None else price.base
    write_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    plain_input = max(
        0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens - usage.audio_input_tokens
    )
    plain_output = max(0, usage.output_tokens - usage.reasoning_tokens - usage.audio_output_tokens)
    write = _or(rates.cache_write, rates.input)
    audio_input, audio_output = price.base.audio_input, price.base.audio_output
    total = (
        plain_input * rates.input
        + usage.cached_input_tokens * _or(rates.cached_input, rates.input)
        + (usage.cache_write_tokens - write_1h) * write
        + write_1h * _or(rates.cache_write_1h, write)
        + usage.audio_input_tokens * _or(audio_input, rates.input)
        + plain_output * rates.output
        + usage.reasoning_tokens * _or(rates.reasoning, rates.output)
        + usage.audio_output_tokens * _or(audio_output, rates.output)
    )
    return (total / 1_000_000).quantize(PLACES, ROUND_HALF_EVEN)


def _or(rate: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if rate is None else rate


def as_rates(price: OldPrice) -> PriceList:
    """The price as rates: what migration 0008 makes of its row."""
    bands = {"standard": {name: f"{usd}" for name, usd in _said(price.base).items()}}
    if price.long is not None and price.above is not None:
        base, long = _said(price.base), _said(price.long)
        for name, other in (("cached_input", "input"), ("cache_write", "input"), ("cache_write_1h", "cache_write")):
            if name in base and name not in long:
                long[name] = long.get(other, long["input"])
        bands[f"standard above {price.above}"] = {name: f"{usd}" for name, usd in long.items()}
    return PriceList.of(bands)


def _said(rates: OldRates) -> dict[str, Decimal]:
    values = {field.name: getattr(rates, field.name) for field in fields(rates)}
    return {name: usd for name, usd in values.items() if usd is not None}


def columns(price: OldPrice) -> dict[str, Decimal | int | None]:
    """The row of the old table."""
    row: dict[str, Decimal | int | None] = {
        f"{field.name}_usd_per_mtok": getattr(price.base, field.name) for field in fields(OldRates)
    }
    row["long_context_above_tokens"] = price.above
    for name in ("input", "output", "cached_input", "cache_write", "cache_write_1h"):
        row[f"long_{name}_usd_per_mtok"] = None if price.long is None else getattr(price.long, name)
    return row


def random_price(chance: random.Random) -> OldPrice:
    def rate() -> Decimal:
        places = chance.choice((0, 2, 6, 12))
        return Decimal(chance.randrange(chance.choice((2, 1000)) * 10**places)).scaleb(-places)

    def perhaps() -> Decimal | None:
        return rate() if chance.random() < 0.5 else None

    base = OldRates(rate(), rate(), *(perhaps() for _ in range(6)))
    if chance.random() < 0.4:
        return OldPrice(base)
    long = OldRates(rate(), rate(), *(perhaps() for _ in range(3)))
    return OldPrice(base, chance.choice((1, 128_000, 200_000, 271_999)), long)


def random_usage(chance: random.Random) -> Usage:
    def tokens() -> int:
        return chance.choice((0, 1, chance.randrange(1000), chance.randrange(300_000)))

    cached, write, audio, reasoning, audio_out = (tokens() for _ in range(5))
    return Usage(
        # At times fewer than their parts.
        input_tokens=max(0, cached + write + audio + tokens() - chance.choice((0, 0, 50))),
        cached_input_tokens=cached,
        cache_write_tokens=write,
        cache_write_1h_tokens=chance.choice((0, write, write // 3)),
        audio_input_tokens=audio,
        output_tokens=reasoning + audio_out + tokens(),
        reasoning_tokens=reasoning,
        audio_output_tokens=audio_out,
    )
