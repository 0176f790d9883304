"""What a client asks, whichever endpoint it asks. Admission, cascade and books know nothing more of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Final, Protocol, cast

from accounting.record import record
from accounting.tags import Tags
from accounting.usage import Meter, Tier, Usage
from routing.catalog import Step
from routing.exceptions import GatewayError
from routing.upstreams.base import AnswerStream, Json, Leash, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind

#: What a step has answered: a whole answer's body, or the text of a stream so far.
Received = Json | str


#: No output cap of ours is narrowed below this, and it is that of models whose maximum nobody knows.
LEAST_OUTPUT_CAP_TOKENS: Final = 4_096


class CappedBy(Enum):
    """Whose the output cap is."""

    CLIENT = "client"
    ALIAS = "alias"
    MODEL = "model"  # its own maximum, which is narrowed where a hard budget is small
    NOBODY = "nobody"  # the format has no cap: the maximum is what the model itself cannot exceed


@record(frozen=True, slots=True)
class Quantities:
    """The most that a step may consume."""

    input_tokens: int
    output_cap_tokens: int  # of each answer
    capped_by: CappedBy = CappedBy.CLIENT
    answers: int = 1  # how many are asked for at once
    predicted_tokens: int = 0  # of each answer, which may be billed as output beyond the cap; a research's thoughts too
    tier: Tier = Tier.STANDARD  # that is asked for
    tiers: frozenset[Tier] = frozenset({Tier.STANDARD})  # in which the step may be served
    units: Mapping[str, Decimal] = field(default_factory=dict)  # what is not tokens, by name: searches
    needs: Mapping[str, Meter] = field(default_factory=dict)  # parameter → what must have a price of its own
    #: The parameter without whose bound no number of tokens is one, and why. It matters where tokens have a price.
    endless: tuple[str, str] | None = None

    @property
    def output_tokens(self) -> int:
        return (self.output_cap_tokens + self.predicted_tokens) * self.answers


class Unbounded(ValueError):
    """The cost of a part of the request cannot be bounded. ``param`` names that part: ``messages[2].content[1]``.

    ``bounded`` is the bound of all other parts. It is used where no hard budget applies."""

    def __init__(self, param: str, why: str, bounded: Quantities) -> None:
        super().__init__(why)
        self.param = param
        self.bounded = bounded


@dataclass(frozen=True, slots=True)
class Consumed:
    """What a streamed answer has come to, as the books have it."""

    usage: Usage
    cost_usd: Decimal | None  # of all attempts; None: no price is known
    is_counted: bool  # the usage is what the provider reported, and its report may be handed on as it is


class Client(Leash, Protocol):
    """Who waits for a streamed answer."""

    @property
    def is_gone(self) -> bool: ...

    def leave(self) -> None:
        """It is gone, says somebody who was about to write to it."""

    def release(self) -> None:
        """The answer is over, so stop watching its client."""


class Partial(Protocol):
    """The part of a streamed answer that has come, and what of it is held back from the client."""

    @property
    def received(self) -> str:
        """The text that the serving step has sent, for an estimate of its usage."""

    @property
    def is_finished(self) -> bool:
        """Whether the answer has said that it ends: only its count may follow."""

    @property
    def can_be_continued(self) -> bool:
        """Whether another step could honestly go on from here."""

    def receive(self, event: Json) -> Iterable[Json]:
        """Take one more event, and return the events that may be sent now."""

    def begin_anew(self) -> None:
        """Another step goes on with the answer: drop what was held back, and count what is received from zero."""


class Call(Protocol):
    """One request of a client, in the words of its endpoint."""

    @property
    def endpoint(self) -> str: ...

    @property
    def kind(self) -> Kind:
        """Of the models that it can be sent to."""

    @property
    def alias(self) -> str: ...

    @property
    def streamed(self) -> bool: ...

    @property
    def end_user(self) -> str: ...

    @property
    def tags(self) -> Tags: ...

    @property
    def is_adapted(self) -> bool:
        """Whether the gateway has changed what is asked, so that a refusal may not be the client's fault."""

    def left_s(self) -> float:
        """How long the client will still wait; infinite when it did not say."""

    def ceiling(self, step: Step) -> Quantities:
        """The most that the step may consume. Raises Unbounded."""

    def request_for(self, step: Step, most: Quantities) -> Json:
        """The request for this step, with the output cap with which the ceiling was computed."""

    def ask_otherwise(self, step: Step) -> bool:
        """The step refused the request. True: from now on :meth:`request_for` asks this step in other words."""

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        """Ask for the whole answer, by the upstream's method for this endpoint. Raises UpstreamError."""

    def estimate(self, received: Received, step: Step) -> Usage:
        """What the step has consumed, estimated because the provider gave no count."""


class StreamedCall(Call, Protocol):
    """A call of an endpoint that can stream its answer."""

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        """Ask for the answer as a stream, by the upstream's method for this endpoint. Raises UpstreamError."""

    def partial(self, *, is_rescuable: bool) -> Partial:
        """A new record of a streamed answer. It holds nothing back when no step could continue the answer."""

    def continuation(self, partial: Partial, said_tokens: int) -> Call:
        """The call that asks for the rest of the answer. ``said_tokens`` is how long it is so far."""


class BoundCall(Protocol):
    """A call that not every step can answer, because it goes on from what a provider keeps."""

    def may_ask(self, step: Step) -> bool: ...

    def prefers_key(self, secret: str) -> bool:
        """Whether the provider keeps it for the account of this key."""

    def nobody_to_ask(self) -> GatewayError:
        """The refusal when no step of the chain may be asked."""


def as_bound(call: Call) -> BoundCall | None:
    """The call, when it is one. ``isinstance`` would look through the protocol with each request."""
    return cast(BoundCall, call) if hasattr(call, "may_ask") else None


def askable(call: Call, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Those of the steps that could answer."""
    bound = as_bound(call)
    return steps if bound is None else tuple(step for step in steps if bound.may_ask(step))


def as_streamed(call: Call) -> StreamedCall:
    """The call, which asks for a stream: only endpoints that can stream make such calls."""
    assert call.streamed
    return cast(StreamedCall, call)
