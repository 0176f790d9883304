"""What a client asks, whichever endpoint it asked: all that admission, cascade and books know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from accounting.usage import Usage
from routing.catalog import Step
from routing.upstreams.base import AnswerStream, Json, Leash

#: What a step has answered: a whole answer's body, or the text of a stream so far.
Received = Json | str


@dataclass(frozen=True, slots=True)
class Quantities:
    """The most that a step may consume."""

    input_tokens: int
    output_cap_tokens: int  # of each answer
    answers: int = 1  # how many are asked for at once

    @property
    def output_tokens(self) -> int:
        return self.output_cap_tokens * self.answers


class Unbounded(ValueError):
    """Content that nobody can bound. ``param`` names it, as ``messages[2].content[1]``; ``bounded`` is the bound of all
    the rest, for where nothing has to be bounded."""

    def __init__(self, param: str, why: str, bounded: Quantities | None = None) -> None:
        super().__init__(why)
        self.param = param
        self.bounded = bounded or Quantities(0, 0)


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
        """The answer is over: its client is watched no longer."""


class Partial(Protocol):
    """What has come of a streamed answer, and what of it is held back from the client."""

    @property
    def received(self) -> str:
        """The text that the serving step has said, for an estimate."""

    @property
    def is_finished(self) -> bool:
        """Whether the answer has said that it ends: only its count may follow."""

    @property
    def can_be_continued(self) -> bool:
        """Whether another step could honestly go on from here."""

    def receive(self, event: Json) -> Iterable[Json]:
        """The events that may be sent now that this one has come."""

    def begin_anew(self) -> None:
        """Another step goes on: what was held back is dropped, and what was received is its predecessor's."""


class Call(Protocol):
    """One request of a client, in the words of its endpoint."""

    @property
    def endpoint(self) -> str: ...

    @property
    def alias(self) -> str: ...

    @property
    def streamed(self) -> bool: ...

    @property
    def end_user(self) -> str: ...

    @property
    def tags(self) -> Mapping[str, str]: ...

    @property
    def is_adapted(self) -> bool:
        """Whether the gateway has changed what is asked, so that a refusal may not be the client's fault."""

    def left_s(self) -> float:
        """Of the time that the client waits; endless when it did not say."""

    def ceiling(self, step: Step) -> Quantities:
        """The most that the step may consume. Raises Unbounded."""

    def request_for(self, step: Step) -> Json:
        """What the step is asked, with the caps that the ceiling counted with."""

    def ask_otherwise(self, step: Step) -> bool:
        """The step refused what it was asked. True: from now on :meth:`request_for` asks it in other words."""

    def read(self, stream: AnswerStream, step: Step) -> AnswerStream:
        """The step's events as the answer to this call."""

    def estimate(self, received: Received, step: Step) -> Usage:
        """What the step has consumed, when nobody has counted."""

    def partial(self, *, is_rescuable: bool) -> Partial:
        """Where a stream's events are kept. Nothing is held back of an answer that nobody could go on with."""

    def continuation(self, partial: Partial, said_tokens: int) -> Call:
        """The call that asks for the rest of an answer, of which so many tokens have been said."""
