"""A request that is not admitted: its refusal goes on the books and is told."""

from __future__ import annotations

from accounting import facts, refused_requests
from accounting.keys import Key
from accounting.refusals import BudgetRefusal, Unpriced
from accounting.refused_requests import Refused
from routing.exceptions import BudgetRefused, GatewayError, InvalidApiKey
from routing.serving.call import Call


def note(error: GatewayError, request_id: str, key: Key, call: Call | None) -> None:
    """``call`` is None when nobody knows what was asked."""
    if isinstance(error, InvalidApiKey):
        count_stranger(error)
        return
    refusal = error.refusal
    of_budget = refusal if isinstance(refusal, BudgetRefusal) else None
    refused = Refused(
        request_id=request_id,
        code=error.code or "",
        message=error.message,
        key=key.name,
        key_id=key.id,
        alias=call.alias if call else "",
        endpoint=call.endpoint if call else "",
        end_user=key.end_user_of(call.end_user) if call else "",
        tags=dict(key.tags_of(call.tags)) if call else {},
        budget=refusal.budget if isinstance(refusal, BudgetRefusal | Unpriced) else "",
        limit_usd=of_budget.limit_usd if of_budget else None,
        spent_usd=of_budget.spent_usd if of_budget else None,
        held_usd=of_budget.held_usd if of_budget else None,
        asked_usd=error.asked_usd if isinstance(error, BudgetRefused) else None,
    )
    refused_requests.note(refused)
    facts.request_refused(
        facts.RequestRefused(
            request_id=request_id,
            key=refused.key,
            alias=refused.alias or None,
            endpoint=refused.endpoint or None,
            code=refused.code,
            budget=refused.budget or None,
            limit_usd=refused.limit_usd,
            spent_usd=refused.spent_usd,
            held_usd=refused.held_usd,
            asked_usd=refused.asked_usd,
            resets_at=of_budget.resets_at if of_budget else None,
        )
    )


def count_stranger(error: InvalidApiKey) -> None:
    """Whoever has no valid key may ask as often as they like, so how often is all that is kept of it."""
    refused = Refused(request_id="", code=error.code, message=error.message, key=error.key)
    refused_requests.note(refused, is_counted_only=True)
