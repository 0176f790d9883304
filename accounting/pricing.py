"""Usage times price is cost. Pure: no database, no clock; Decimal throughout.

Money is exact: rates are decimal dollars per million tokens, and only the sum of a request is rounded, half to even,
to the twelve places that the ledger's NUMERIC(20,12) keeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any

from accounting.money import plain_usd
from accounting.usage import Usage

PLACES = Decimal("0.000000000001")
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens of each class. None: the class has no price of its own and costs what its comment says."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None  # as input
    cache_write_usd_per_mtok: Decimal | None = None  # as input
    cache_write_1h_usd_per_mtok: Decimal | None = None  # as cache writes
    reasoning_usd_per_mtok: Decimal | None = None  # as output
    audio_input_usd_per_mtok: Decimal | None = None  # as input
    audio_output_usd_per_mtok: Decimal | None = None  # as output

    @property
    def dearest_input(self) -> Decimal:
        of_input = (
            self.cached_input_usd_per_mtok,
            self.cache_write_usd_per_mtok,
            self.cache_write_1h_usd_per_mtok,
            self.audio_input_usd_per_mtok,
        )
        return max(self.input_usd_per_mtok, *(rate for rate in of_input if rate is not None), Decimal(0))

    @property
    def dearest_output(self) -> Decimal:
        of_output = (self.reasoning_usd_per_mtok, self.audio_output_usd_per_mtok)
        return max(self.output_usd_per_mtok, *(rate for rate in of_output if rate is not None), Decimal(0))


@dataclass(frozen=True, slots=True)
class PriceList:
    """What a model costs. With more than ``long_context_above_tokens`` input tokens (cached ones counted), the whole
    request, output included, costs the ``long_context`` rates: so Google and Anthropic bill it."""

    base: Rates
    long_context_above_tokens: int | None = None
    long_context: Rates | None = None

    def rates(self, input_tokens: int) -> Rates:
        """The rates of a request with that many input tokens."""
        if self.long_context is not None and self.long_context_above_tokens is not None:
            return self.long_context if input_tokens > self.long_context_above_tokens else self.base
        return self.base

    def as_json(self) -> dict[str, Any]:
        """For the ledger's row. Decimals as text, so that they come back as they went."""
        value: dict[str, Any] = {"base": _rates_json(self.base)}
        if self.long_context is not None:
            value["long_context_above_tokens"] = self.long_context_above_tokens
            value["long_context"] = _rates_json(self.long_context)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PriceList:
        long_context = value.get("long_context")
        return cls(
            base=_rates_from_json(value["base"]),
            long_context_above_tokens=value.get("long_context_above_tokens"),
            long_context=None if long_context is None else _rates_from_json(long_context),
        )

    @classmethod
    def from_litellm(cls, entry: Mapping[str, Any]) -> PriceList | None:
        """The price list in an entry of litellm's price map (``model_prices_and_context_window.json``), whose prices
        are floats a token. None when it has no price a token. Of several long-context tiers the lowest is taken."""
        base = _litellm_rates(entry, "", None)
        if base is None:
            return None
        tiers = sorted(
            int(found.group(1))
            for name in entry
            if (found := re.fullmatch(r"input_cost_per_token_above_(\d+)k_tokens", name)) and entry[name] is not None
        )
        if not tiers:
            return cls(base=base)
        long_context = _litellm_rates(entry, f"_above_{tiers[0]}k_tokens", base)
        return cls(base=base, long_context_above_tokens=tiers[0] * 1000, long_context=long_context)


def cost_usd(usage: Usage, prices: PriceList) -> Decimal:
    """What the usage costs, to twelve places, half to even."""
    return _cost_per_million(usage, prices.rates(usage.input_tokens)).quantize(PLACES, ROUND_HALF_EVEN)


def ceiling_usd(input_tokens: int, output_tokens: int, prices: PriceList) -> Decimal:
    """No usage within these totals costs more. Rounded up to twelve places."""
    possible = [prices.base]
    if prices.long_context is not None and input_tokens > (prices.long_context_above_tokens or 0):
        possible.append(prices.long_context)
    dearest = max(r.dearest_input * input_tokens + r.dearest_output * output_tokens for r in possible)
    return (dearest / MILLION).quantize(PLACES, ROUND_CEILING)


def dearest_output_usd_per_mtok(prices: PriceList) -> Decimal:
    """The highest rate that an output token could cost."""
    if prices.long_context is None:
        return prices.base.dearest_output
    return max(prices.base.dearest_output, prices.long_context.dearest_output)


def _cost_per_million(usage: Usage, rates: Rates) -> Decimal:
    write_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    # Classes are parts of the totals. A provider whose parts exceed its total is believed in the parts.
    plain_input = max(
        0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens - usage.audio_input_tokens
    )
    plain_output = max(0, usage.output_tokens - usage.reasoning_tokens - usage.audio_output_tokens)
    as_input, as_output = rates.input_usd_per_mtok, rates.output_usd_per_mtok
    write = _or(rates.cache_write_usd_per_mtok, as_input)
    total = (
        plain_input * as_input
        + usage.cached_input_tokens * _or(rates.cached_input_usd_per_mtok, as_input)
        + (usage.cache_write_tokens - write_1h) * write
        + write_1h * _or(rates.cache_write_1h_usd_per_mtok, write)
        + usage.audio_input_tokens * _or(rates.audio_input_usd_per_mtok, as_input)
        + plain_output * as_output
        + usage.reasoning_tokens * _or(rates.reasoning_usd_per_mtok, as_output)
        + usage.audio_output_tokens * _or(rates.audio_output_usd_per_mtok, as_output)
    )
    return total / MILLION


def _or(rate: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if rate is None else rate


_LITELLM_NAMES = {
    "input_usd_per_mtok": "input_cost_per_token",
    "output_usd_per_mtok": "output_cost_per_token",
    "cached_input_usd_per_mtok": "cache_read_input_token_cost",
    "cache_write_usd_per_mtok": "cache_creation_input_token_cost",
    "cache_write_1h_usd_per_mtok": "cache_creation_input_token_cost_above_1hr",
    "reasoning_usd_per_mtok": "output_cost_per_reasoning_token",
    "audio_input_usd_per_mtok": "input_cost_per_audio_token",
    "audio_output_usd_per_mtok": "output_cost_per_audio_token",
}


def litellm_costs(prices: PriceList) -> dict[str, Decimal]:
    """The price list under litellm's names, still in USD per *million* tokens."""
    tiers = [("", prices.base)]
    if prices.long_context is not None and prices.long_context_above_tokens is not None:
        tiers.append((f"_above_{prices.long_context_above_tokens // 1000}k_tokens", prices.long_context))
    return {
        theirs + suffix: rate
        for suffix, rates in tiers
        for ours, theirs in _LITELLM_NAMES.items()
        if (rate := getattr(rates, ours)) is not None and _is_named(theirs, suffix)
    }


def _is_named(name: str, suffix: str) -> bool:
    """litellm's map has tiers of input, output and cache, and of nothing else."""
    return not suffix or name in (
        "input_cost_per_token",
        "output_cost_per_token",
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost",
    )


def _litellm_rates(entry: Mapping[str, Any], suffix: str, base: Rates | None) -> Rates | None:
    """The rates with a suffix; a class that the tier does not name costs what it costs in the base."""
    values: dict[str, Decimal | None] = {}
    for ours, theirs in _LITELLM_NAMES.items():
        price = entry.get(theirs + suffix)
        values[ours] = getattr(base, ours) if price is None and base is not None else _per_million(price)
    if values["input_usd_per_mtok"] is None or values["output_usd_per_mtok"] is None:
        return None
    return Rates(**values)  # type: ignore[arg-type]  # the two that must be there were just looked at


def _per_million(per_token: Any) -> Decimal | None:
    """3e-06 a token → exactly 3 a million: the shortest text of the float is what its author wrote."""
    return None if per_token is None else Decimal(str(per_token)) * MILLION


def _rates_json(rates: Rates) -> dict[str, str]:
    values = {field.name: getattr(rates, field.name) for field in fields(rates)}
    return {name: plain_usd(value) for name, value in values.items() if value is not None}


def _rates_from_json(value: Mapping[str, str]) -> Rates:
    return Rates(**{name: Decimal(text) for name, text in value.items()})
