"""What an operator may still change on the books: resolve an unknown entry, adjust a settled one.

Each is one transaction on Django's connection, in the ledger's own lock order: the entry, then its periods by id.
"""

from __future__ import annotations

import json
from decimal import Decimal
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from accounting import sql
from accounting.budgets import counts_step
from accounting.ledger.rows import EntryCharge, LockedEntry
from accounting.models import Adjustment, EntryState


class NotCorrectable(Exception):
    """The entry is not in the state that the correction is for. Nothing was written."""


def resolve(entry_id: UUID, *, cost_usd: Decimal, author: str, reason: str) -> None:
    """Resolve an ``unknown`` entry: post it at ``cost_usd`` (what the provider's bill says), or void it with 0.

    Raises NotCorrectable when it is not unknown (any more), ValueError without an author or a reason.
    """
    _require(author, reason)
    if cost_usd < 0:
        raise ValueError("a cost is not negative")
    with transaction.atomic(), connection.cursor() as cursor:
        entry, charges = _locked(cursor, entry_id)
        if entry is None or entry.state != EntryState.UNKNOWN:
            raise NotCorrectable("The entry is not unknown; a settled entry is corrected with an adjustment.")
        rows = [
            {
                "entry_id": str(entry_id),
                "period_id": charge.period_id,
                # A step's budget is charged when the entry was for that step, as far as is known.
                "posted_usd": str(
                    cost_usd
                    if counts_step(charge.scope, charge.scope_value, alias=entry.alias, provider=entry.provider)
                    else 0
                ),
            }
            for charge in charges
        ]
        if rows:
            cursor.execute(sql.load("settle_charges"), {"rows": json.dumps(rows)})
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


def adjust(entry_id: UUID, *, amount_usd: Decimal, author: str, reason: str) -> Adjustment:
    """Add ``amount_usd`` (negative: give back) to a settled entry's cost, in every budget period it was charged to.

    Raises NotCorrectable when it is not settled, ValueError without an amount, an author or a reason.
    """
    _require(author, reason)
    if not amount_usd:
        raise ValueError("an adjustment of nothing changes nothing")
    with transaction.atomic(), connection.cursor() as cursor:
        entry, _ = _locked(cursor, entry_id)
        if entry is None or entry.state not in (EntryState.POSTED, EntryState.VOIDED):
            raise NotCorrectable("Only settled entries are adjusted; an unknown one is resolved first.")
        cursor.execute(
            sql.load("insert_adjustment"),
            {
                "entry_id": entry_id,
                "amount_usd": amount_usd,
                "reason": reason[:500],
                "author": author[:150],
            },
        )
        adjustment_id = cursor.fetchone()[0]
        cursor.execute(
            sql.load("adjust_charges"),
            {"entry_id": entry_id, "adjustment_id": adjustment_id, "amount_usd": amount_usd},
        )
    return Adjustment.objects.get(pk=adjustment_id)


def _require(author: str, reason: str) -> None:
    if not author.strip() or not reason.strip():
        raise ValueError("a correction needs an author and a reason")


def _locked(cursor: CursorWrapper, entry_id: UUID) -> tuple[LockedEntry | None, list[EntryCharge]]:
    """The entry and its charges, with the entry and their periods locked."""
    cursor.execute(sql.load("share_ledger"))
    cursor.execute(sql.load("lock_entries"), {"entry_ids": [entry_id]})
    entry = cursor.fetchone()
    cursor.execute(sql.load("entry_charges"), {"entry_ids": [entry_id]})
    charges = [EntryCharge(*row) for row in cursor.fetchall()]
    cursor.execute(sql.load("lock_periods"), {"period_ids": sorted({charge.period_id for charge in charges})})
    return None if entry is None else LockedEntry(*entry), charges
