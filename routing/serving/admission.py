"""Who may spend how much: from a valid call and its caller to a hold in the ledger.

Everything is decided from one snapshot of the configuration, which the hold's transaction proves to be current. When it
is not, or when a refusal might come from an outdated snapshot, the decision is made again with a fresh one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from django.db import Error

from accounting import ledger, refusals
from accounting.budgets import BudgetRule, applicable
from accounting.keys import Key
from accounting.ledger.records import Hold, HoldRequest, TopUpRequest, new_entry_id
from accounting.models import BudgetMode, BudgetScope
from routing import catalog, exceptions
from routing.catalog import Catalog, Step
from routing.models import ChainKind
from routing.serving.call import Call
from routing.serving.callers import identify_in
from routing.serving.ceiling import Ceiling, Room

SETTLE_MARGIN_S = 120  # beyond the chain's own time limits: no request can still need a hold that is older
MAX_TURNS = 5  # when the configuration changes faster than this, the client gets a 503 instead of a loop


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that may be sent, the configuration that it was admitted with, and what is held for it."""

    call: Call
    request_id: str
    key: Key
    catalog: Catalog
    steps: tuple[Step, ...]
    hold: Hold
    admitted_at: datetime
    room: Room
    #: Each step's ceiling is computed once, so that cover, record and settlement use the same amount.
    ceilings: dict[Step, Ceiling] = field(default_factory=dict, repr=False)

    def ceiling(self, step: Step) -> Ceiling:
        """The step's ceiling at the price that was in force when the call was admitted."""
        ceiling = self.ceilings.get(step)
        if ceiling is None:
            price = self.catalog.price(step.provider.name, step.deployment.model, self.admitted_at)
            ceiling = self.ceilings[step] = Ceiling.of(self.call, step, price, self.room)
        return ceiling

    def chain(self, kind: ChainKind) -> tuple[Step, ...]:
        """The separate chain for prompts that are too long, or for content that is refused. Empty: it is not set."""
        return self.catalog.chain(self.call.alias, kind)

    def now_asking(self, call: Call) -> Admission:
        """The same admission for the rest of the client's call. Its ceilings are computed anew."""
        return replace(self, call=call, ceilings={})

    def cover(self, step: Step, spent_usd: Decimal) -> Admission:
        """An admission whose hold covers what earlier attempts spent and the most that this step may cost.

        Raises a Refusal when a budget has no room for the difference, and Unbounded when the step's most is not known.
        Then the hold is as it was."""
        hold, ceiling = self.hold, self.ceiling(step)
        needed = ceiling.hold_usd
        further = self._budgets_only_of(step.provider.name)
        hard = next((r.name for r in (*(c.rule for c in hold.charges), *further) if r.mode == BudgetMode.HARD), None)
        if hard is not None and ceiling.unbounded is not None:
            raise ceiling.unbounded
        if needed is None:
            if hard is not None:
                raise refusals.Unpriced(step.provider.name, step.deployment.model, hard)
            needed = Decimal(0)
        more_usd = max(Decimal(0), spent_usd + needed - (hold.hold_usd or Decimal(0)))
        if not more_usd and not further:
            return self
        grown = ledger.top_up(TopUpRequest(hold, more_usd, further))
        return replace(self, hold=grown)

    def _budgets_only_of(self, provider: str) -> tuple[BudgetRule, ...]:
        """The budgets of a further provider that hold nothing for this request yet, as this process knows them now.

        All other budgets were asked at admission. A budget that was made since then holds what runs when its window is
        filled (backfill_period.sql)."""
        if provider == self.hold.provider:
            return ()
        known = {charge.rule.id for charge in self.hold.charges}
        rules = (rule for rule in catalog.current().budgets if rule.scope == BudgetScope.PROVIDER)
        return tuple(rule for rule in rules if rule.scope_value == provider and rule.id not in known)


def admit(call: Call, secret: str | None, request_id: str) -> Admission:
    """Hold the call's money. When it raises a GatewayError, nothing was written."""
    snapshot = catalog.current()
    for _ in range(MAX_TURNS):
        try:
            return _admit(snapshot, call, secret, request_id)
        except refusals.ConfigurationChanged:
            snapshot = _fresh()
        except refusals.LedgerUnavailable:
            raise exceptions.LedgerUnavailable from None
        except (exceptions.BudgetRefused, exceptions.ModelUnpriced, exceptions.RateLimited):
            raise  # the hold's transaction refused, and it had proved the snapshot
        except exceptions.GatewayError:
            # The snapshot refuses the call. It may be outdated, so look whether the database has a newer configuration.
            newer = _fresh()
            if newer.version == snapshot.version:
                raise
            snapshot = newer
    raise exceptions.LedgerUnavailable


def _fresh() -> Catalog:
    try:
        return catalog.fresh()
    except Error:
        raise exceptions.LedgerUnavailable from None


def _admit(snapshot: Catalog, call: Call, secret: str | None, request_id: str) -> Admission:
    key = identify_in(snapshot, secret)
    steps = _steps(snapshot, call, key)
    first = steps[0]
    provider, model = first.provider.name, first.deployment.model
    budgets = applicable(
        snapshot.budgets,
        key_id=key.id,
        alias=call.alias,
        provider=provider,
        end_user=call.end_user,
        tags=call.tags,
    )
    price = snapshot.price(provider, model, datetime.now(UTC))
    room = Room.under(budgets, key.limits)
    ceiling = Ceiling.of(call, first, price, room)
    if ceiling.unbounded is not None and any(rule.mode == BudgetMode.HARD for rule in budgets):
        param = ceiling.unbounded.param
        raise exceptions.UnboundedCost(
            f"The cost of '{param}' cannot be bounded, and a hard budget applies: {ceiling.unbounded}", param=param
        ) from None
    request = HoldRequest(
        configuration_version=snapshot.version,
        request_id=request_id,
        key=key.name,
        key_id=key.id,
        alias=call.alias,
        endpoint=call.endpoint,
        provider=provider,
        model=model,
        hold_usd=ceiling.hold_usd,
        budgets=budgets,
        streamed=call.streamed,
        end_user=call.end_user,
        tags=call.tags,
        expires_after_s=_longest_s(steps) + SETTLE_MARGIN_S,
        limits=key.limits,
        ceiling_tokens=ceiling.most.input_tokens + ceiling.most.output_tokens,
    )
    try:
        hold = ledger.hold(request)
    except refusals.BudgetRefusal as refusal:
        room = replace(room, usd=refusal.limit_usd - refusal.spent_usd - refusal.held_usd)
        narrower = Ceiling.of(call, first, price, room)
        if narrower == ceiling or narrower.hold_usd is None or narrower.hold_usd > (room.usd or 0):
            raise _budget_refused(refusal, ceiling) from None
        ceiling = narrower
        hold = _hold_what_is_left(request, ceiling)
    except refusals.Unpriced as refusal:
        raise exceptions.ModelUnpriced(refusal) from None
    except refusals.RateLimited as refusal:
        raise exceptions.RateLimited(refusal) from None
    admission = Admission(call, request_id, key, snapshot, steps, hold, hold.created_at, room)
    # The database's clock decides which price is charged. By our clock another price may be in force.
    if snapshot.price(provider, model, hold.created_at) is ceiling.price:
        admission.ceilings[first] = ceiling
    return admission


def _hold_what_is_left(request: HoldRequest, ceiling: Ceiling) -> Hold:
    """The cap is ours and no client's, so a request that fits with a smaller one is not refused."""
    most = ceiling.most
    try:
        return ledger.hold(
            replace(
                request,
                entry_id=new_entry_id(),
                hold_usd=ceiling.hold_usd,
                ceiling_tokens=most.input_tokens + most.output_tokens,
            )
        )
    except refusals.BudgetRefusal as refusal:
        raise _budget_refused(refusal, ceiling) from None
    except refusals.RateLimited as refusal:
        raise exceptions.RateLimited(refusal) from None


def _budget_refused(refusal: refusals.BudgetRefusal, ceiling: Ceiling) -> exceptions.BudgetRefused:
    return exceptions.BudgetRefused(refusal, ceiling.output_cap_within(_room_usd(refusal)), ceiling.hold_usd)


def _steps(snapshot: Catalog, call: Call, key: Key) -> tuple[Step, ...]:
    """The call's chain. Raises a GatewayError when the alias is not there, or is not for this key."""
    alias = snapshot.alias(call.alias)
    if alias is None or not alias.enabled:
        raise exceptions.ModelNotFound(call.alias, [name for name in snapshot.enabled_aliases if key.may_use(name)])
    if not key.may_use(call.alias, alias.wildcard):
        raise exceptions.ModelNotAllowed(
            f"The API key '{key.name}' may not use the model '{call.alias}'.", param="model"
        )
    steps = snapshot.chain(call.alias)
    if not steps:
        raise exceptions.ModelNotFound(call.alias, [name for name in snapshot.enabled_aliases if name != call.alias])
    return steps


def _room_usd(refusal: refusals.BudgetRefusal) -> Decimal:
    """The most that a request may cost to fit into the budget: the whole limit, or what is not spent of it."""
    if isinstance(refusal, refusals.RequestExceedsBudget):
        return refusal.limit_usd
    return refusal.limit_usd - refusal.spent_usd


def _longest_s(steps: tuple[Step, ...]) -> float:
    """How long all attempts may take together: at each step one attempt with each key, and the retries."""
    return sum(
        step.deployment.timeouts.total_s * (len(step.provider.key_references) + step.provider.retries) for step in steps
    )
