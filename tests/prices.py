"""Prices in one line, for tests of prices and of their effects."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from accounting.models import Price
from accounting.pricing import PriceList
from accounting.usage import Meter, Tier

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def add_price(
    provider: str, model: str, effective_from: datetime = LONG_AGO, *, source: str = "operator", **standard: str
) -> Price:
    """A price of the standard tier: ``input="3", output="15", cached_input="0.3"``."""
    return Price.objects.add(provider, model, effective_from, PriceList.of({"standard": standard}), source)


def set_rate(price: Price, usd: str, meter: Meter = Meter.INPUT) -> None:
    """Change a price that is in force, as only a test may."""
    price.rates.filter(meter=meter, tier=Tier.STANDARD, above_input_tokens=0).update(usd_per_unit=Decimal(usd))


def rate(
    price: Price, meter: Meter = Meter.INPUT, tier: Tier = Tier.STANDARD, above: int = 0, qualifier: str = ""
) -> Decimal | None:
    """The rate on record, without fallbacks."""
    found = price.rates.filter(meter=meter, tier=tier, above_input_tokens=above, qualifier=qualifier).first()
    return None if found is None else found.usd_per_unit
