"""Calls providers that speak OpenAI's format.

The request goes out as it came. Only the model's name is replaced, and what this provider is known not to understand is
left out or renamed (`dialects`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, Final, TypeVar

from accounting.usage import Usage
from routing.upstreams import completions, embeddings, errors, images, moderations, openai_responses, rerank, sound
from routing.upstreams.answers import may_be_empty, speaks, tier_of, whole_answer
from routing.upstreams.base import QUIET, FailureKind, Json, Timeouts, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.calls import Calls
from routing.upstreams.conforming import TEXTS, conforming_choice, conforming_reason, ends_in_failure, why_failed
from routing.upstreams.deployment_parameters import resolved
from routing.upstreams.dialects import Spoken, spoken
from routing.upstreams.http.events import SILENCE, EventReader, is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.lessons import NOTHING, learn, lesson_of
from routing.upstreams.mends.capability import lacking
from routing.upstreams.mends.endings import write_function_calls
from routing.upstreams.mends.names import write_names
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.streams import LiveStream, Progress, collected, completed, next_event, says_something
from routing.upstreams.usage import conforming_usage, reported_in, together, usage_of, usage_of_input

log = logging.getLogger("gateway.upstreams")

#: How often a request is sent until the server calls no part of it unknown. Most servers name one part at a time.
_MAX_MENDS: Final = 4

#: How long a stream's last words are held back for the count that follows them.
_COUNT_WAIT_S: Final = 0.25

Answer = TypeVar("Answer", Whole, EventReader | Whole)


class Relay:
    """An :class:`~routing.upstreams.base.Upstream`."""

    messages = messages_stream = lacking("The provider does not speak Anthropic's format")
    contents = contents_stream = lacking("The provider does not speak Google's format")

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        answer, asked = _ask(request, "application/json", post, streamed=False)
        whole = _read_whole(answer, request)
        if asked.names:
            write_names(whole.body["choices"], "message", asked.names)
        if asked.calls_functions:
            write_function_calls(whole.body["choices"], "message")
        return replace(whole, dropped_params=asked.dropped) if asked.dropped else whole

    def responses(self, request: UpstreamRequest) -> WholeAnswer:
        return openai_responses.ask(request, _address(request, "application/json", "responses"))

    def responses_stream(self, request: UpstreamRequest) -> LiveStream:
        return openai_responses.stream(request, _address(request, "text/event-stream", "responses"))

    def responses_kept(self, request: UpstreamRequest, method: str, resource: str) -> Json:
        return openai_responses.kept(request, _address(request, "application/json", resource), method)

    def complete(self, request: UpstreamRequest) -> WholeAnswer:
        return complete(*_address(request, "application/json", "completions"), request)

    def complete_stream(self, request: UpstreamRequest) -> LiveStream:
        return complete_live(*_address(request, "text/event-stream", "completions"), request)

    def draw(self, request: UpstreamRequest) -> WholeAnswer:
        return images.draw(*_address(request, "application/json", images.resource_of(request)), request)

    def draw_stream(self, request: UpstreamRequest) -> LiveStream:
        return images.draw_live(*_address(request, "text/event-stream", images.resource_of(request)), request)

    def moderate(self, request: UpstreamRequest) -> WholeAnswer:
        url, headers = _address(request, "application/json", "moderations")
        return moderations.ask(request, url, headers)

    def rerank(self, request: UpstreamRequest) -> WholeAnswer:
        return rerank.ask(request)

    def embed(self, request: UpstreamRequest) -> WholeAnswer:
        url, headers = _address(request, "application/json", "embeddings")

        def send(body: Json, asked: UpstreamRequest) -> WholeAnswer:
            answer = post(url, headers, dumps(body), asked.timeouts)
            read = embeddings.answered(answer, asked.api_key)
            return WholeAnswer(
                read,
                usage_of_input(read.get("usage")),
                answer.status,
                errors.request_id(answer.headers, asked.api_key),
            )

        return embeddings.embed(request, send)

    def speak(self, request: UpstreamRequest) -> LiveStream:
        return sound.speak(*_address(request, "*/*", "audio/speech"), request)

    def write_down(self, request: UpstreamRequest, resource: str) -> WholeAnswer:
        return sound.write_down(*_address(request, "*/*", resource), request)

    def write_down_live(self, request: UpstreamRequest, resource: str) -> LiveStream:
        return sound.write_down_live(*_address(request, "text/event-stream", resource), request)

    def stream(self, request: UpstreamRequest) -> LiveStream:
        def send(url: str, headers: dict[str, str], body: bytes, timeouts: Timeouts) -> EventReader | Whole:
            return post_stream(url, headers, body, timeouts, request.leash)

        answer, asked = _ask(request, "text/event-stream", send, streamed=True)
        if isinstance(answer, Whole):
            if answer.status != 200:
                raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
            answer = replayed(answer)
        choices = asked.body.get("n")
        asked_choices = choices if type(choices) is int and choices > 1 else 1
        is_silence_an_answer = may_be_empty(request.body)
        return LiveStream(
            Chunks(
                answer,
                request.api_key,
                asked_choices,
                asked.dropped,
                may_be_empty=is_silence_an_answer,
                calls_functions=asked.calls_functions,
                names=asked.names,
            )
        )


def complete(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> WholeAnswer:
    """A completion of the old kind. Raises UpstreamError."""
    answer = post(url, dict(headers), dumps(completions.asked(request, streamed=False)), request.timeouts)
    return _read_whole(answer, request, completions.read)


def complete_live(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> LiveStream:
    """The same as a stream. Raises UpstreamError."""
    body = dumps(completions.asked(request, streamed=True))
    answer = post_stream(url, dict(headers), body, request.timeouts, request.leash)
    if isinstance(answer, Whole):
        if answer.status != 200:
            raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
        answer = replayed(answer)
    choices, is_silence_an_answer = completions.choices_of(request.body), may_be_empty(request.body)
    return LiveStream(
        Chunks(answer, request.api_key, choices, may_be_empty=is_silence_an_answer, read=completions.read)
    )


def _ask(
    request: UpstreamRequest,
    accept: str,
    send: Callable[[str, dict[str, str], bytes, Timeouts], Answer],
    *,
    streamed: bool,
) -> tuple[Answer, Spoken]:
    """The provider's answer.

    A server that refuses a part of the request has done nothing and billed nothing. When the request can do without
    that part, or can say it otherwise, the server is asked again so, in what is left of the attempt's time."""
    url, headers = _address(request, accept, "chat/completions")
    ends_at = monotonic() + request.timeouts.total_s
    lesson = NOTHING
    for _ in range(_MAX_MENDS):
        asked = spoken(request.body, request.deployment, streamed=streamed, lesson=lesson)
        answer = send(url, headers, dumps(asked.body), request.timeouts.within(ends_at - monotonic()))
        said: EventReader | Whole = answer
        if isinstance(said, EventReader) or said.status == 200:
            break
        more = lesson.also(lesson_of(said.status, said.body, asked.body))
        if more == lesson:
            return answer, asked
        lesson = more
    else:
        return answer, asked
    if lesson is not NOTHING:
        learn(request.deployment, lesson)
    return answer, asked


def _address(request: UpstreamRequest, accept: str, resource: str) -> tuple[str, dict[str, str]]:
    deployment = request.deployment
    base_url = deployment.base_url or PROVIDERS[deployment.litellm_provider].base_url
    if not base_url:
        raise UpstreamError(FailureKind.NOT_FOUND, "The provider has no base URL")
    headers = {
        "Accept": accept,
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    if request.api_key:
        headers["Authorization"] = f"Bearer {errors.authorization(request.api_key)}"
    if organization := resolved(deployment.parameters).get("organization"):
        headers["OpenAI-Organization"] = str(organization)
    path, question, query = base_url.partition("?")
    if deployment.litellm_provider in ("ollama", "ollama_chat") and path.rstrip("/").count("/") == 2:
        path = f"{path.rstrip('/')}/v1"  # litellm's configurations give the address of Ollama's own API
    if question and "?" in resource:
        question = "&"
    return f"{path.rstrip('/')}/{resource}{question}{query}", headers


def _read_whole(answer: Whole, request: UpstreamRequest, read: Callable[[bytes], Any] = loads) -> WholeAnswer:
    api_key, is_silence_an_answer = request.api_key, may_be_empty(request.body)
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=api_key)
    request_id = errors.request_id(answer.headers, api_key)
    if is_stream(answer):
        stream = LiveStream(Chunks(replayed(answer), api_key, 1, may_be_empty=is_silence_an_answer, read=read))
        return whole_answer(
            collected(stream), answer.status, request_id, may_be_empty=is_silence_an_answer, secret=api_key
        )
    try:
        body = read(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers, api_key) from None
    if error := errors.from_event(body, provider_request_id=request_id, secret=api_key):
        raise error  # OpenRouter and some proxies send errors with a 200
    try:
        return whole_answer(body, answer.status, request_id, may_be_empty=is_silence_an_answer, secret=api_key)
    except UpstreamError:
        raise
    except Exception as error:
        log.exception("a provider's answer cannot be read")
        raise errors.malformed(answer.status, answer.headers, api_key, usage_of(reported_in(body))) from error


class Chunks:
    """A :class:`~routing.upstreams.streams.Source`: a stream in OpenAI's format.

    A malformed event is skipped. A stream that ends without `[DONE]` is complete when every choice has its finish
    reason. After that the usage is waited for, but only shortly. Usage that a provider reports beside choices is taken
    out there: it always comes in a last chunk of its own, as OpenAI sends it.
    """

    def __init__(
        self,
        reader: EventReader,
        api_key: str,
        choices: int,
        dropped_params: tuple[str, ...] = (),
        *,
        may_be_empty: bool = False,
        calls_functions: bool = False,
        names: Mapping[str, str] | None = None,
        read: Callable[[bytes], Any] = loads,
    ) -> None:
        self.dropped_params = dropped_params
        self._loads = read  # an event's JSON, in chat's shape
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, api_key)
        self.progress = Progress(may_be_empty=may_be_empty)
        self.service_tier: str | None = None
        self._reader = reader
        self._api_key = api_key
        self._asked_choices = choices
        self._calls_functions = calls_functions
        self._names = names
        self._begun: set[int] = set()  # the choices that have begun
        self._finished: set[int] = set()
        self._calls: dict[int, Calls] = {}
        self._usage: Any = None
        self._last: Json = {}

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._usage)

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def chunks(self) -> Iterator[Json]:
        chunks = self._chunks()
        if self._names:
            chunks = map(self._with_clients_names, chunks)
        return map(_with_function_calls, chunks) if self._calls_functions else chunks

    def _with_clients_names(self, chunk: Json) -> Json:
        if "choices" in chunk:
            write_names(chunk["choices"], "delta", self._names or {})
        return chunk

    def _chunks(self) -> Iterator[Json]:
        held: list[Json] = []  # finish reasons of an answer that is still empty
        last: list[Json] = []  # of an answer that is complete but for its count: a client may leave once it has them
        count_due_at = 0.0
        while True:
            if last and (self._usage is not None or not self._reader.is_ready(count_due_at - monotonic())):
                yield from last
                last.clear()
            # Some servers give one choice where several were asked for: those that have begun are the answer.
            finished = len(self._finished) >= self._asked_choices
            counted = self._usage is not None and not self.progress.is_uncounted
            data = next_event(self._reader, finished=finished, counted=counted)
            if data is None or data == b"[DONE]":
                break
            if data is SILENCE:
                yield QUIET
                continue
            chunk = self._read(data)
            if chunk is None:
                yield from self._quiet()
                continue
            if not self.progress.spoken and (held or self._ends(chunk)):
                self._reader.limits.content_seen()
                held.append(chunk)
                continue
            if held:
                yield from held
                held.clear()
            if not count_due_at and self._usage is None and len(self._finished) >= self._asked_choices:
                count_due_at = monotonic() + _COUNT_WAIT_S
                last.append(chunk)
                yield from self._quiet()
                continue
            if last:
                last.append(chunk)
                yield from self._quiet()
                continue
            yield chunk
        yield from last
        yield from self._end(announced=data is not None)

    def _quiet(self) -> tuple[Json, ...]:
        """What is said when an event is kept: the next one may take long."""
        return () if self._reader.beat_s is None else (QUIET,)

    def _read(self, data: bytes) -> Json | None:
        """The event as a chunk in OpenAI's shape; None when nothing of it is to be handed on.

        Raises UpstreamError when the event is an error."""
        try:
            chunk = self._loads(data)
        except ValueError:
            chunk = None
        if type(chunk) is not dict:
            self.progress.malformed = True
            return None
        choices = chunk.get("choices")
        if ("error" in chunk or choices is None) and (error := errors.from_event(chunk, secret=self._api_key)):
            raise error
        usage = chunk.get("usage")
        if usage is not None or "x_groq" in chunk:
            usage = reported_in(chunk)
            self._take_usage(usage)
            chunk["usage"] = None  # the usage is sent at the end
            if not choices:
                return None
        if type(choices) is not list or not all(type(choice) is dict for choice in choices):
            self.progress.malformed = True
            return None
        if "service_tier" in chunk:  # the last word counts: the first may be what was asked for
            self.service_tier = tier_of(chunk) or self.service_tier
        if chunk.get("object") != "chat.completion.chunk" or "id" not in chunk or "created" not in chunk:
            completed(chunk, self._last)
        self._last = chunk
        for place, choice in enumerate(choices):
            if not self._is_ordinary(choice):
                self._conform(choice, place)
        if usage is not None:
            self.progress.is_uncounted = False  # it counts what its own chunk says
        return chunk

    def _is_ordinary(self, choice: Json) -> bool:
        """Whether the choice goes on with its answer in OpenAI's shape, as nearly all do. Notes what it says."""
        delta = choice.get("delta")
        index = choice.get("index")
        if (
            choice.get("finish_reason", "") is not None
            or index not in self._begun
            or type(delta) is not dict
            or choice.get("logprobs") is not None
        ):
            return False
        says = False
        for name, value in delta.items():
            if value is None:
                continue
            if type(value) is str:
                if name not in TEXTS and (name != "role" or value != "assistant"):
                    return False
                says = says or (value != "" and name != "role")
            elif name == "tool_calls" and self._calls[index].go_on(value):
                says = True
            else:
                return False
        if says and not self.progress.is_uncounted:
            self._has_spoken()
        return True

    def _take_usage(self, usage: object) -> None:
        self._usage = usage if self._usage is None else together(self._usage, usage)
        self.progress.is_uncounted = self.progress.is_uncounted and usage is None

    def _conform(self, choice: Json, place: int) -> None:
        """Puts the choice into OpenAI's shape, and notes what it says."""
        if ends_in_failure(choice.get("finish_reason")):
            raise UpstreamError(
                FailureKind.OVERLOADED, why_failed([choice]), http_status=self.http_status, secret=self._api_key
            )
        counted = choice.get("usage")
        index = choice["index"] = choice["index"] if type(choice.get("index")) is int else place
        calls = self._calls.setdefault(index, Calls())
        delta = conforming_choice(choice, place, "delta", calls)
        self._begun.add(index)
        reason = choice.get("finish_reason")
        choice["finish_reason"] = reason = conforming_reason(reason, called=bool(calls)) if reason else None
        if speaks(delta):
            self._has_spoken()
        elif not self.progress.spoken and says_something(delta, reason, may_be_empty=self.progress.may_be_empty):
            self.progress.spoken = True
            self._reader.limits.content_seen()
        if counted is not None:
            self._take_usage(counted)  # Moonshot reports usage here
        if reason:
            self._finished.add(index)

    def _has_spoken(self) -> None:
        self.progress.spoken = self.progress.is_uncounted = True
        self._reader.limits.content_seen()

    def _ends_unsaid(self) -> Iterator[Json]:
        """The finish reasons that some servers leave out, though they say that the stream is complete."""
        for index in sorted(self._begun - self._finished):
            reason = conforming_reason(None, called=bool(self._calls.get(index)))
            self._finished.add(index)
            yield {**self._head(), "choices": [{"index": index, "delta": {}, "finish_reason": reason}]}

    def _head(self) -> Json:
        return {name: self._last[name] for name in ("id", "object", "created", "model") if name in self._last}

    def _ends(self, chunk: Json) -> bool:
        return any(choice["finish_reason"] for choice in chunk["choices"])

    def _end(self, *, announced: bool) -> Iterator[Json]:
        """The events are over: yields the usage, or raises UpstreamError when the answer is not complete."""
        if announced:
            self._reader.finish()
        self._reader.close()
        if announced and self.progress.spoken and not self._finished:
            yield from self._ends_unsaid()
        if not self._finished or self._finished < self._begun or not self.progress.spoken:
            raise self.progress.ended_early()
        usage = conforming_usage(self._usage)
        if usage is not None:
            yield {**self._head(), "choices": [], "usage": usage}


def _with_function_calls(chunk: Json) -> Json:
    write_function_calls(chunk["choices"], "delta")
    return chunk
