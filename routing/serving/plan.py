"""What would become of a call: its steps, what each would hold, and whether it would be admitted.

Nothing is held and no provider is asked. Admission and the ledger decide as they do for a true call.
"""

from __future__ import annotations

from dataclasses import dataclass

from accounting import ledger
from accounting.budgets import BudgetRule
from accounting.keys import Key
from accounting.ledger.records import Hold
from accounting.ledger.rehearsal import Books
from accounting.refusals import LedgerUnavailable as BooksUnavailable
from accounting.refusals import Refusal
from routing import catalog
from routing.breakers import breaker
from routing.catalog import Step
from routing.exceptions import GatewayError, InvalidApiKey, LedgerUnavailable
from routing.secrets import rotation
from routing.secrets.references import UnknownStore
from routing.serving.admission import Admission, Asked, Chance, admit, budgets_of, chance_of, steps_of
from routing.serving.affinity import Affinity
from routing.serving.call import Call
from routing.serving.callers import identify_in
from routing.serving.ceiling import Ceiling
from routing.upstreams.disclosure import NotAllowed


@dataclass(frozen=True, slots=True)
class PlannedStep:
    step: Step
    ceiling: Ceiling
    budgets: tuple[BudgetRule, ...]  # that count it
    refusal: GatewayError | None  # why it would be passed over, were it asked alone
    breaker: str
    breaker_open_s: float
    key_reference: str | None  # None: the provider has no key that could be used
    key_problem: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    key: Key
    steps: tuple[PlannedStep, ...]  # in the order in which they would be tried; empty: the alias is not for this key
    hold: Hold | None  # None: the call would be refused
    refusal: GatewayError | None
    books: Books


def plan(call: Call, secret: str | None, request_id: str, affinity: Affinity | None) -> Plan:
    """Raises InvalidApiKey and LedgerUnavailable, which say nothing of the call."""
    admission: Admission | None = None
    refusal: GatewayError | None = None
    try:
        admission = admit(call, secret, request_id, affinity, hold=ledger.would_hold)
    except (InvalidApiKey, LedgerUnavailable):
        raise
    except GatewayError as error:
        refusal = error
    if admission is None:
        snapshot = catalog.current()  # with which the call was refused
        key = identify_in(snapshot, secret)
        try:
            steps = steps_of(snapshot, call, key, affinity)
        except GatewayError:
            steps = ()
    else:
        snapshot, key = admission.catalog, admission.key
        steps = (*(step for step, _ in admission.passed_over), *admission.steps)
    planned = []
    for step in steps:
        asked = Asked(snapshot, call, key, request_id, (step,), ledger_hold=ledger.would_hold)
        ceiling = asked.ceiling if admission is None else admission.ceiling(step)
        budgets = budgets_of(step, snapshot, call, key)
        planned.append(_planned(step, ceiling, budgets, _refusal_of(asked), chance_of(affinity)))
    rules = dict.fromkeys(rule for each in planned for rule in each.budgets)
    try:
        books = ledger.books(rules, key.id if key.limits else None)
    except BooksUnavailable:
        raise LedgerUnavailable from None
    return Plan(key, tuple(planned), None if admission is None else admission.hold, refusal, books)


def _refusal_of(asked: Asked) -> GatewayError | None:
    try:
        asked.hold([])
    except BooksUnavailable:
        raise LedgerUnavailable from None
    except Refusal:  # the configuration has just changed, which the next dry run knows
        return None
    except GatewayError as error:
        return error
    return None


def _planned(
    step: Step, ceiling: Ceiling, budgets: tuple[BudgetRule, ...], refusal: GatewayError | None, chance: Chance | None
) -> PlannedStep:
    problem = None
    try:
        key = rotation.choose(step.provider, chance=chance, takes_turn=False)
    except (UnknownStore, NotAllowed) as error:
        key, problem = None, str(error)
    if key is None and problem is None:
        problem = "the provider's key is not there"
    return PlannedStep(
        step=step,
        ceiling=ceiling,
        budgets=budgets,
        refusal=refusal,
        breaker=breaker.state_of(step),
        breaker_open_s=breaker.open_s(step),
        key_reference=None if key is None else key.reference,
        key_problem=problem,
    )
