"""Providers with a format of their own (Anthropic, Gemini): litellm translates, we carry."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from traceback import walk_tb
from typing import Any, Final, NamedTuple

from django.conf import settings

from accounting.usage import Usage
from routing.upstreams import (
    anthropic_messages,
    embeddings,
    errors,
    gemini_contents,
    gemini_embeddings,
    image_translation,
    images,
    rerank,
)
from routing.upstreams.answers import cleaned, ends_empty, may_be_empty, speaks, whole_answer
from routing.upstreams.base import (
    QUIET,
    Deployment,
    FailureKind,
    Json,
    Timeouts,
    UpstreamError,
    UpstreamRequest,
    WholeAnswer,
)
from routing.upstreams.formats.anthropic import Anthropic
from routing.upstreams.formats.gemini import Gemini
from routing.upstreams.formats.parameters import dropped_params
from routing.upstreams.formats.wire import Parser, Prepared, WireFormat
from routing.upstreams.http.events import EventReader, is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.mends.capability import cannot, lacking
from routing.upstreams.mends.endings import as_function_call, write_function_calls
from routing.upstreams.plain_conversations import conversation_of, is_for_one, parameters_of, sample
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.relay import Chunks
from routing.upstreams.scrubbing import scrubbed
from routing.upstreams.streams import LiveStream, Progress, collected, read_events
from routing.upstreams.usage import usage_of

FORMATS: Final[Mapping[str, WireFormat]] = {"anthropic": Anthropic(), "gemini": Gemini()}

_IS_SHORT: Final = settings.GATEWAY_TRANSLATION == "short"
#: How many frames of requests are remembered, of each kind.
_FRAMES: Final = 1024

#: With what litellm begins to repeat a request's messages.
_CONVERSATION: Final = re.compile(r"[.\s]*Received (?:Messages=|- message=|tool call with)|Invalid Message passed in")


class Translate:
    """An :class:`~routing.upstreams.base.Upstream`."""

    responses = responses_stream = lacking("The provider does not speak Responses")
    responses_kept = lacking("The provider keeps no responses")
    complete = complete_stream = lacking("The provider has no completions of the old kind")
    moderate = lacking("The provider has no moderations")
    speak = lacking("The provider has no endpoint for speech here")
    write_down = write_down_live = lacking("The provider has no endpoint for transcripts here")

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        wire = FORMATS[request.deployment.litellm_provider]
        ends_at = time.monotonic() + request.timeouts.total_s
        prepared = _prepare(wire, request, streamed=False)
        answer = post(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts)
        if _is_mendable(wire, prepared, answer, request):
            return self.whole(_in_the_rest(request, ends_at))
        return _read_whole(wire, prepared, answer, request)

    def messages(self, request: UpstreamRequest, headers: Mapping[str, str]) -> WholeAnswer:
        return anthropic_messages.ask(request, headers)

    def messages_stream(self, request: UpstreamRequest, headers: Mapping[str, str]) -> LiveStream:
        return anthropic_messages.stream(request, headers)

    def contents(self, request: UpstreamRequest) -> WholeAnswer:
        return gemini_contents.ask(request)

    def contents_stream(self, request: UpstreamRequest) -> LiveStream:
        return gemini_contents.stream(request)

    def draw(self, request: UpstreamRequest) -> WholeAnswer:
        return image_translation.draw(request)

    def draw_stream(self, request: UpstreamRequest) -> LiveStream:
        return LiveStream(images.Drawn(image_translation.draw(request), request))

    def rerank(self, request: UpstreamRequest) -> WholeAnswer:
        return rerank.ask(request)

    def embed(self, request: UpstreamRequest) -> WholeAnswer:
        if request.deployment.litellm_provider == "gemini":
            return embeddings.embed(request, gemini_embeddings.send)
        raise cannot("The provider makes no embeddings", "model")

    def stream(self, request: UpstreamRequest) -> LiveStream:
        wire = FORMATS[request.deployment.litellm_provider]
        ends_at = time.monotonic() + request.timeouts.total_s
        prepared = _prepare(wire, request, streamed=True)
        answer = post_stream(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts, request.leash)
        if isinstance(answer, Whole):
            if _is_mendable(wire, prepared, answer, request):
                return self.stream(_in_the_rest(request, ends_at))
            whole = _read_whole(wire, prepared, answer, request)
            said = replayed(Whole(answer.status, answer.headers, dumps(whole.body)))
            chunks = Chunks(
                said,
                request.api_key,
                len(whole.body["choices"]),
                prepared.dropped,
                may_be_empty=may_be_empty(request.body),
            )
            return LiveStream(chunks)
        return LiveStream(Translated(answer, wire, prepared, request))


def _is_mendable(wire: WireFormat, prepared: Prepared, answer: Whole, request: UpstreamRequest) -> bool:
    """Whether the provider, which has billed nothing, would take the request without what it has just refused. False at
    the latest when nothing is left that the format can do without."""
    if answer.status != 400 or not wire.learn(prepared, answer.body, request.deployment.model):
        return False
    _frame.cache_clear()
    _frame_for_one.cache_clear()
    return True


def _in_the_rest(request: UpstreamRequest, ends_at: float) -> UpstreamRequest:
    """The request in what is left of its attempt's time."""
    return replace(request, timeouts=request.timeouts.within(ends_at - time.monotonic()))


def _dropped(wire: WireFormat, prepared: Prepared, request: UpstreamRequest) -> tuple[str, ...]:
    """What is not translated, and what was mended."""
    left_out = set(dropped_params(request.body, request.deployment, wire.parameters))
    if prepared.calls_functions:
        left_out -= {"functions", "function_call"}
    return tuple(sorted(left_out.union(prepared.dropped)))


def _prepare(wire: WireFormat, request: UpstreamRequest, *, streamed: bool) -> Prepared:
    if not request.api_key:
        # litellm would go and look in the environment.
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    errors.authorization(request.api_key)
    said = conversation_of(request.body) if _IS_SHORT else None
    parameters = parameters_of(request.body) if said is not None else None
    if said is None or parameters is None:
        return _by_litellm(wire, request, streamed=streamed)
    to = request.deployment
    asked = _Asked(to.litellm_provider, to.model, to.base_url, request.api_key, parameters, streamed, bool(said.system))
    frame = (_frame_for_one if is_for_one(request.body) else _frame)(asked)
    if frame is None:
        return _by_litellm(wire, request, streamed=streamed)
    return Prepared(
        frame.url,
        frame.headers,
        {**frame.body, **wire.told(said)},
        {**frame.context, "messages": request.body["messages"]},
        frame.dropped,
        frame.calls_functions,
    )


class _Asked(NamedTuple):
    """All that decides what a provider is sent, but for the conversation."""

    litellm_provider: str
    model: str
    base_url: str | None
    api_key: str
    parameters: bytes
    streamed: bool
    has_system: bool


def _made_frame(asked: _Asked) -> Prepared | None:
    """What litellm makes of such a request with a conversation of ours. None: the two would differ in more than the
    parts that have the conversation, or litellm cannot translate them."""
    wire = FORMATS[asked.litellm_provider]
    messages = sample(with_system=asked.has_system)
    said = conversation_of({"messages": messages})
    assert said is not None
    body = {**loads(asked.parameters), "messages": messages}
    deployment = Deployment("", asked.litellm_provider, asked.model, asked.base_url, Timeouts())
    request = UpstreamRequest(deployment, asked.api_key, body, Timeouts())
    try:
        frame = _by_litellm(wire, request, streamed=asked.streamed)
    except UpstreamError:
        return None
    return frame if dumps({**frame.body, **wire.told(said)}) == dumps(frame.body) else None


#: Frames for one end user are kept apart, because there may be so many that they would push out all others.
_frame: Final = lru_cache(maxsize=_FRAMES)(_made_frame)
_frame_for_one: Final = lru_cache(maxsize=_FRAMES)(_made_frame)


def _by_litellm(wire: WireFormat, request: UpstreamRequest, *, streamed: bool) -> Prepared:
    """The request as litellm translates it."""
    try:
        prepared = wire.prepare(request, streamed=streamed)
    except UpstreamError:
        raise
    except Exception as error:
        if isinstance(error, TypeError | AttributeError | ImportError) and not _raised_in_litellm(error):
            raise  # our call of litellm is wrong, whatever the client has sent
        said = scrubbed(_reason(error), request.api_key)
        raise cannot(f"The request cannot be translated to the provider's format: {said}") from error
    return replace(prepared, dropped=_dropped(wire, prepared, request))


def _reason(error: Exception) -> str:
    """What litellm says is wrong, without the conversation that it repeats: a refusal is kept in the books."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, AttributeError | TypeError):
        return "a value has a type that it cannot have"
    said = str(getattr(error, "message", None) or error) or type(error).__name__
    cause = said.rpartition("Received error=")[2]
    reason = _CONVERSATION.split(cause)[0].strip()
    return f"{reason} is missing" if re.fullmatch(r"'\w+'", reason) else reason


def _raised_in_litellm(error: Exception) -> bool:
    """Whether litellm has at least looked at the request. It has not when it is called with wrong arguments."""
    frames = walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__", "")).partition(".")[0] == "litellm" for frame, _ in frames)


def _headers(prepared: Prepared) -> dict[str, str]:
    return {**prepared.headers, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}


def _read_whole(wire: WireFormat, prepared: Prepared, answer: Whole, request: UpstreamRequest) -> WholeAnswer:
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    request_id = errors.request_id(answer.headers, request.api_key)
    if is_stream(answer):
        stream = LiveStream(Translated(replayed(answer), wire, prepared, request))
        body = collected(stream)
        whole = whole_answer(
            body, answer.status, request_id, may_be_empty=may_be_empty(request.body), secret=request.api_key
        )
        return replace(whole, service_tier=stream.service_tier, dropped_params=prepared.dropped)
    try:
        raw = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers, request.api_key) from None
    plain = None
    if _IS_SHORT and isinstance(raw, dict):
        header = answer.headers.get(gemini_contents.TIER_HEADER)
        plain = wire.plain_answer(raw, prepared, request.deployment.model, header)
    if plain is not None:
        return WholeAnswer(
            plain, usage_of(plain["usage"]), answer.status, request_id, _tier(wire, answer, raw), prepared.dropped
        )
    failure = errors.from_event(raw, provider_request_id=request_id, secret=request.api_key)
    if failure is None and isinstance(raw, dict):
        failure = wire.refusal(raw, request.api_key)
        if failure is not None and raw.get(wire.usage_name):
            failure.usage = _usage_alone(wire, prepared, answer, raw)
    if failure is not None:
        failure.provider_request_id = request_id
        raise failure
    if not isinstance(raw, dict):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    body = _as_chat_completion(wire, prepared, answer, raw, request.api_key)
    body["model"] = request.deployment.model
    if reason := wire.failed_turn(raw):
        failed = _failed_turn(reason)
        failed.http_status, failed.provider_request_id = answer.status, request_id
        failed.usage, failed.consumed = usage_of(body.get("usage")), True
        raise failed
    whole = whole_answer(
        body, answer.status, request_id, may_be_empty=may_be_empty(request.body), secret=request.api_key
    )
    if prepared.calls_functions:
        write_function_calls(whole.body["choices"], "message")
    return replace(whole, service_tier=_tier(wire, answer, raw), dropped_params=prepared.dropped)


def _tier(wire: WireFormat, answer: Whole, raw: Json) -> str | None:
    tier = wire.service_tier(raw) or answer.headers.get(gemini_contents.TIER_HEADER)
    return tier if isinstance(tier, str) else None


def _as_chat_completion(wire: WireFormat, prepared: Prepared, answer: Whole, raw: Json, secret: str) -> Json:
    reports_usage = bool(raw.get(wire.usage_name))
    if not reports_usage:
        raw[wire.usage_name] = dict(wire.no_usage)
    try:
        readable = wire.readable(raw, prepared)
        if not reports_usage or readable is not raw:
            answer = Whole(answer.status, answer.headers, dumps(readable))
        body = cleaned(wire.read(prepared, answer).model_dump(exclude_none=True))
    except Exception as error:
        usage = _usage_alone(wire, prepared, answer, raw) if reports_usage else None
        raise errors.malformed(answer.status, answer.headers, secret, usage) from error
    if not reports_usage:
        body.pop("usage", None)
    return body


def _failed_turn(reason: str) -> UpstreamError:
    """The model did not say what it meant to say: to a client it would look like the end of its work."""
    return UpstreamError(FailureKind.MALFORMED, f"The model's turn failed ({reason})")


def _usage_alone(wire: WireFormat, prepared: Prepared, answer: Whole, raw: Json) -> Usage | None:
    """What the provider counts for an answer that is none: a prompt that it blocked, or what litellm cannot read."""
    try:
        counted = replace(answer, body=dumps(wire.without_answer(raw)))
        return usage_of(wire.read(prepared, counted).model_dump().get("usage"))
    except Exception:  # noqa: BLE001 - a count that litellm cannot read must not mask the failure
        return None


class Translated:
    """A :class:`~routing.upstreams.streams.Source`: a stream that litellm's parser of its format reads.

    What litellm's `CustomStreamWrapper` makes of its parser's chunks is done here: the role in the first delta
    alone, deltas with nothing in them dropped, the finish reason in a chunk of its own behind the content, and last
    the usage. Beyond it: every choice gets its finish reason, not the first alone.
    """

    def __init__(self, reader: EventReader, wire: WireFormat, prepared: Prepared, request: UpstreamRequest) -> None:
        self.http_status = reader.status
        self.dropped_params = prepared.dropped
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.progress = Progress(may_be_empty=may_be_empty(request.body))
        self.service_tier: str | None = reader.headers.get(gemini_contents.TIER_HEADER)
        self._reader = reader
        self._wire = wire
        self._prepared = prepared
        self._is_converted = bool(prepared.context.get("json_mode"))
        self._parser: Parser | None = None  # litellm's, once it has to read an event
        self._secret = request.api_key
        self._head: Json = {
            "id": f"chatcmpl-{uuid.uuid4()}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.deployment.model,
        }
        self._id_known = False
        self._usage: Any = None  # as litellm counts
        self._counts: list[Json] = []  # the events that have counted since, and are not read yet
        self._plain_usage: Json | None = None  # what those come to, as far as that is known
        self._finish: dict[int, str] = {}
        self._opened: set[int] = set()  # the choices whose first delta was sent
        self._calling: set[int] = set()  # those with tool calls
        self._arguments: dict[tuple[int, int], bool] = {}  # of each call, by choice and place: whether it has any yet
        self._failed_turn: str | None = None

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._usage_dict())

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _usage_dict(self) -> Json | None:
        if self._counts and self._parser is None and self._plain_usage is None:
            self._plain_usage = self._wire.plain_usage(self._counts)
        if self._plain_usage is not None:
            return dict(self._plain_usage)
        self._read_counts()
        if self._usage is None:
            return None
        usage: Json = self._usage.model_dump(exclude_none=True)
        return usage

    def _count_by(self, *events: Json) -> None:
        """From now on the usage is what litellm has counted and what these events say."""
        self._counts, self._plain_usage = list(events), None

    def _read_counts(self) -> None:
        counts = self._counts
        self._count_by()
        for count in counts:
            with suppress(Exception):  # a count that litellm cannot read is none
                self._usage = self._litellms().chunk_parser(count).usage or self._usage

    def _litellms(self) -> Parser:
        """litellm's parser. It knows the counts that later ones go on from."""
        if self._parser is None:
            self._parser = self._wire.parser(self._prepared, self._reader.headers)
            if self._wire.counts_add_up:
                self._read_counts()
        return self._parser

    def _state(self) -> tuple[bool, bool]:
        return bool(self._finish), self._usage is not None or bool(self._counts)

    def chunks(self) -> Iterator[Json]:
        for event, _ in read_events(self._reader, self.progress, self._state):
            if event is QUIET:
                yield QUIET
                continue
            is_said = False
            for chunk in self._read(event):
                is_said = True
                yield chunk
            if is_said:
                continue
            if self._reader.beat_s is not None:
                yield QUIET  # a ping, or a thought that is not shown
            if self._wire.is_end(event):
                self._reader.finish()
                break
        yield from self._end()

    def _read(self, event: Json) -> Iterable[Json]:
        """The chunks in which the client is told what the event says. Raises the error that it is."""
        # Text may be what litellm makes of a tool's call.
        if self._is_converted or not _IS_SHORT:
            return self._translated(event)
        text, is_count = self._wire.plain_text(event), False
        if text is None:
            rest = self._wire.plain_rest(event) if self._parser is None else None
            if rest is None or (rest.is_count and not self._has_counted(event)):
                return self._translated(event)
            text, is_count = rest.text, rest.is_count
            if rest.end is not None:
                self._finish[0] = rest.end
        elif self._wire.usage_name in event:
            self._count_by({self._wire.usage_name: event[self._wire.usage_name]})
            is_count = True
        if self.service_tier is None and isinstance(tier := self._wire.service_tier(event), str):
            self.service_tier = tier
        if not self._id_known:
            self._head["id"] = self._wire.answer_id(event) or self._head["id"]
            self._id_known = True
        if text:
            is_going_on = self.progress.spoken and 0 in self._opened
            chunk = self._chunk(0, {"content": text}, None) if is_going_on else self._said(0, {"content": text})
            self.progress.is_uncounted = not is_count
            return (chunk,)
        if is_count:
            self.progress.is_uncounted = False
        return ()

    def _has_counted(self, event: Json) -> bool:
        """Takes the event's count, if it can be read without litellm."""
        counts = [*self._counts, event] if self._wire.counts_add_up else [event]
        usage = self._wire.plain_usage(counts)
        if usage is None:
            return False
        self._counts, self._plain_usage = counts, usage
        return True

    def _translated(self, event: Json) -> Iterator[Json]:
        failure = errors.from_event(event, secret=self._secret) or self._wire.refusal(event, self._secret)
        event = self._wire.readable(event, self._prepared)
        self._failed_turn = self._failed_turn or self._wire.failed_turn(event)
        finished = self._wire.finished(event)
        if self.service_tier is None and isinstance(tier := self._wire.service_tier(event), str):
            self.service_tier = tier
        event, count = self._wire.without_running_count(event)
        if count is not None:
            self._count_by(count)
        try:
            chunk = None if failure and "error" in event else self._litellms().chunk_parser(event)
        except Exception:  # noqa: BLE001 - an event that litellm cannot read is skipped, like one that is not JSON
            self.progress.malformed = True
            if event.get(self._wire.usage_name):
                self._count_by(self._wire.without_answer(event))
            return
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._usage = usage
            self._count_by()
        if failure is not None:
            raise failure
        if chunk is None:
            return
        if not self._id_known and chunk.id:
            self._head["id"] = chunk.id
            self._id_known = True
        yield from self._told(chunk.choices, finished)
        if usage is not None or count is not None:
            self.progress.is_uncounted = False  # it counts what its own event says

    def _told(self, choices: Iterable[Any], finished: Collection[int]) -> Iterator[Json]:
        for choice in choices:
            if choice.index in finished:
                self._finish[choice.index] = choice.finish_reason or "stop"
            delta = _delta(choice.delta)
            if delta:
                yield self._said(choice.index, delta, getattr(choice, "logprobs", None))

    def _said(self, index: int, delta: Json, logprobs: Any = None) -> Json:
        if "tool_calls" in delta:
            self._calling.add(index)
            self._note_arguments(index, delta["tool_calls"])
        if not self.progress.is_uncounted and speaks(delta):
            self.progress.spoken = self.progress.is_uncounted = True
            self._reader.limits.content_seen()
        if index not in self._opened:
            self._opened.add(index)
            delta = {"role": "assistant", **delta}
        if self._prepared.calls_functions:
            delta = as_function_call(delta)
        return self._chunk(index, delta, None, logprobs)

    def _note_arguments(self, index: int, calls: list[Json]) -> None:
        for call in calls:
            place = (index, call.get("index") or 0)
            has_any = bool((call.get("function") or {}).get("arguments"))
            self._arguments[place] = has_any or self._arguments.get(place, False)

    def _chunk(self, index: int, delta: Json, finish_reason: str | None, logprobs: Any = None) -> Json:
        choice: Json = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = _plain(logprobs)
        return {**self._head, "choices": [choice]}

    def _end(self) -> Iterator[Json]:
        """The events are over: finish reasons and usage, or the failure that it is."""
        self._reader.close()
        if self._failed_turn is not None and not self._calling:
            failed = _failed_turn(self._failed_turn)
            if self.progress.spoken:
                failed = UpstreamError(FailureKind.INTERRUPTED, failed.message)
            failed.usage = self.usage
            raise failed
        silent = all(ends_empty(end, may_be_empty=self.progress.may_be_empty) for end in self._finish.values())
        if not self._finish or (silent and not self.progress.spoken):
            raise self.progress.ended_early()
        calls_functions = self._prepared.calls_functions
        for index, place in (place for place, has_any in self._arguments.items() if not has_any):
            empty: Json = {"tool_calls": [{"index": place, "function": {"arguments": "{}"}}]}
            yield self._chunk(index, as_function_call(empty) if calls_functions else empty, None)
        for index, reason in sorted(self._finish.items()):
            delta: Json = {} if index in self._opened else {"role": "assistant"}
            if index in self._calling and reason in ("stop", "tool_calls"):
                reason = "function_call" if calls_functions else "tool_calls"  # noqa: PLW2901
            yield self._chunk(index, delta, reason)
        usage = self._usage_dict()
        if usage is not None:
            yield {**self._head, "choices": [], "usage": usage}


def _delta(delta: Any) -> Json:
    """What of a litellm Delta is worth a chunk; empty when there is nothing."""
    result: Json = {}
    if delta.content:
        result["content"] = delta.content
    fields = delta.__dict__
    extra = delta.__pydantic_extra__
    for source in (fields, extra) if extra else (fields,):
        for name, value in source.items():
            if value is not None and name not in ("content", "role"):
                result[name] = _plain(value)
    return result


def _plain(value: Any) -> Any:
    """litellm's objects inside a delta → JSON."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    return value
