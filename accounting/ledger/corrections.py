"""What an operator may still change on the books: resolve an unknown entry, adjust a settled one.

Each is one transaction on Django's connection, in the ledger's own lock order: the entry, then its periods by id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from accounting import sql
from accounting.budgets import Balance, counts_step
from accounting.ledger.rows import EntryCharge, LockedEntry, balance_of, movement_row
from accounting.models import Adjustment, EntryState
from accounting.money import dollars


class NotCorrectable(Exception):
    """The entry is not in the state that the correction is for. Nothing was written."""


class AdjustedBefore(Exception):
    """The form with this token has made its adjustment already. Nothing more was written."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A budget's window, and its spending before and after a correction."""

    budget: str
    period_start: datetime
    period_end: datetime | None
    limit_usd: Decimal
    posted_usd: Decimal
    after_usd: Decimal


def resolve(entry_id: UUID, *, cost_usd: Decimal, author: str, reason: str) -> None:
    """Resolve an ``unknown`` entry: post it at ``cost_usd`` (what the provider's bill says), or void it with 0.

    Raises NotCorrectable when it is not unknown (any more), ValueError without an author or a reason.
    """
    _require(author, reason)
    if cost_usd < 0:
        raise ValueError("a cost is not negative")
    with transaction.atomic(), connection.cursor() as cursor:
        entry, charges, balances = _locked(cursor, entry_id)
        if entry is None or entry.state != EntryState.UNKNOWN:
            raise NotCorrectable("The entry is not unknown; a settled entry is corrected with an adjustment.")
        settled, movements = [], []
        for charge in charges:
            balance = balances[charge.period_id]
            # A step's budget is charged when the entry was for that step, as far as is known.
            is_its = counts_step(balance.scope, balance.scope_value, alias=entry.alias, provider=entry.provider)
            posted_usd = cost_usd if is_its else Decimal(0)
            settled.append({"id": charge.id, "posted_usd": str(posted_usd)})
            after = balance.moved(held_usd=-charge.held_usd, posted_usd=posted_usd - charge.posted_usd)
            movements.append(movement_row(balance, after))
        if charges:
            charge_ids = [charge.id for charge in charges]
            cursor.execute(sql.load("settle_charges"), {"rows": json.dumps(settled), "charge_ids": charge_ids})
            cursor.execute(sql.load("move_balances"), {"rows": json.dumps(movements), "period_ids": list(balances)})
        cursor.execute(
            sql.load("resolve_entry"),
            {
                "entry_id": entry_id,
                "state": EntryState.POSTED if cost_usd else EntryState.VOIDED,
                "cost_usd": cost_usd,
                "author": author[:150],
                "reason": reason[:500],
            },
        )


def adjust(
    entry_id: UUID,
    *,
    amount_usd: Decimal,
    author: str,
    reason: str,
    seen_total_usd: Decimal | None = None,
    form_token: UUID | None = None,
) -> Adjustment:
    """Add ``amount_usd`` (negative: give back) to a settled entry's cost, in every budget period it was charged to.

    ``seen_total_usd`` is what the entry cost when the author decided; with another total by now nothing is written.
    ``form_token`` names the form that asks: a form adjusts once, however often it is sent.

    Raises NotCorrectable when the entry is not settled, costs less than is given back, or costs something else than was
    seen; AdjustedBefore; ValueError without an amount, an author or a reason.
    """
    _require(author, reason)
    if not amount_usd:
        raise ValueError("an adjustment of nothing changes nothing")
    with transaction.atomic(), connection.cursor() as cursor:
        entry, _, _ = _locked(cursor, entry_id)
        if entry is None or entry.state not in (EntryState.POSTED, EntryState.VOIDED):
            raise NotCorrectable("Only settled entries are adjusted; an unknown one is resolved first.")
        # The token first: a form that is sent again sees another total, because of itself.
        if form_token is not None and _was_sent(cursor, form_token):
            raise AdjustedBefore
        total = total_usd(entry_id)
        if seen_total_usd is not None and total != seen_total_usd:
            raise NotCorrectable(
                f"The entry was adjusted in the meantime: it costs {dollars(total)} now, not {dollars(seen_total_usd)}."
            )
        if amount_usd < 0 and total + amount_usd < 0:
            raise NotCorrectable(
                f"The entry costs {dollars(total)}, adjustments included, and no more than that is given back."
            )
        cursor.execute(
            sql.load("insert_adjustment"),
            {
                "entry_id": entry_id,
                "amount_usd": amount_usd,
                "reason": reason[:500],
                "author": author[:150],
                "form_token": form_token,
            },
        )
        row = cursor.fetchone()
        if row is None:  # a form for another entry had this token
            raise AdjustedBefore
        cursor.execute(
            sql.load("adjust_charges"), {"entry_id": entry_id, "adjustment_id": row[0], "amount_usd": amount_usd}
        )
    return Adjustment.objects.get(pk=row[0])


def total_usd(entry_id: UUID) -> Decimal:
    """What the entry costs with its adjustments. An unpriced entry costs 0 here."""
    with connection.cursor() as cursor:
        cursor.execute(sql.load("entry_total"), {"entry_id": entry_id})
        return Decimal(cursor.fetchone()[0])


def effect_of_adjusting(entry_id: UUID, amount_usd: Decimal) -> list[Effect]:
    """What the adjustment would make of the budgets that the entry counts in, as they are now."""
    return _effect(entry_id, amount_usd, replaces=False)


def effect_of_resolving(entry_id: UUID, cost_usd: Decimal) -> list[Effect]:
    """What the resolution would make of the budgets that the entry counts in, as they are now."""
    return _effect(entry_id, cost_usd, replaces=True)


def _effect(entry_id: UUID, amount_usd: Decimal, *, replaces: bool) -> list[Effect]:
    with connection.cursor() as cursor:
        cursor.execute(
            sql.load("correction_effect"), {"entry_id": entry_id, "amount_usd": amount_usd, "replaces": replaces}
        )
        return [Effect(*row) for row in cursor.fetchall()]


def _was_sent(cursor: CursorWrapper, form_token: UUID) -> bool:
    cursor.execute(sql.load("form_was_sent"), {"form_token": form_token})
    return cursor.fetchone() is not None


def _require(author: str, reason: str) -> None:
    if not author.strip() or not reason.strip():
        raise ValueError("a correction needs an author and a reason")


def _locked(cursor: CursorWrapper, entry_id: UUID) -> tuple[LockedEntry | None, list[EntryCharge], dict[int, Balance]]:
    """The entry, its charges and the balances of their periods, with the entry and the periods locked."""
    cursor.execute(sql.load("share_ledger"))
    cursor.execute(sql.load("lock_entries"), {"entry_ids": [entry_id]})
    entry = cursor.fetchone()
    cursor.execute(sql.load("entry_charges"), {"entry_ids": [entry_id]})
    charges = [EntryCharge(*row) for row in cursor.fetchall()]
    cursor.execute(sql.load("lock_periods"), {"period_ids": sorted({charge.period_id for charge in charges})})
    balances = {balance.period_id: balance for balance in map(balance_of, cursor.fetchall())}
    return None if entry is None else LockedEntry(*entry), charges, balances
