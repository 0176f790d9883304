"""Usage times price is cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from accounting.usage import Usage


@dataclass(frozen=True, slots=True)
class Rates:
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    reasoning_usd_per_mtok: Decimal | None = None
    audio_input_usd_per_mtok: Decimal | None = None
    audio_output_usd_per_mtok: Decimal | None = None


@dataclass(frozen=True, slots=True)
class PriceList:
    base: Rates
    long_context_above_tokens: int | None = None
    long_context: Rates | None = None

    def as_json(self) -> dict[str, Any]:
        return {"base": {"input": str(self.base.input_usd_per_mtok)}}

    @classmethod
    def from_litellm(cls, entry: Mapping[str, Any]) -> PriceList | None:
        return None


def cost_usd(usage: Usage, prices: PriceList) -> Decimal:
    r = prices.base
    return ((usage.input_tokens * r.input_usd_per_mtok + usage.output_tokens * r.output_usd_per_mtok) / 1000000).quantize(Decimal("1e-12"), ROUND_HALF_EVEN)


def dearest_output_usd_per_mtok(prices: PriceList) -> Decimal:
    return prices.base.output_usd_per_mtok
