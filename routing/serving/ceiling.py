"""The ceiling of a step: the most that it may consume, and what that costs. The only place that prices a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from accounting.pricing import PriceList, ceiling_usd, dearest_output_usd_per_mtok
from routing.serving.call import Quantities


@dataclass(frozen=True, slots=True)
class Ceiling:
    """``hold_usd`` is None when the step has no price."""

    most: Quantities
    price: PriceList | None
    hold_usd: Decimal | None

    @classmethod
    def of(cls, most: Quantities, price: PriceList | None) -> Ceiling:
        return cls(most, price, None if price is None else ceiling_usd(most.input_tokens, most.output_tokens, price))

    def output_cap_within(self, room_usd: Decimal) -> int | None:
        """The largest output cap whose ceiling is within ``room_usd``; None when even one token costs more."""
        if self.price is None:
            return None
        rate = dearest_output_usd_per_mtok(self.price)
        if rate == 0:
            return None
        input_usd = ceiling_usd(self.most.input_tokens, 0, self.price)
        if input_usd is None:
            return None
        tokens = math.floor((room_usd - input_usd) * 1_000_000 / rate / self.most.answers)
        return tokens if tokens >= 1 else None
