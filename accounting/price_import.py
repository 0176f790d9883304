"""Prices from a list, such as litellm's price map: first the difference, then new rows effective from now.

A price on record is never edited: what entries were charged stays explained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction

from accounting.models import Price
from accounting.money import plain_usd
from accounting.pricing import PriceList


@dataclass(frozen=True, slots=True)
class PriceChange:
    """What an import would write for one model: ``before`` None when nobody had said what it costs."""

    provider: str
    model: str
    before: PriceList | None
    after: PriceList


def changes(offered: Iterable[tuple[str, str, PriceList]], at: datetime | None = None) -> list[PriceChange]:
    """The offered prices (provider, model, price) that differ from those in force. Nothing is written."""
    now = at or datetime.now(UTC)
    found = []
    for provider, model, prices in offered:
        after = prices.rounded()  # as it will be read back
        row = Price.objects.filter(provider=provider, model=model).in_force(now).first()
        before = row.price_list() if row else None
        if before != after:
            found.append(PriceChange(provider, model, before, after))
    return found


@transaction.atomic
def apply(found: Iterable[PriceChange], source: str, at: datetime | None = None) -> list[Price]:
    """Write the changes, effective from now. The rows written."""
    now = at or datetime.now(UTC)
    return [Price.objects.add(change.provider, change.model, now, change.after, source) for change in found]


def differences(change: PriceChange) -> list[str]:
    """The change in words, a line a rate: ``cached input 1.5 → 1.25``."""
    before = {} if change.before is None else _flat(change.before)
    after = _flat(change.after)
    return [
        f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _flat(prices: PriceList) -> dict[str, str]:
    return {rate.words: plain_usd(rate.usd_per_unit) for rate in prices.rates}
