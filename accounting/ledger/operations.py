"""Operations: what requests ask of the ledger, on its way through the writer's queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeGuard, TypeVar

from accounting.budgets import BudgetRule
from accounting.ledger.records import Hold, HoldRequest, Settlement, TopUpRequest, Withdrawal

Payload_co = TypeVar("Payload_co", covariant=True)
Outcome = TypeVar("Outcome")


class Operation(Generic[Payload_co, Outcome]):
    """A payload and, once it is decided, its outcome or the error. The request waits on ``done``."""

    __slots__ = ("_claim", "done", "given_up", "outcome", "payload", "retry_at", "tries")

    def __init__(self, payload: Payload_co) -> None:
        self.payload = payload
        self.done = threading.Event()
        self.outcome: Outcome | Exception | None = None
        self.given_up = False  # the request has stopped waiting
        self.tries = 0  # how often Postgres has refused the operation by itself
        self.retry_at = 0.0  # monotonic
        # An outcome is either handed over or given up, never both: whoever takes the only item decides. Taking it is
        # one step for all threads.
        self._claim = [True]

    def finish(self, outcome: Outcome | Exception) -> bool:
        """Hand the outcome over, once. False: the request has given up."""
        self.outcome = outcome
        is_handed_over = self._claimed()
        self.done.set()
        return is_handed_over

    def give_up(self) -> bool:
        """Stop waiting. False: the outcome came at the last moment and counts."""
        self.given_up = self._claimed()
        return self.given_up

    def _claimed(self) -> bool:
        try:
            return self._claim.pop()
        except IndexError:
            return False


Holding: TypeAlias = Operation[HoldRequest, Hold]
ToppingUp: TypeAlias = Operation[TopUpRequest, Hold]
Settling: TypeAlias = Operation[Settlement | Withdrawal, bool]  # False: it was settled before
AnyOperation: TypeAlias = Holding | ToppingUp | Settling


class Decision(NamedTuple, Generic[Outcome]):
    """What a transaction has decided about an operation; the operation learns of it after the commit."""

    operation: Operation[object, Outcome]
    outcome: Outcome | Exception

    def hand_over(self) -> bool:
        """False: the request has given up."""
        return self.operation.finish(self.outcome)


AnyDecision: TypeAlias = Decision[Hold] | Decision[bool]


class Batch(NamedTuple):
    """The operations of one transaction by kind, in the order in which they are decided.

    Settlements come first, because what they return makes room for the holds of the same batch.
    """

    settling: list[Settling]
    topping_up: list[ToppingUp]
    holding: list[Holding]

    @classmethod
    def of(cls, operations: Sequence[AnyOperation]) -> Batch:
        return cls(
            [operation for operation in operations if is_settling(operation)],
            [operation for operation in operations if is_topping_up(operation)],
            [operation for operation in operations if is_holding(operation)],
        )

    def budgets(self) -> Iterator[BudgetRule]:
        """The budgets in which something new is to be held, one for each operation that asks."""
        for topping_up in self.topping_up:
            yield from topping_up.payload.budgets
        for holding in self.holding:
            yield from holding.payload.budgets


def is_settling(operation: AnyOperation) -> TypeGuard[Settling]:
    return isinstance(operation.payload, Settlement | Withdrawal)


def is_topping_up(operation: AnyOperation) -> TypeGuard[ToppingUp]:
    return isinstance(operation.payload, TopUpRequest)


def is_holding(operation: AnyOperation) -> TypeGuard[Holding]:
    return isinstance(operation.payload, HoldRequest)
