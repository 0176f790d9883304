"""The ceiling of a step: the most that it may consume, and what that costs. The only place that prices a bound."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from accounting.budgets import BudgetRule
from accounting.models import BudgetMode
from accounting.pricing import PriceList, ceiling_usd, dearest_output_usd_per_mtok
from accounting.rates import RateLimits
from accounting.record import record
from accounting.usage import Meter, split_quantity_name
from routing.catalog import Step
from routing.serving.call import LEAST_OUTPUT_CAP_TOKENS, Call, CappedBy, Quantities, Unbounded
from routing.upstreams import tiers

#: What a model makes that is billed by the piece. A price of these alone, beside tokens at 0, is not a free model.
MADE: Final = frozenset({Meter.IMAGE, Meter.OUTPUT_SECOND, Meter.OUTPUT_CHARACTER})

#: A request that asks for a dearer tier holds for at least so many tokens of input, however short its text is. What
#: a provider adds to a prompt is not documented, and there each token of it may cost twice as much as elsewhere.
LEAST_INPUT_TOKENS_IN_A_DEARER_TIER: Final = 1_024

#: So many requests whose clients set no output cap run at once under a hard budget, however small it is.
AT_ONCE: Final = 20


@record(frozen=True, slots=True)
class Room:
    """What one request may hold when its client has set no output cap. None: as much as the model can say."""

    usd: Decimal | None = None
    tokens: int | None = None  # input and output together
    minute_tokens: int | None = None  # all that the key has in a minute, so that no request may be larger

    @classmethod
    def under(cls, budgets: Iterable[BudgetRule], limits: RateLimits) -> Room:
        """A share of the smallest hard budget, and of the tokens that the key has in a minute."""
        usd = min((rule.limit_usd / AT_ONCE for rule in budgets if rule.mode == BudgetMode.HARD), default=None)
        tokens = None if limits.tokens_per_minute is None else limits.tokens_per_minute // AT_ONCE
        return cls(usd, tokens, limits.tokens_per_minute)

    def within(self, left_usd: Decimal | None) -> Room:
        """The room when no more is left than that. None: all of it."""
        return self if left_usd is None else replace(self, usd=left_usd)

    def output_cap(self, most: Quantities, price: PriceList | None) -> int:
        """The model's maximum, narrowed to the room; but not below what an ordinary answer needs."""
        cap = most.output_cap_tokens
        if self.tokens is not None:
            cap = min(cap, _output_cap_of(self.tokens, most))
        if self.usd is not None and price is not None:
            fits = _output_cap_within(self.usd, most, price)
            cap = cap if fits is None else min(cap, fits)
        cap = max(cap, min(LEAST_OUTPUT_CAP_TOKENS, most.output_cap_tokens))
        if self.minute_tokens is not None:  # no cap of ours makes a request one that can never be admitted
            cap = min(cap, max(1, _output_cap_of(self.minute_tokens, most)))
        return cap


@record(frozen=True, slots=True)
class Ceiling:
    """``hold_usd`` is None when the step has no price. With ``unbounded`` it covers everything else."""

    most: Quantities
    price: PriceList | None
    hold_usd: Decimal | None
    unbounded: Unbounded | None = None

    @classmethod
    def of(cls, call: Call, step: Step, price: PriceList | None, room: Room) -> Ceiling:
        unbounded: Unbounded | None = None
        try:
            most = call.ceiling(step)
        except Unbounded as error:
            most, unbounded = error.bounded, error
        if most.tier in tiers.DEARER and tiers.is_priced_apart(step.provider.litellm_provider, most.tier):
            most = replace(most, input_tokens=max(most.input_tokens, LEAST_INPUT_TOKENS_IN_A_DEARER_TIER))
        if most.capped_by is CappedBy.MODEL:
            most = replace(most, output_cap_tokens=room.output_cap(most, price))
        if price is None:
            return cls(most, None, None, unbounded)
        return cls(most, price, _hold_usd(most, most.output_tokens, price), unbounded or _unpriced(most, step, price))

    def output_cap_of(self, tokens: int) -> int | None:
        """The largest output cap with which the request has at most so many tokens; None when its input has more."""
        fits = 0 if self.most.capped_by is CappedBy.NOBODY else _output_cap_of(tokens, self.most)
        return fits if fits >= 1 else None

    def output_cap_within(self, room_usd: Decimal) -> int | None:
        """The largest output cap whose ceiling is within ``room_usd``; None when even one token costs more."""
        if self.price is None or self.most.capped_by is CappedBy.NOBODY:
            return None
        tokens = _output_cap_within(room_usd, self.most, self.price)
        return tokens if tokens is not None and tokens >= 1 else None


def _output_cap_of(tokens: int, most: Quantities) -> int:
    """The output cap with which the request has so many tokens, which may be below 0."""
    return (tokens - most.input_tokens) // most.answers - most.predicted_tokens


def _output_cap_within(room_usd: Decimal, most: Quantities, price: PriceList) -> int | None:
    """None: output costs nothing, or nobody knows what the input costs."""
    rate = dearest_output_usd_per_mtok(price, tiers=most.tiers, input_tokens=most.input_tokens)
    input_usd = _hold_usd(most, 0, price)
    if rate == 0 or input_usd is None:
        return None
    return math.floor((room_usd - input_usd) * 1_000_000 / rate / most.answers) - most.predicted_tokens


def _hold_usd(most: Quantities, output_tokens: int, price: PriceList) -> Decimal | None:
    # What has no rate has been refused where it must be, and is not known elsewhere.
    units = {
        name: n for name, n in most.units.items() if any(r.meter is split_quantity_name(name)[0] for r in price.rates)
    }
    return ceiling_usd(most.input_tokens, output_tokens, price, tiers=most.tiers, quantities=units)


def _unpriced(most: Quantities, step: Step, price: PriceList) -> Unbounded | None:
    """What the request asks for by name, and what has a price of its own that nobody has said."""
    tier = most.tier
    if most.tiers == tiers.ALL:
        return Unbounded("service_tier", "nobody knows what a tier of this name costs", most)
    is_dearer = tier in tiers.DEARER and tiers.is_priced_apart(step.provider.litellm_provider, tier)
    if is_dearer and all(rate.tier is not tier for rate in price.rates):
        param = "speed" if step.provider.litellm_provider == "anthropic" else "service_tier"  # its fast mode
        return Unbounded(param, f"{step.deployment.model} has no price in the tier '{tier}'", most)
    made = None if any(rate.meter.is_tokens and rate.usd_per_unit for rate in price.rates) else _made(most, price)
    if made is not None:
        return Unbounded("model", f"{step.deployment.model} is billed by the {made}, and nobody knows how many", most)
    if most.endless is not None and any(rate.meter is Meter.OUTPUT and rate.usd_per_unit for rate in price.rates):
        return Unbounded(*most.endless, most)
    own = {rate.meter for rate in price.rates} if most.needs else set()
    for param, meter in most.needs.items():
        if meter not in own:
            return Unbounded(param, f"{step.deployment.model} has no price of '{meter.value.replace('_', ' ')}'", most)
    return None


def _made(most: Quantities, price: PriceList) -> str | None:
    """What a model that takes nothing for its tokens makes, when it is billed by that and the request bounds no number
    of it. None: it costs nothing, or its cost is bounded."""
    bounded = {split_quantity_name(name)[0] for name in most.units}
    billed = (rate.meter for rate in price.rates if rate.meter in MADE and rate.usd_per_unit)
    return next((meter.value.replace("_", " ") for meter in billed if meter not in bounded), None)
