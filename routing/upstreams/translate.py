"""Providers with a format of their own (Anthropic, Gemini): litellm translates, we carry."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.answers import cleaned, dumps, ends_empty, loads, may_be_empty, speaks, whole_answer
from routing.upstreams.base import FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.formats import Anthropic, Gemini, Parser, Prepared, WireFormat
from routing.upstreams.http.events import EventReader, post_stream
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.mends.capability import cannot
from routing.upstreams.mends.endings import as_function_call
from routing.upstreams.usage import usage_of

FORMATS: Final[Mapping[str, WireFormat]] = {"anthropic": Anthropic(), "gemini": Gemini()}

#: With what litellm begins to repeat a request's messages.
_CONVERSATION: Final = re.compile(r"[.\s]*Received (?:Messages=|- message=|tool call with)|Invalid Message passed in")

#: After the finish reason: how long we wait for the usage, and then for the end.
_USAGE_GRACE_S: Final = 2.0
_END_GRACE_S: Final = 0.25


class Translate:
    """An :class:`~routing.upstreams.base.Upstream`."""

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        wire = FORMATS[request.deployment.litellm_provider]
        prepared = _prepare(wire, request, streamed=False)
        answer = post(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts)
        return _read_whole(wire, prepared, answer, request)

    def stream(self, request: UpstreamRequest) -> TranslatedStream:
        wire = FORMATS[request.deployment.litellm_provider]
        prepared = _prepare(wire, request, streamed=True)
        answer = post_stream(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts, request.leash)
        if isinstance(answer, Whole):
            _read_whole(wire, prepared, answer, request)
            raise UpstreamError(
                FailureKind.MALFORMED,
                "The provider's answer is not a stream",
                http_status=answer.status,
                provider_request_id=errors.request_id(answer.headers),
            )
        parser = wire.parser(prepared, answer.headers)
        return TranslatedStream(answer, wire, parser, request, prepared)


def _prepare(wire: WireFormat, request: UpstreamRequest, *, streamed: bool) -> Prepared:
    if not request.api_key:
        # litellm would go and look in the environment.
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    errors.authorization(request.api_key)
    try:
        return wire.prepare(request, streamed=streamed)
    except UpstreamError:
        raise
    except Exception as error:
        said = errors.scrubbed(_reason(error), request.api_key)
        raise cannot(f"The request cannot be translated to the provider's format: {said}") from error


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


def _headers(prepared: Prepared) -> dict[str, str]:
    return {**prepared.headers, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}


def _read_whole(wire: WireFormat, prepared: Prepared, answer: Whole, request: UpstreamRequest) -> WholeAnswer:
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    try:
        raw = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers) from None
    request_id = errors.request_id(answer.headers)
    failure = errors.from_event(raw, provider_request_id=request_id, secret=request.api_key)
    if failure is None and isinstance(raw, dict):
        failure = wire.refusal(raw)
        if failure is not None and raw.get(wire.usage_name):
            failure.usage = _usage_of_refusal(wire, prepared, answer)
    if failure is not None:
        failure.provider_request_id = request_id
        raise failure
    if not isinstance(raw, dict):
        raise errors.malformed(answer.status, answer.headers)
    body = _as_chat_completion(wire, prepared, answer, raw)
    body["model"] = request.deployment.model
    if reason := wire.failed_turn(raw):
        raise _failed_turn(reason, answer.status, request_id, usage_of(body.get("usage")))
    if prepared.calls_functions:
        _write_function_calls(body)
    whole = whole_answer(body, answer.status, request_id, may_be_empty=may_be_empty(request.body))
    return replace(whole, dropped_params=prepared.dropped)


def _as_chat_completion(wire: WireFormat, prepared: Prepared, answer: Whole, raw: Json) -> Json:
    reports_usage = bool(raw.get(wire.usage_name))
    if not reports_usage:
        raw[wire.usage_name] = dict(wire.no_usage)
    readable = wire.readable(raw, prepared)
    if not reports_usage or readable is not raw:
        answer = Whole(answer.status, answer.headers, dumps(readable))
    try:
        body = cleaned(wire.read(prepared, answer).model_dump(exclude_none=True))
    except Exception as error:
        raise errors.malformed(answer.status, answer.headers) from error
    if not reports_usage:
        body.pop("usage", None)
    return body


def _failed_turn(reason: str, status: int, request_id: str | None, usage: Usage | None) -> UpstreamError:
    """The model did not say what it meant to say: to a client it would look like the end of its work."""
    message = f"The model's turn failed ({reason})"
    return UpstreamError(
        FailureKind.MALFORMED, message, http_status=status, provider_request_id=request_id, usage=usage
    )


def _write_function_calls(body: Json) -> None:
    for choice in body["choices"]:
        choice["message"] = as_function_call(choice["message"])
        if choice.get("finish_reason") == "tool_calls":
            choice["finish_reason"] = "function_call"


def _usage_of_refusal(wire: WireFormat, prepared: Prepared, answer: Whole) -> Usage | None:
    """What the provider counts for a prompt that it blocked."""
    try:
        return usage_of(wire.read(prepared, answer).model_dump().get("usage"))
    except Exception:  # noqa: BLE001 - a count that litellm cannot read must not mask the refusal
        return None


class TranslatedStream:
    """An :class:`~routing.upstreams.base.AnswerStream`.

    What litellm's `CustomStreamWrapper` makes of its parser's chunks is done here: the role in the first delta
    alone, deltas with nothing in them dropped, the finish reason in a chunk of its own behind the content, and last
    the usage. Beyond it: every choice gets its finish reason, not the first alone.
    """

    def __init__(
        self, reader: EventReader, wire: WireFormat, parser: Parser, request: UpstreamRequest, prepared: Prepared
    ) -> None:
        self.http_status = reader.status
        self.dropped_params = prepared.dropped
        self.provider_request_id = errors.request_id(reader.headers)
        self._reader = reader
        self._wire = wire
        self._parser = parser
        self._secret = request.api_key
        self._prepared = prepared
        self._may_be_empty = may_be_empty(request.body)
        self._head: Json = {
            "id": f"chatcmpl-{time.time_ns():x}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.deployment.model,
        }
        self._id_known = False
        self._usage: Any = None
        self._count: Json | None = None  # newer than `_usage`, and not read yet
        self._finish: dict[int, str] = {}
        self._opened: set[int] = set()  # the choices whose first delta was sent
        self._calling: set[int] = set()  # those with tool calls
        self._arguments: dict[tuple[int, int], bool] = {}  # of each call, by choice and place: whether it has any yet
        self._failed_turn: str | None = None
        self._spoken = False
        self._malformed = False
        self._ready: deque[Json] = deque()
        self._done = False
        self._failure: UpstreamError | None = None

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._usage_dict())

    def _usage_dict(self) -> Json | None:
        if self._count is not None:
            with suppress(Exception):  # a count that litellm cannot read is none
                self._usage = self._parser.chunk_parser(self._count).usage or self._usage
            self._count = None
        if self._usage is None:
            return None
        usage: Json = self._usage.model_dump(exclude_none=True)
        return usage

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        if self._failure is not None:
            raise self._failure  # a failed stream must not look complete to whoever asks again
        while not self._ready:
            if self._done:
                raise StopIteration
            event = self._next_event()
            if event is None:
                self._end()
            else:
                self._take(event)
        return self._ready.popleft()

    def _next_event(self) -> Json | None:
        """The next event that is one, or None at the end."""
        while True:
            within_s = None
            if self._finish:
                within_s = _USAGE_GRACE_S if self._usage is None and self._count is None else _END_GRACE_S
            try:
                data = self._reader.next_event(within_s)
            except UpstreamError as error:
                if self._finish and error.kind in (FailureKind.TIMEOUT, FailureKind.CONNECTION):
                    return None  # all is here that was to come
                if error.kind is FailureKind.CONNECTION and self._spoken:
                    interrupted = UpstreamError(FailureKind.INTERRUPTED, error.message, http_status=self.http_status)
                    raise self._failed(interrupted) from error
                raise self._failed(error) from error.__cause__
            if data is None:
                return None
            try:
                event = loads(data)
            except ValueError:
                event = None
            if isinstance(event, dict):
                return event
            self._malformed = True

    def _take(self, event: Json) -> None:
        """Puts what the event says to the client into `_ready`."""
        failure = errors.from_event(event, secret=self._secret) or self._wire.refusal(event)
        event = self._wire.readable(event, self._prepared)
        self._failed_turn = self._failed_turn or self._wire.failed_turn(event)
        finished = self._wire.finished(event)
        event, count = self._wire.without_running_count(event)
        if count is not None:
            self._count = count
        try:
            chunk = None if failure and "error" in event else self._parser.chunk_parser(event)
        except Exception:  # noqa: BLE001 - an event that litellm cannot read is skipped, like one that is not JSON
            self._malformed = True
            return
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._usage, self._count = usage, None
        if failure is not None:
            raise self._failed(failure)
        if chunk is None:
            return
        if not self._id_known and chunk.id:
            self._head["id"] = chunk.id
            self._id_known = True
        for choice in chunk.choices:
            self._take_choice(choice, choice.index in finished)
        if self._wire.is_end(event):
            self._reader.finish()
            self._end()

    def _take_choice(self, choice: Any, finished: bool) -> None:
        index: int = choice.index
        if finished:
            self._finish[index] = choice.finish_reason or "stop"
        delta = _delta(choice.delta)
        if not delta:
            return
        if "tool_calls" in delta:
            self._calling.add(index)
            self._note_arguments(index, delta["tool_calls"])
        if not self._spoken and speaks(delta):
            self._spoken = True
            self._reader.limits.content_seen()
        if index not in self._opened:
            self._opened.add(index)
            delta = {"role": "assistant", **delta}
        if self._prepared.calls_functions:
            delta = as_function_call(delta)
        self._ready.append(self._chunk(index, delta, None, getattr(choice, "logprobs", None)))

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

    def _end(self) -> None:
        """The events are over: finish reasons and usage, or the failure that it is."""
        self._done = True
        self._reader.close()
        ends = self._finish.values()
        empty = not self._spoken and all(ends_empty(end, may_be_empty=self._may_be_empty) for end in ends)
        if self._failed_turn is not None and not self._calling:
            self._ready.clear()
            failed = _failed_turn(self._failed_turn, self.http_status, None, None)
            if self._spoken:
                failed = UpstreamError(FailureKind.INTERRUPTED, failed.message, http_status=self.http_status)
            raise self._failed(failed)
        if empty or not self._finish:
            if self._spoken:
                kind, message = FailureKind.INTERRUPTED, "The provider's stream ended before its answer did"
            elif self._malformed:
                kind, message = FailureKind.MALFORMED, "The provider's stream is not in its own format"
            else:
                kind, message = FailureKind.EMPTY, "The provider's answer is empty"
            self._ready.clear()
            raise self._failed(UpstreamError(kind, message, http_status=self.http_status))
        for index, place in (place for place, has_any in self._arguments.items() if not has_any):
            empty_call: Json = {"tool_calls": [{"index": place, "function": {"arguments": "{}"}}]}
            if self._prepared.calls_functions:
                empty_call = as_function_call(empty_call)
            self._ready.append(self._chunk(index, empty_call, None))
        for index, reason in sorted(self._finish.items()):
            delta: Json = {} if index in self._opened else {"role": "assistant"}
            said = "tool_calls" if reason == "stop" and index in self._calling else reason
            if said == "tool_calls" and self._prepared.calls_functions:
                said = "function_call"
            self._ready.append(self._chunk(index, delta, said))
        usage = self._usage_dict()
        if usage is not None:
            self._ready.append({**self._head, "choices": [], "usage": usage})

    def _failed(self, error: UpstreamError) -> UpstreamError:
        self.close()
        self._failure = error
        error.usage = self.usage
        error.provider_request_id = error.provider_request_id or self.provider_request_id
        return error

    def close(self) -> None:
        self._reader.close()


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
