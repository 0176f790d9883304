"""Whether the ledger admits a request, decided from what was read of the books. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from accounting.budgets import Balance, BudgetRule, held_amount, most_lasting, refuse_without_room
from accounting.ledger.records import HeldCharge, HeldRate, HoldRequest
from accounting.models import BudgetMode
from accounting.rates import RateUse, refuse_over_limit
from accounting.record import record
from accounting.refusals import BudgetRefusal, ConfigurationChanged, Unpriced


@record(frozen=True, slots=True)
class Admitted:
    """What an admitted request weighs."""

    charges: tuple[HeldCharge, ...]
    rate: HeldRate | None


def admitted(
    request: HoldRequest,
    balance_of: Callable[[BudgetRule], Balance],
    use_of: Callable[[int], RateUse],
    *,
    version: int,
    now: datetime,
) -> Admitted:
    """Raises a Refusal. ``use_of`` is asked by the key's id, and only when the key has limits."""
    if request.configuration_version != version:
        raise ConfigurationChanged
    rate = None
    if request.key_id is not None and request.limits:
        use = use_of(request.key_id)
        status = refuse_over_limit(request.limits, use, request.ceiling_tokens, now)
        rate = HeldRate(request.key_id, use.minute, request.ceiling_tokens, status)
    charges: list[HeldCharge] = []
    no_room: list[BudgetRefusal] = []
    for rule in request.budgets:
        balance = balance_of(rule)
        try:
            charges.append(held_charge(rule, balance, request.hold_usd, request.provider, request.model))
        except BudgetRefusal as refusal:
            no_room.append(refusal)
    if no_room:
        raise most_lasting(no_room)
    return Admitted(tuple(charges), rate)


def held_charge(rule: BudgetRule, balance: Balance, hold_usd: Decimal | None, provider: str, model: str) -> HeldCharge:
    """What a hold weighs in one budget. Raises the refusal when it has no room. No cost always has."""
    if hold_usd is None and balance.mode == BudgetMode.HARD:
        raise Unpriced(provider, model, balance.budget)
    held_usd = held_amount(balance.mode, hold_usd)
    if hold_usd != 0:
        refuse_without_room(balance, held_usd)
    return HeldCharge(balance.period_id, rule, held_usd)
