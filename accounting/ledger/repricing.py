"""Correct entries that were charged at a wrong price: one adjustment an entry, by a named operator, never an edit.

First correct the price itself (a row of ``Price`` effective from when it should have applied); then reprice. An
entry's new cost is that of its attempts' recorded usage at the prices now on record for the time it was admitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import Sum

from accounting.ledger.corrections import adjust
from accounting.models import Attempt, EntryState, LedgerEntry, Price
from accounting.pricing import PriceList, cost_usd
from accounting.usage import Tier, Usage, UsageSource

BATCH = 500  # entries read at a time: a ledger does not fit into memory

Prices = Mapping[tuple[str, str], Sequence[tuple[datetime, PriceList]]]


@dataclass(frozen=True, slots=True)
class Repricing:
    """What an entry is charged now, adjustments included (None: unpriced), and what it should be."""

    entry_id: UUID
    request_id: str
    created_at: datetime
    charged_usd: Decimal | None
    should_be_usd: Decimal

    @property
    def difference_usd(self) -> Decimal:
        return self.should_be_usd - (self.charged_usd or Decimal(0))


def differences(provider: str, model: str, since: datetime, until: datetime | None) -> Iterator[Repricing]:
    """Posted entries with an attempt at this deployment, admitted in ``[since, until)``, whose cost is not what today's
    prices for that time come to. Nothing is written."""
    prices = Price.objects.dated()
    entries = LedgerEntry.objects.filter(
        state=EntryState.POSTED,
        resolved_by="",  # an operator took these from the provider's bill
        created_at__gte=since,
        attempts__provider=provider,
        attempts__model=model,
    ).distinct()
    if until is not None:
        entries = entries.filter(created_at__lt=until)
    for entry in entries.order_by("created_at", "id").prefetch_related("attempts").iterator(chunk_size=BATCH):
        should_be = _should_be(entry, prices)
        if should_be is None:
            continue
        adjusted = entry.adjustments.aggregate(total=Sum("amount_usd"))["total"]
        charged = entry.cost_usd if adjusted is None else (entry.cost_usd or Decimal(0)) + adjusted
        if charged != should_be:
            yield Repricing(entry.pk, entry.request_id, entry.created_at, charged, should_be)


def apply(repricing: Repricing, *, author: str, reason: str) -> None:
    """Adjust the entry by the difference. Raises what ``corrections.adjust`` raises, so NotCorrectable when the entry
    does not cost ``charged_usd`` any more: two repricings at once correct it once."""
    adjust(
        repricing.entry_id,
        amount_usd=repricing.difference_usd,
        author=author,
        reason=reason,
        seen_total_usd=repricing.charged_usd or Decimal(0),
    )


def _should_be(entry: LedgerEntry, prices: Prices) -> Decimal | None:
    """The sum over the entry's attempts, in the tier and quantities on record; None when one of them has no price."""
    total = Decimal(0)
    for attempt in entry.attempts.all():
        if attempt.usage_source == UsageSource.NONE:
            continue
        dated = prices.get((attempt.provider, attempt.model), ())
        price = next((price for since, price in dated if since <= entry.created_at), None)
        if price is None:
            return None
        cost = cost_usd(_usage(attempt), price, tier=Tier(attempt.tier))
        if cost is None:
            return None
        total += cost
    return total


def _usage(attempt: Attempt) -> Usage:
    return Usage(
        input_tokens=attempt.input_tokens,
        cached_input_tokens=attempt.cached_input_tokens,
        cache_write_tokens=attempt.cache_write_tokens,
        cache_write_1h_tokens=attempt.cache_write_1h_tokens,
        audio_input_tokens=attempt.audio_input_tokens,
        output_tokens=attempt.output_tokens,
        reasoning_tokens=attempt.reasoning_tokens,
        audio_output_tokens=attempt.audio_output_tokens,
        source=UsageSource(attempt.usage_source),
        quantities={name: Decimal(amount) for name, amount in attempt.quantities.items()},
    )
