"""The ceiling of a step: the most that it may consume, and what that costs. The only place that prices a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from accounting.pricing import PriceList, ceiling_usd, dearest_output_usd_per_mtok
from routing.serving.call import Quantities


@dataclass(frozen=True, slots=True)
class Ceiling:
    """``hold_usd`` is None when nobody has said what the step costs."""

    most: Quantities
    price: PriceList | None
    hold_usd: Decimal | None

    @classmethod
    def of(cls, most: Quantities, price: PriceList | None) -> Ceiling:
        if price is None:
            return cls(most, None, None)
        return cls(most, price, ceiling_usd(most.input_tokens, most.output_tokens, price, tiers=most.tiers))

    def output_cap_within(self, room_usd: Decimal) -> int | None:
        """The largest output cap whose ceiling is within this; None when one token is too much already."""
        if self.price is None:
            return None
        rate = dearest_output_usd_per_mtok(self.price, tiers=self.most.tiers)
        if rate == 0:
            return None
        input_usd = ceiling_usd(self.most.input_tokens, 0, self.price, tiers=self.most.tiers)
        if input_usd is None:
            return None
        tokens = math.floor((room_usd - input_usd) * 1_000_000 / rate / self.most.answers)
        return tokens if tokens >= 1 else None
