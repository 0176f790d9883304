"""A stream in a provider's own format, as chunks of OpenAI's."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

from accounting.usage import Usage
from routing.upstreams import errors, gemini_contents
from routing.upstreams.answers import ends_empty, may_be_empty, speaks
from routing.upstreams.base import QUIET, FailureKind, Json, UpstreamError, UpstreamRequest
from routing.upstreams.formats.wire import Parser, Prepared, WireFormat
from routing.upstreams.frames import IS_SHORT
from routing.upstreams.http.events import EventReader
from routing.upstreams.mends.endings import as_function_call
from routing.upstreams.streams import Progress, read_events
from routing.upstreams.usage import usage_of


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
        if self._is_converted or not IS_SHORT:
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
            failed = failed_turn(self._failed_turn)
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


def failed_turn(reason: str) -> UpstreamError:
    """The model did not say what it meant to say: to a client it would look like the end of its work."""
    return UpstreamError(FailureKind.MALFORMED, f"The model's turn failed ({reason})")
