"""Who may spend how much: from a valid request and its caller to a hold in the ledger.

Everything is decided from one snapshot of the configuration, which the hold's transaction proves to be current. When it
is not, or when a refusal might come from an outdated snapshot, the decision is made again with a fresh one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from accounting import ledger, refusals
from accounting.budgets import BudgetRule, applicable
from accounting.keys import Key
from accounting.ledger.records import Hold, HoldRequest, TopUpRequest
from accounting.models import BudgetMode, BudgetScope
from accounting.pricing import PriceList, ceiling_usd, dearest_output_usd_per_mtok
from routing import catalog, exceptions
from routing.api.authentication import identify_in
from routing.catalog import Catalog, Step
from routing.endpoints.chat.ceiling import Unbounded, image_ceiling, input_ceiling
from routing.endpoints.chat.request import ChatRequest
from routing.models import ChainKind

SETTLE_MARGIN_S = 120  # beyond the chain's own time limits: a hold older than that is nobody's
MAX_TURNS = 5  # configuration that changes faster than a request can be admitted is a 503, not a loop


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that one attempt may cost; ``hold_usd`` is None when nobody has said what the step costs."""

    output_cap_tokens: int  # per choice, sent upstream
    price: PriceList | None
    hold_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may be sent: what it is, on which configuration, and what is held for it."""

    chat: ChatRequest
    request_id: str
    key: Key
    catalog: Catalog
    steps: tuple[Step, ...]
    input_ceiling_tokens: int
    hold: Hold
    admitted_at: datetime

    def ceiling(self, step: Step) -> Ceiling:
        return _ceiling(self.catalog, self.chat, step, self.input_ceiling_tokens, self.admitted_at)

    def chain(self, kind: ChainKind) -> tuple[Step, ...]:
        """The separate chain for prompts that are too long, or content that is refused; empty when there is none."""
        return self.catalog.chain(self.chat.alias, kind)

    def cover(self, step: Step, spent_usd: Decimal) -> Admission:
        """An admission whose hold covers what earlier attempts spent and this step's most.

        Raises a Refusal when some budget has no room for the difference; then the hold is as it was."""
        hold, needed = self.hold, self.ceiling(step).hold_usd
        if needed is None:
            unpriced_under = next((c.rule.name for c in hold.charges if c.rule.mode == BudgetMode.HARD), None)
            if unpriced_under is not None:
                raise refusals.Unpriced(step.provider.name, step.deployment.model, unpriced_under)
            needed = Decimal(0)
        more_usd = max(Decimal(0), spent_usd + needed - (hold.hold_usd or Decimal(0)))
        further = self._budgets_only_of(step.provider.name)
        if not more_usd and not further:
            return self
        grown = ledger.top_up(TopUpRequest(hold, more_usd, further))
        return replace(self, hold=grown)

    def _budgets_only_of(self, provider: str) -> tuple[BudgetRule, ...]:
        """The budgets of a further provider that hold nothing yet, as this process knows them by now. All others were
        asked at admission or, when they were made since, hold by themselves what runs (backfill_period.sql)."""
        if provider == self.hold.provider:
            return ()
        known = {charge.rule.id for charge in self.hold.charges}
        rules = (rule for rule in catalog.current().budgets if rule.scope == BudgetScope.PROVIDER)
        return tuple(rule for rule in rules if rule.scope_value == provider and rule.id not in known)


def admit(chat: ChatRequest, secret: str | None, request_id: str) -> Admission:
    """Hold the request's money. Raises a GatewayError; then nothing was written."""
    snapshot = catalog.current()
    for _ in range(MAX_TURNS):
        try:
            return _admit(snapshot, chat, secret, request_id)
        except refusals.ConfigurationChanged:
            snapshot = _fresh()
        except refusals.LedgerUnavailable:
            raise exceptions.LedgerUnavailable from None
        except (exceptions.BudgetRefused, exceptions.ModelUnpriced, exceptions.RateLimited):
            raise  # by the hold's own transaction, which proved the snapshot
        except exceptions.GatewayError:
            # Refused by the snapshot; by the database's configuration too?
            newer = _fresh()
            if newer.version == snapshot.version:
                raise
            snapshot = newer
    raise exceptions.LedgerUnavailable


def _fresh() -> Catalog:
    from django.db import Error

    try:
        return catalog.fresh()
    except Error:
        raise exceptions.LedgerUnavailable from None


def _admit(snapshot: Catalog, chat: ChatRequest, secret: str | None, request_id: str) -> Admission:
    key = identify_in(snapshot, secret)
    alias = snapshot.aliases.get(chat.alias)
    if alias is None or not alias.enabled:
        raise exceptions.ModelNotFound(chat.alias, [name for name in snapshot.enabled_aliases if key.may_use(name)])
    if not key.may_use(chat.alias):
        raise exceptions.ModelNotAllowed(
            f"The API key '{key.name}' may not use the model '{chat.alias}'.", param="model"
        )
    steps = snapshot.chain(chat.alias)
    if not steps:
        raise exceptions.ModelNotFound(chat.alias, [name for name in snapshot.enabled_aliases if name != chat.alias])
    first = steps[0]
    now = datetime.now(UTC)
    budgets = applicable(
        snapshot.budgets,
        key_id=key.id,
        alias=chat.alias,
        provider=first.provider.name,
        end_user=chat.end_user,
        tags=chat.tags,
    )
    tokens_an_image = max(image_ceiling(step.deployment.model) for step in steps)
    is_held = any(rule.mode == BudgetMode.HARD for rule in budgets)
    input_tokens = _input_ceiling(chat.body, tokens_an_image, is_held=is_held)
    ceiling = _ceiling(snapshot, chat, first, input_tokens, now)
    request = HoldRequest(
        configuration_version=snapshot.version,
        request_id=request_id,
        key=key.name,
        key_id=key.id,
        alias=chat.alias,
        provider=first.provider.name,
        model=first.deployment.model,
        hold_usd=ceiling.hold_usd,
        budgets=budgets,
        streamed=chat.streamed,
        end_user=chat.end_user,
        tags=chat.tags,
        expires_after_s=_longest_s(steps) + SETTLE_MARGIN_S,
        limits=key.limits,
        ceiling_tokens=input_tokens + ceiling.output_cap_tokens * chat.choices,
    )
    try:
        hold = ledger.hold(request)
    except refusals.BudgetRefusal as refusal:
        raise exceptions.BudgetRefused(refusal, _fits_tokens(refusal, ceiling, input_tokens, chat)) from None
    except refusals.Unpriced as refusal:
        raise exceptions.ModelUnpriced(refusal) from None
    except refusals.RateLimited as refusal:
        raise exceptions.RateLimited(refusal) from None
    return Admission(chat, request_id, key, snapshot, steps, input_tokens, hold, hold.created_at)


def _input_ceiling(body: Mapping[str, Any], tokens_an_image: int, *, is_held: bool) -> int:
    try:
        return input_ceiling(body, tokens_an_image=tokens_an_image)
    except Unbounded as unbounded:
        if not is_held:
            return 0  # nothing is held, so nothing needs a bound
        raise exceptions.InvalidRequest(
            f"The cost of '{unbounded.param}' cannot be bounded, and a hard budget applies: {unbounded}",
            param=unbounded.param,
        ) from None


def _ceiling(snapshot: Catalog, chat: ChatRequest, step: Step, input_tokens: int, at: datetime) -> Ceiling:
    cap = chat.output_cap_tokens or step.output_cap_tokens
    price = snapshot.price(step.provider.name, step.deployment.model, at)
    if price is None:
        return Ceiling(cap, None, None)
    return Ceiling(cap, price, ceiling_usd(input_tokens, cap * chat.choices, price))


def _fits_tokens(refusal: refusals.BudgetRefusal, ceiling: Ceiling, input_tokens: int, chat: ChatRequest) -> int | None:
    """The largest max_tokens whose hold the budget has room for; None when even one token does not fit."""
    if ceiling.price is None:
        return None
    room = refusal.limit_usd - refusal.spent_usd
    if isinstance(refusal, refusals.RequestExceedsBudget):
        room = refusal.limit_usd
    room -= ceiling_usd(input_tokens, 0, ceiling.price)
    rate = dearest_output_usd_per_mtok(ceiling.price)
    if rate == 0:
        return None
    tokens = math.floor(room * 1_000_000 / rate / chat.choices)
    return tokens if tokens >= 1 else None


def _longest_s(steps: tuple[Step, ...]) -> float:
    """Of all attempts: the first with each key of the provider, and the retries."""
    return sum(
        step.deployment.timeouts.total_s * (len(step.provider.key_references) + step.provider.retries) for step in steps
    )
