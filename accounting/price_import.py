"""Prices from a list, such as litellm's price map: first the difference, then new rows effective from now.

A price on record is never edited: what entries were charged stays explained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from django.db import transaction

from accounting.models import Price
from accounting.pricing import PLACES, PriceList, Rates


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
        after = Price(**price_columns(prices)).price_list()  # as it will be read back
        row = (
            Price.objects.filter(provider=provider, model=model, effective_from__lte=now)
            .order_by("-effective_from")
            .first()
        )
        before = row.price_list() if row else None
        if before != after:
            found.append(PriceChange(provider, model, before, after))
    return found


@transaction.atomic
def apply(found: Iterable[PriceChange], source: str, at: datetime | None = None) -> list[Price]:
    """Write the changes, effective from now. The rows written."""
    now = at or datetime.now(UTC)
    return [
        Price.objects.create(
            provider=change.provider,
            model=change.model,
            effective_from=now,
            source=source,
            **price_columns(change.after),
        )
        for change in found
    ]


def price_columns(prices: PriceList) -> dict[str, Decimal | int | None]:
    """The columns of a Price with these rates, to the places that they keep: else what was written would never equal
    what was offered. Long-context rates of reasoning and audio are those of the base."""
    base, long_context = prices.base, prices.long_context
    columns: dict[str, Decimal | int | None] = {field.name: getattr(base, field.name) for field in fields(Rates)}
    columns["long_context_above_tokens"] = prices.long_context_above_tokens
    for name in ("input", "output", "cached_input", "cache_write", "cache_write_1h"):
        rate = None if long_context is None else getattr(long_context, f"{name}_usd_per_mtok")
        columns[f"long_{name}_usd_per_mtok"] = rate
    return {
        name: value.quantize(PLACES, ROUND_HALF_EVEN) if isinstance(value, Decimal) else value
        for name, value in columns.items()
    }


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
    value = prices.as_json()
    flat = {_words(name): rate for name, rate in value["base"].items()}
    if "long_context" in value:
        above = value["long_context_above_tokens"]
        flat |= {f"{_words(name)} above {above} tokens": rate for name, rate in value["long_context"].items()}
    return flat


def _words(column: str) -> str:
    return column.removesuffix("_usd_per_mtok").replace("_", " ")
