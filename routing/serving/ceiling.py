"""The ceiling of a step: the most that it may consume, and what that costs. The only place that prices a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from accounting.pricing import PriceList, ceiling_usd, dearest_output_usd_per_mtok
from accounting.usage import Tier, split_quantity_name
from routing.catalog import Step
from routing.serving.call import Call, Quantities, Unbounded
from routing.upstreams.tiers import is_priced_apart


@dataclass(frozen=True, slots=True)
class Ceiling:
    """``hold_usd`` is None when the step has no price. With ``unbounded`` it covers everything else."""

    most: Quantities
    price: PriceList | None
    hold_usd: Decimal | None
    unbounded: Unbounded | None = None

    @classmethod
    def of(cls, call: Call, step: Step, price: PriceList | None) -> Ceiling:
        unbounded: Unbounded | None = None
        try:
            most = call.ceiling(step)
        except Unbounded as error:
            most, unbounded = error.bounded, error
        if price is None:
            return cls(most, None, None, unbounded)
        return cls(most, price, _hold_usd(most, most.output_tokens, price), unbounded or _unpriced(most, step, price))

    def output_cap_within(self, room_usd: Decimal) -> int | None:
        """The largest output cap whose ceiling is within ``room_usd``; None when even one token costs more."""
        if self.price is None:
            return None
        rate = dearest_output_usd_per_mtok(self.price, tiers=self.most.tiers)
        if rate == 0:
            return None
        input_usd = _hold_usd(self.most, 0, self.price)
        if input_usd is None:
            return None
        tokens = math.floor((room_usd - input_usd) * 1_000_000 / rate / self.most.answers) - self.most.predicted_tokens
        return tokens if tokens >= 1 else None


def _hold_usd(most: Quantities, output_tokens: int, price: PriceList) -> Decimal | None:
    # What has no rate has been refused where it must be, and is not known elsewhere.
    units = {
        name: n for name, n in most.units.items() if any(r.meter is split_quantity_name(name)[0] for r in price.rates)
    }
    return ceiling_usd(most.input_tokens, output_tokens, price, tiers=most.tiers, quantities=units)


def _unpriced(most: Quantities, step: Step, price: PriceList) -> Unbounded | None:
    """What the request asks for by name, and what has a price of its own that nobody has said."""
    tier = most.tier
    is_dearer = tier is Tier.PRIORITY and is_priced_apart(step.provider.litellm_provider, tier)
    if is_dearer and all(rate.tier is not tier for rate in price.rates):
        return Unbounded("service_tier", f"{step.deployment.model} has no price in the tier '{tier}'", most)
    own = {rate.meter for rate in price.rates} if most.needs else set()
    for param, meter in most.needs.items():
        if meter not in own:
            return Unbounded(param, f"{step.deployment.model} has no price of '{meter.value.replace('_', ' ')}'", most)
    return None
