"""What is offered under an alias, as far as its clients may know it: kind, limits, prices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounting.pricing import PriceList
from accounting.usage import Meter, Tier
from routing.catalog import Alias, Catalog, Step
from routing.upstreams.kinds import Kind, kind_of, paths_of
from routing.upstreams.price_map import limits_of


@dataclass(frozen=True, slots=True)
class Offer:
    """An alias's own deployments, seen as one: the least of their limits and the dearest of their prices, so that who
    plans with them is right whichever deployment answers. Fallbacks are not counted. None: nobody knows."""

    alias: str
    created_at: datetime | None
    kind: Kind | None
    paths: tuple[str, ...]
    context_window: int | None  # the most tokens that are read
    max_output_tokens: int | None
    input_usd_per_mtok: Decimal | None
    output_usd_per_mtok: Decimal | None

    @classmethod
    def of(cls, alias: Alias, snapshot: Catalog, now: datetime) -> Offer:
        steps = serving(alias)
        kinds = tuple(dict.fromkeys(kind for step in steps if (kind := _kind_of(step)) is not None))
        limits = [limits_of(step.provider.litellm_provider, step.deployment.model) for step in steps]
        prices = [snapshot.price(step.provider.name, step.deployment.model, now) for step in steps]
        return cls(
            alias=alias.name,
            created_at=alias.created_at,
            kind=kinds[0] if kinds else None,
            paths=tuple(dict.fromkeys(path for kind in kinds or (None,) for path in paths_of(kind, alias.name))),
            context_window=_least(most_input for _, most_input in limits),
            max_output_tokens=_least(most_output for most_output, _ in limits),
            input_usd_per_mtok=_dearest(prices, Meter.INPUT),
            output_usd_per_mtok=_dearest(prices, Meter.OUTPUT),
        )


def serving(alias: Alias) -> tuple[Step, ...]:
    """The alias's own deployments at enabled providers."""
    return tuple(step for step in alias.own if step.provider.enabled)


def _kind_of(step: Step) -> Kind | None:
    return kind_of(step.deployment.litellm_provider, step.deployment.model)


def _least(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _dearest(prices: Iterable[PriceList | None], meter: Meter) -> Decimal | None:
    """None also when a single deployment has no price: it may be the dearest."""
    usd = [None if price is None else price.rates_of(Tier.STANDARD, 0).get(meter) for price in prices]
    known = [amount for amount in usd if amount is not None]
    return max(known) if known and len(known) == len(usd) else None
