"""The interface through which the cascade calls providers.

Three kinds of upstream implement it: ``relay``, ``translate`` and ``sdk``. The cascade cannot tell them apart. Each
time that an upstream is asked for an answer, at most one of its HTTP calls makes a provider work. It never retries,
never falls back, touches no database, and turns every failure into one :class:`UpstreamError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

from accounting.record import record
from accounting.usage import Usage
from routing.upstreams.scrubbing import identifier, scrubbed, word

#: A chat completion request, answer or stream chunk, in OpenAI's format. It is a plain dictionary because bodies come
#: from JSON and go to JSON, and unknown keys must survive.
Json = dict[str, Any]


#: So many first-token limits is a provider waited for that sends pings or comments and no content ...
LIVING_FACTOR: Final = 10
#: ... and a model that thinks in silence, but no longer than this, unless the limit itself is longer.
MAX_THINKING_S: Final = 120.0


@record(frozen=True, slots=True)
class Timeouts:
    """The four limits of one attempt, in seconds. Any byte of a stream is a sign of life."""

    connect_s: float = 5.0
    first_token_s: float = 12.0  # streams only: to the first content event, from the call or the last sign of life
    idle_s: float = 15.0  # streams only: between two signs of life, once there was content
    total_s: float = 600.0  # the whole attempt; for whole answers the only limit after connect
    thinking_s: float = 120.0  # what first_token_s is for a model that thinks in silence

    @property
    def living_s(self) -> float:
        """Streams only: from the call to the first content event of a provider that shows that it lives."""
        return min(self.total_s, LIVING_FACTOR * self.first_token_s)

    def within(self, left_s: float) -> Timeouts:
        """The same limits, each of them at most ``left_s``."""
        if left_s >= self.total_s:
            return self
        left_s = max(0.001, left_s)
        return Timeouts(min(self.connect_s, left_s), min(self.first_token_s, left_s), min(self.idle_s, left_s), left_s)

    def for_a_thinker(self) -> Timeouts:
        return replace(self, first_token_s=self.thinking_s)


def thinking_limit_s(first_token_s: float) -> float:
    """The first-token limit of a model that thinks in silence, where others have this one."""
    return max(first_token_s, min(LIVING_FACTOR * first_token_s, MAX_THINKING_S))


@dataclass(frozen=True, slots=True)
class File:
    """A file that a client has sent, in memory. The name and the type are the client's word and prove nothing."""

    name: str
    content_type: str
    content: bytes
    seconds: int | None = None  # that its sound lasts at the most, begun ones too; None: nobody has measured it


@dataclass(frozen=True, slots=True)
class Content:
    """An answer, or the beginning of one, that is bytes and no JSON: sound, or text."""

    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider: everything an upstream needs to call it, without a database."""

    provider: str  # the provider's public name, as the ledger shows it
    litellm_provider: str  # litellm's word for its wire format: "openai", "anthropic", "gemini", "groq" …
    model: str  # the model's name at the provider
    base_url: str | None  # None: the provider's own default
    timeouts: Timeouts
    api_version: str | None = None
    parameters: tuple[tuple[str, str | int | float | bool], ...] = ()  # names are litellm's; os.environ/NAME as written


class Leash(Protocol):
    """Ends a call from outside when its client is gone."""

    def on_gone(self, end: Callable[[], None] | None) -> None:
        """From now on ``end`` ends the call. It is called at once when the client is gone. None: nothing to end."""


@record(frozen=True, slots=True)
class UpstreamRequest:
    """One attempt. ``body`` is the client's request in OpenAI's format with the output cap applied;
    its ``model`` is still the alias. Upstreams must not mutate it: further attempts send it again."""

    deployment: Deployment
    api_key: str
    body: Mapping[str, Any]
    timeouts: Timeouts  # the deployment's, possibly narrowed by the client's x-gateway-timeout
    leash: Leash | None = None  # streams only: a whole answer is waited for, because only its end says what was billed


#: What a stream gives that was asked to :meth:`AnswerStream.beat` when there is nothing to hand on.
QUIET: Final[Json] = {}


@record(frozen=True, slots=True)
class WholeAnswer:
    """A complete ``chat.completion`` object, or that of another endpoint, in OpenAI's format. An answer that is no JSON
    is a :class:`Content` in its ``content``.

    ``usage`` is None when the provider reported no usage."""

    body: Json
    usage: Usage | None
    http_status: int
    provider_request_id: str | None
    service_tier: str | None = None  # the tier that the provider says it served; it decides the price
    dropped_params: tuple[str, ...] = ()  # of the client's request: what this provider was not asked


class AnswerStream(Protocol):
    """``chat.completion.chunk`` objects in OpenAI's format. Of an answer that is bytes and no events, each has those
    that came, as a :class:`Content`, in its ``content``.

    When the provider reports usage, the last chunk is the usage chunk (``choices: []``), whether the client asked for
    it or not.

    Iterating raises :class:`UpstreamError` when the provider fails in mid-stream, stalls beyond
    ``idle_s``, exceeds ``first_token_s``/``total_s``, or ends without a finish reason. ``close()`` closes
    the provider's connection at once and is idempotent; it may be called from another greenlet/thread.
    """

    http_status: int
    provider_request_id: str | None
    dropped_params: tuple[str, ...]  # of the client's request: what this provider was not asked

    @property
    def usage(self) -> Usage | None:
        """What the provider has reported so far (Anthropic: input at the start, output at the end)."""

    @property
    def service_tier(self) -> str | None:
        """The tier that the provider says it served, once it has said so."""

    @property
    def has_event(self) -> bool:
        """Whether the next event, or :data:`QUIET`, comes without a wait. False: nobody knows."""

    def __iter__(self) -> Iterator[Json]: ...

    def __next__(self) -> Json: ...

    def beat(self, every_s: float) -> None:
        """From now on the stream gives :data:`QUIET` when it had no event for so long, whether its provider is silent
        or sends pings. Streams of litellm's SDK cannot."""

    def close(self) -> None: ...


class Upstream(Protocol):
    """One attempt at one deployment."""

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        """Call and wait for the complete answer. Raises UpstreamError."""

    def stream(self, request: UpstreamRequest) -> AnswerStream:
        """Call, read the status and headers, and hand back the stream. Raises UpstreamError."""

    def messages(self, request: UpstreamRequest, headers: Mapping[str, str]) -> WholeAnswer:
        """Anthropic's Messages, of a request in that format, with the client's headers that the format knows. Only
        where the provider's row has that dialect. Raises UpstreamError."""

    def messages_stream(self, request: UpstreamRequest, headers: Mapping[str, str]) -> AnswerStream:
        """The same as a stream. Each chunk has the provider's event as ``native``, and its bytes as ``raw``; what it
        says is beside them as in a chunk of a chat completion, with ``choices`` empty when it says nothing."""

    def responses(self, request: UpstreamRequest) -> WholeAnswer:
        """OpenAI's Responses, of a request in that format. Only where `responses_dialect.speaks`. Raises
        UpstreamError."""

    def responses_stream(self, request: UpstreamRequest) -> AnswerStream:
        """The same as a stream. Each chunk has the provider's event as ``native``; what it says is beside it as in a
        chunk of a chat completion, with ``choices`` empty when it says nothing."""

    def responses_kept(self, request: UpstreamRequest, method: str, resource: str) -> Json:
        """What the provider keeps of a response, by HTTP's method and the path behind its address: ``responses/…``.
        It costs nothing. Raises UpstreamError."""

    def contents(self, request: UpstreamRequest) -> WholeAnswer:
        """Google's generateContent, of a request in that format. Only where the provider's row has that dialect."""

    def contents_stream(self, request: UpstreamRequest) -> AnswerStream:
        """The same as a stream, whose chunks are as those of :meth:`messages_stream`, without ``raw``."""

    def complete(self, request: UpstreamRequest) -> WholeAnswer:
        """OpenAI's completions of the old kind, of a request in that format; the answer is put into chat's shape. Only
        where :func:`routing.upstreams.completions.is_native` says that the provider has them. Raises UpstreamError."""

    def complete_stream(self, request: UpstreamRequest) -> AnswerStream:
        """The same as a stream."""

    def draw(self, request: UpstreamRequest) -> WholeAnswer:
        """OpenAI's pictures, of a request in its format; with files as ``image``, these are changed. Raises
        UpstreamError."""

    def draw_stream(self, request: UpstreamRequest) -> AnswerStream:
        """The same as a stream, in one event a picture where the provider does not stream. Each chunk has the event
        as ``native``."""

    def moderate(self, request: UpstreamRequest) -> WholeAnswer:
        """OpenAI's moderations, of a request in its format. Raises UpstreamError."""

    def rerank(self, request: UpstreamRequest) -> WholeAnswer:
        """Documents put in order, of a request in Cohere's format. Raises UpstreamError."""

    def embed(self, request: UpstreamRequest) -> WholeAnswer:
        """OpenAI's embeddings, of a request in its format. Raises UpstreamError.

        More inputs than the provider takes at once are asked for in several calls, one after the other. When one of
        them fails, the error's usage is that of the calls before it."""

    def speak(self, request: UpstreamRequest) -> AnswerStream:
        """OpenAI's speech: the sound, as it comes. Raises UpstreamError."""

    def write_down(self, request: UpstreamRequest, resource: str) -> WholeAnswer:
        """OpenAI's transcriptions or translations, whose path ``resource`` is, of a form in its format. Raises
        UpstreamError."""

    def write_down_live(self, request: UpstreamRequest, resource: str) -> AnswerStream:
        """The same as a stream."""


class FailureKind(StrEnum):
    """Why an attempt failed. Each kind has the value of an `accounting.outcomes.Outcome`, which the books keep."""

    RATE_LIMITED = "rate_limited"  # 429
    OVERLOADED = "server_error"  # 500, 502, 503, 504, Anthropic's 529
    CONNECTION = "connection"  # refused or reset before an answer
    TIMEOUT = "timeout"  # any of the four limits
    AUTHENTICATION = "authentication"  # our account: key, credit, region, organisation
    NOT_FOUND = "not_found"  # our model or base URL is wrong
    NO_KEY = "no_key"  # the provider's key reference resolves to nothing
    BAD_REQUEST = "bad_request"  # 400, 413, 422: the client's request is wrong
    CONTEXT_WINDOW = "context_window"  # the prompt is too long, whatever the status
    CONTENT_POLICY = "content_policy"  # the content is refused, whatever the status
    CAPABILITY = "capability"  # the model cannot do what the request needs: pictures, tools, sound
    MALFORMED = "malformed"  # not JSON, not the documented shape
    EMPTY = "empty"  # a well-formed answer with nothing in it
    INTERRUPTED = "interrupted"  # the stream broke after its first event
    BREAKER_OPEN = "breaker_open"  # not called at all
    UNPRICED = "unpriced"  # not called at all: a hard budget applies, and the deployment has no price
    UNBOUNDED = "unbounded_cost"  # not called at all: a hard budget applies, and the cost cannot be bounded
    NO_ROOM = "no_room"  # not called at all: a budget has no room for what it could cost


#: OpenAI and Groq name the limit so. https://console.groq.com/docs/rate-limits
_PACE: Final = re.compile(r"tokens per (?:min|minute|day)\b|\((?:TPM|TPD)\)", re.IGNORECASE)


class UpstreamError(Exception):
    """The one failure that leaves ``routing.upstreams``.

    ``retryable``: the same deployment may answer a second try. ``retry_after_s``: the provider's own wish.
    ``message``/``error_type``/``code``/``param``: the provider's words for the client, scrubbed of secrets and
    of the upstream's URL, and short. ``secret``: our key, which may stand in any of them.
    ``usage``: what the failed attempt nevertheless consumed, when known.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        error_type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        provider_request_id: str | None = None,
        usage: Usage | None = None,
        consumed: bool = False,
        secret: str = "",
    ) -> None:
        self.kind = kind
        self.message = scrubbed(message, secret)
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.error_type = word(error_type, secret)
        self.code = word(code, secret)
        self.param = word(param, secret)
        self.provider_request_id = identifier(provider_request_id, secret)
        self.usage = usage
        self.consumed = consumed
        super().__init__(f"{kind}: {self.message}")

    @property
    def client_status(self) -> int:
        """The status that the client gets for a refusal of its request.

        A provider's 403, 404 or 429 would tell the client that its key, its model or its pace is wrong: official
        clients act by the status alone."""
        return self.http_status if self.http_status in (400, 413, 415, 422) else 400

    @property
    def is_beyond_our_pace(self) -> bool:
        """Whether the prompt is too long for what our account may send in a minute, and not for the model. Another
        account or provider may take it."""
        return self.kind is FailureKind.CONTEXT_WINDOW and (
            self.http_status == 429 or _PACE.search(self.message) is not None
        )

    @property
    def retryable(self) -> bool:
        """The same deployment may answer a second try (contract, "When the cascade moves")."""
        return self.kind in (FailureKind.RATE_LIMITED, FailureKind.OVERLOADED, FailureKind.CONNECTION)
