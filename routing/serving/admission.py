"""Who may spend how much: from a valid call and its caller to a hold in the ledger.

Everything is decided from one snapshot of the configuration, which the hold's transaction proves to be current. When it
is not, or when a refusal might come from an outdated snapshot, the decision is made again with a fresh one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from datetime import UTC, datetime
from decimal import Decimal

from django.db import Error

from accounting import ledger, refusals
from accounting.budgets import BudgetRule, applicable
from accounting.keys import Key
from accounting.ledger.records import AttemptRecord, Hold, HoldRequest, TopUpRequest
from accounting.models import BudgetMode
from accounting.record import record
from routing import catalog, exceptions
from routing.catalog import Catalog, Step
from routing.models import ChainKind
from routing.serving.affinity import Affinity
from routing.serving.call import Call, as_bound, askable
from routing.serving.callers import identify_in
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams.base import FailureKind, UpstreamError
from routing.upstreams.kinds import Kind, can_serve, kind_of, paths_of

SETTLE_MARGIN_S = 120  # beyond the chain's own time limits: no request can still need a hold that is older
Chance = Callable[[str], float]
LedgerHold = Callable[[HoldRequest], Hold]
MAX_TURNS = 5  # when the configuration changes faster than this, the client gets a 503 instead of a loop


@record(frozen=True, slots=True)
class Admission:
    """A call that may be sent, the configuration that it was admitted with, and what is held for it."""

    call: Call
    request_id: str
    key: Key
    catalog: Catalog
    steps: tuple[Step, ...]  # from the one that it was admitted for
    hold: Hold
    admitted_at: datetime
    #: The steps before, none of which could be admitted, and why.
    passed_over: tuple[tuple[Step, UpstreamError], ...] = ()
    #: What the request's own budgets had left, when its output cap was narrowed for that; None: it was not.
    left_usd: Decimal | None = None
    affinity: Affinity | None = None  # of the call's conversation
    #: Each step's ceiling is computed once, so that cover, record and settlement use the same amount.
    ceilings: dict[Step, Ceiling] = field(default_factory=dict, repr=False)

    @property
    def chance(self) -> Chance | None:
        """What draws the call to deployments and provider keys. None: it is no part of a conversation."""
        return chance_of(self.affinity)

    def ceiling(self, step: Step) -> Ceiling:
        """The step's ceiling at the price that was in force when the call was admitted."""
        ceiling = self.ceilings.get(step)
        if ceiling is None:
            price = self.catalog.price(step.provider.name, step.deployment.model, self.admitted_at)
            room = Room.under(budgets_of(step, self.catalog, self.call, self.key), self.key.limits)
            ceiling = self.ceilings[step] = Ceiling.of(self.call, step, price, room.within(self.left_usd))
        return ceiling

    def chain(self, kind: ChainKind) -> tuple[Step, ...]:
        """The separate chain for prompts that are too long, or for content that is refused. Empty: it is not set."""
        steps = self.catalog.chain(
            self.call.alias, kind, chance=self.chance, may_fall_back_to=self.key.may_fall_back_to
        )
        return askable(self.call, steps)

    def now_asking(self, call: Call) -> Admission:
        """The same admission for the rest of the client's call. Its ceilings are computed anew."""
        return replace(self, call=call, ceilings={})

    def cover(self, step: Step, attempts: Sequence[AttemptRecord]) -> Admission:
        """An admission whose hold covers what the attempts before have spent and the most that this step may cost.

        The budgets of an alias or a provider cover their own steps alone. Raises a Refusal when a budget has no room
        for the difference, and Unbounded when the step's most is not known. Then the hold is as it was."""
        hold, ceiling = self.hold, self.ceiling(step)
        needed = ceiling.hold_usd
        if needed == 0:
            return self  # it has room in every budget, also in one that is overrun
        place = (step.alias, step.provider.name)
        if (
            not attempts
            and place == (hold.alias, hold.provider)
            and ceiling.unbounded is None
            and needed is not None
            and hold.hold_usd is not None
            and needed <= hold.hold_usd
        ):
            return self  # nearly always: it is what all its budgets were asked for at admission
        further = self._budgets_only_of(step)
        ours = [charge for charge in hold.charges if charge.rule.counts_step(*place)]
        rules = (*(charge.rule for charge in ours), *further)
        hard = next((rule.name for rule in rules if rule.mode == BudgetMode.HARD), None)
        if hard is not None and ceiling.unbounded is not None:
            raise ceiling.unbounded
        if needed is None:
            if hard is not None:
                raise refusals.Unpriced(step.provider.name, step.deployment.model, hard)
            needed = Decimal(0)
        spent_usd = _spent_usd(attempts)
        more_usd = max(Decimal(0), spent_usd + needed - (hold.hold_usd or Decimal(0)))
        step_usd = needed + max(
            (
                _spent_usd(a for a in attempts if rule.counts_step(a.alias, a.provider))
                for rule in rules
                if rule.is_of_steps
            ),
            default=Decimal(0),
        )
        is_short = any(
            charge.rule.is_of_steps and charge.rule.mode == BudgetMode.HARD and charge.held_usd < step_usd
            for charge in ours
        )
        if not more_usd and not further and not is_short:
            return self
        return replace(self, hold=ledger.top_up(TopUpRequest(hold, more_usd, further, *place, step_usd)))

    def _budgets_only_of(self, step: Step) -> tuple[BudgetRule, ...]:
        """The budgets of a further step that hold nothing for this request yet, as this process knows them now.

        All other budgets were asked at admission. A budget that was made since then holds what runs when its window is
        filled (backfill_period.sql)."""
        place = (step.alias, step.provider.name)
        if place == (self.hold.alias, self.hold.provider):
            return ()
        known = {charge.rule.id for charge in self.hold.charges}
        rules = (rule for rule in catalog.current().budgets if rule.is_of_steps and rule.id not in known)
        return tuple(rule for rule in rules if rule.counts_step(*place))


def admit(
    call: Call, secret: str | None, request_id: str, affinity: Affinity | None, hold: LedgerHold = ledger.hold
) -> Admission:
    """Hold the call's money. When it raises a GatewayError, nothing was written.

    ``hold`` is the ledger's, or its rehearsal that holds nothing."""
    snapshot = catalog.current()
    for _ in range(MAX_TURNS):
        try:
            return _admit(snapshot, call, secret, request_id, affinity=affinity, ledger_hold=hold)
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


def _admit(
    snapshot: Catalog,
    call: Call,
    secret: str | None,
    request_id: str,
    *,
    affinity: Affinity | None,
    ledger_hold: LedgerHold,
) -> Admission:
    """Hold the money of the first step of the chain whose budgets have room for it.

    When none has, the client hears why the first step could not be admitted."""
    key = identify_in(snapshot, secret)
    steps = steps_of(snapshot, call, key, affinity)
    if (missing := key.missing_tag(key.tags_of(call.tags))) is not None:
        field = getattr(call, "tags_field", "metadata")  # as the call's dialect has it
        raise exceptions.MissingParameter(
            f"The API key '{key.name}' asks for the tag '{missing}' in each request. Send it in the body, as "
            f'"{field}": {{"{missing}": "…"}}.',
            param=f"{field}.{missing}",
        )
    first: exceptions.BudgetRefused | None = None
    refused: list[refusals.BudgetRefusal] = []
    passed: list[tuple[Step, UpstreamError]] = []
    ceilings: dict[Step, Ceiling] = {}
    for place, step in enumerate(steps):
        asked = Asked(snapshot, call, key, request_id, steps[place:], affinity=affinity, ledger_hold=ledger_hold)
        try:
            admission = asked.hold(refused, passed)
        except exceptions.BudgetRefused as error:
            first = first or error
            refused.append(error.refusal)
            passed.append((step, UpstreamError(FailureKind.NO_ROOM, f"no room in the budget '{error.refusal.budget}'")))
        except (exceptions.ModelUnpriced, exceptions.UnboundedCost) as error:
            if first is None:
                raise
            kind = FailureKind.UNPRICED if isinstance(error, exceptions.ModelUnpriced) else FailureKind.UNBOUNDED
            passed.append((step, UpstreamError(kind, error.message)))
        else:
            if ceilings:
                admission.ceilings.update(ceilings)
            return admission
        ceilings[step] = asked.ceiling
    assert first is not None
    raise first


class Asked:
    """The step that a call is to be admitted for: the first of ``steps``, which are those that are left."""

    def __init__(
        self,
        snapshot: Catalog,
        call: Call,
        key: Key,
        request_id: str,
        steps: tuple[Step, ...],
        *,
        affinity: Affinity | None = None,
        ledger_hold: LedgerHold,
    ) -> None:
        self._affinity = affinity
        self._snapshot, self._call, self._key, self._request_id = snapshot, call, key, request_id
        self._steps, self._ledger_hold = steps, ledger_hold
        self._step = step = steps[0]
        self.budgets = budgets_of(step, snapshot, call, key)
        self._price = snapshot.price(step.provider.name, step.deployment.model, datetime.now(UTC))
        self._room = Room.under(self.budgets, key.limits)
        self.ceiling = self._ceiling_within(None)

    def _ceiling_within(self, left_usd: Decimal | None) -> Ceiling:
        return Ceiling.of(self._call, self._step, self._price, self._room.within(left_usd))

    def _refused_again_by(self, refused: Sequence[refusals.BudgetRefusal]) -> refusals.BudgetRefusal | None:
        """A budget that has refused an earlier step, counts this one too, and has no room for it either. None: no such
        one, so the ledger is to be asked."""
        ours = {rule.name for rule in self.budgets}
        return next((refusal for refusal in refused if refusal.budget in ours and not self._fits(refusal)), None)

    def _fits(self, refusal: refusals.BudgetRefusal) -> bool:
        if not self.ceiling.hold_usd:
            return True  # it costs nothing, or nobody knows what it costs
        left_usd = refusal.limit_usd - refusal.spent_usd - refusal.held_usd
        narrowest = self._ceiling_within(left_usd).hold_usd
        return narrowest is None or narrowest <= left_usd

    def hold(
        self, refused: Sequence[refusals.BudgetRefusal], passed: Sequence[tuple[Step, UpstreamError]] = ()
    ) -> Admission:
        """Raises a GatewayError, or refusals.ConfigurationChanged, and then nothing is held. ``refused`` says which
        budgets had no room for the steps before, which are ``passed``."""
        again = self._refused_again_by(refused)
        if again is not None:
            raise exceptions.BudgetRefused(again)
        ceiling, left_usd = self.ceiling, None
        if ceiling.unbounded is not None and any(rule.mode == BudgetMode.HARD for rule in self.budgets):
            param = ceiling.unbounded.param
            raise exceptions.UnboundedCost(
                f"The cost of '{param}' cannot be bounded, and a hard budget applies: {ceiling.unbounded}", param=param
            )
        try:
            try:
                hold = self._ledger_hold(self._request(ceiling))
            except refusals.BudgetRefusal as refusal:
                # The cap is ours and no client's, so a request that fits with a smaller one is not refused.
                left_usd = refusal.limit_usd - refusal.spent_usd - refusal.held_usd
                narrower = self._ceiling_within(left_usd)
                if narrower == ceiling or narrower.hold_usd is None or narrower.hold_usd > left_usd:
                    raise
                if any(rule.name == refusal.budget and rule.is_of_steps for rule in self.budgets):
                    left_usd = None  # other steps have budgets of their own
                ceiling = narrower
                hold = self._ledger_hold(self._request(ceiling))
        except refusals.BudgetRefusal as refusal:
            fits_tokens = ceiling.output_cap_within(_room_usd(refusal))
            raise exceptions.BudgetRefused(refusal, fits_tokens, ceiling.hold_usd) from None
        except refusals.Unpriced as refusal:
            raise exceptions.ModelUnpriced(refusal) from None
        except refusals.RateLimited as refusal:
            raise exceptions.RateLimited(refusal, ceiling.output_cap_of(refusal.most)) from None
        admission = Admission(
            self._call,
            self._request_id,
            self._key,
            self._snapshot,
            self._steps,
            hold,
            hold.created_at,
            tuple(passed),
            left_usd,
            self._affinity,
        )
        # The database's clock decides which price is charged. By our clock another price may be in force.
        at_hold = self._snapshot.price(self._step.provider.name, self._step.deployment.model, hold.created_at)
        if at_hold is ceiling.price:
            admission.ceilings[self._step] = ceiling
        return admission

    def _request(self, ceiling: Ceiling) -> HoldRequest:
        call, key, step = self._call, self._key, self._step
        return HoldRequest(
            configuration_version=self._snapshot.version,
            request_id=self._request_id,
            key=key.name,
            key_id=key.id,
            owner=key.owner,
            alias=call.alias,
            step_alias=step.alias,
            endpoint=call.endpoint,
            provider=step.provider.name,
            model=step.deployment.model,
            hold_usd=ceiling.hold_usd,
            budgets=self.budgets,
            streamed=call.streamed,
            end_user=key.end_user_of(call.end_user),
            tags=key.tags_of(call.tags),
            expires_after_s=_longest_s(self._steps) + SETTLE_MARGIN_S,
            limits=key.limits,
            ceiling_tokens=ceiling.most.input_tokens + ceiling.most.output_tokens,
        )


def budgets_of(step: Step, snapshot: Catalog, call: Call, key: Key) -> tuple[BudgetRule, ...]:
    return applicable(
        snapshot.budgets,
        key_id=key.id,
        alias=step.alias,
        provider=step.provider.name,
        end_user=key.end_user_of(call.end_user),
        tags=key.tags_of(call.tags),
    )


def _spent_usd(attempts: Iterable[AttemptRecord]) -> Decimal:
    return sum((attempt.cost_usd for attempt in attempts if attempt.cost_usd is not None), Decimal(0))


def steps_of(snapshot: Catalog, call: Call, key: Key, affinity: Affinity | None) -> tuple[Step, ...]:
    """The call's chain. Raises a GatewayError when the alias is not there, or is not for this key."""
    snapshot.alias_for(key, call.alias)
    steps = snapshot.chain(call.alias, chance=chance_of(affinity), may_fall_back_to=key.may_fall_back_to)
    if not steps:
        raise exceptions.ModelNotFound(call.alias, [name for name in snapshot.aliases_of(key) if name != call.alias])
    fitting = tuple(step for step in steps if can_serve(_kind_of(step), call.kind))
    if not fitting:
        kind = _kind_of(steps[0]) or call.kind
        raise exceptions.WrongKind(call.alias, kind, call.kind, paths_of(kind, call.alias)[:1])
    able = askable(call, fitting)
    if not able and (bound := as_bound(call)) is not None:
        raise bound.nobody_to_ask()
    return able


def chance_of(affinity: Affinity | None) -> Chance | None:
    return None if affinity is None else affinity.chance


def _kind_of(step: Step) -> Kind | None:
    return kind_of(step.deployment.litellm_provider, step.deployment.model)


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
