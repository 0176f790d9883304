"""A provider's format: what `translate` asks of it, and a request that is written in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from routing.upstreams import plain_answers
from routing.upstreams.base import Json, UpstreamError, UpstreamRequest
from routing.upstreams.http.transport import Whole
from routing.upstreams.plain_conversations import Conversation


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request in the provider's format. `context` is what the answer's translation needs to know of it, `dropped`
    the client's parameters that are not in it, or not as the client gave them."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    context: Mapping[str, Any]
    dropped: tuple[str, ...] = ()
    #: Whether the client offered `functions`, and so knows no `tool_calls`.
    calls_functions: bool = False


class Parser(Protocol):
    """litellm's `ModelResponseIterator` of the provider."""

    def chunk_parser(self, chunk: dict[str, Any]) -> Any: ...


class WireFormat(Protocol):
    """A provider's format. `prepare` raises UpstreamError CAPABILITY for what cannot be said in it."""

    parameters: Collection[str]
    #: Where an answer has its usage, and what to put there when the provider left it out: litellm insists on it.
    usage_name: str
    no_usage: Mapping[str, int]
    #: Whether a count of a stream may leave out what an earlier one said.
    counts_add_up: bool

    def prepare(self, request: UpstreamRequest, *, streamed: bool) -> Prepared: ...

    def learn(self, prepared: Prepared, said: bytes, model: str) -> bool:
        """Whether the provider refuses the request for something that can be left out, and that `prepare` leaves out
        from now on."""

    def told(self, conversation: Conversation) -> Json:
        """The parts of a request's body that have its conversation."""

    def read(self, prepared: Prepared, answer: Whole) -> Any:
        """litellm's ModelResponse. Raises whatever litellm raises."""

    def plain_answer(self, answer: Json, prepared: Prepared, model: str, tier: str | None) -> Json | None:
        """A whole answer as a `chat.completion`, if it is text alone. None: litellm reads it."""

    def parser(self, prepared: Prepared, headers: Mapping[str, str]) -> Parser: ...

    def readable(self, event: Json, prepared: Prepared) -> Json:
        """An answer or event that litellm reads rightly."""

    def failed_turn(self, event: Json) -> str | None:
        """The provider's word for a turn that failed, though it ended."""

    def finished(self, event: Json) -> Collection[int]:
        """The choices that this event says are complete. litellm's parser calls every Gemini chunk finished."""

    def is_end(self, event: Json) -> bool:
        """Whether the stream says that this is its last event."""

    def without_running_count(self, event: Json) -> tuple[Json, Json | None]:
        """The event without a count that later ones repeat and go beyond, and that count as an event of its own.
        litellm takes as long to read it as to read all else, and only the last one matters."""

    def plain_text(self, event: Json) -> str | None:
        """The text of an event that says nothing else, as nearly all do. None: it is not so."""

    def plain_rest(self, event: Json) -> plain_answers.Rest | None:
        """What another event of such an answer says. None: litellm reads it."""

    def plain_usage(self, counts: Sequence[Json]) -> Json | None:
        """The usage of an answer that was text alone, by the events that counted it. None: litellm reads them."""

    def answer_id(self, event: Json) -> str | None:
        """The provider's id of the answer that is the client's too."""

    def refusal(self, event: Json, secret: str) -> UpstreamError | None:
        """The refusal that an answer of status 200 is, if it is one."""

    def without_answer(self, body: Json) -> Json:
        """A whole answer without what the model said: its count can be read even where the rest cannot."""

    def service_tier(self, event: Json) -> object:
        """The tier that a whole answer or an event says it was served at."""
