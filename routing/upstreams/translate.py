"""Providers with a format of their own (Anthropic, Gemini): litellm translates, we carry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from traceback import walk_tb
from typing import Any, Final

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.answers import cleaned, dumps, ends_empty, loads, speaks, whole_answer
from routing.upstreams.base import QUIET, FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.formats import Anthropic, Gemini, Parser, Prepared, WireFormat, dropped_params
from routing.upstreams.http.events import SILENCE, EventReader, is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.relay import Chunks
from routing.upstreams.scrubbing import scrubbed
from routing.upstreams.streams import LiveStream, Progress, collected, next_event
from routing.upstreams.usage import usage_of

FORMATS: Final[Mapping[str, WireFormat]] = {"anthropic": Anthropic(), "gemini": Gemini()}

_TIER_HEADER: Final = "x-gemini-service-tier"


class Translate:
    """An :class:`~routing.upstreams.base.Upstream`."""

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        wire = FORMATS[request.deployment.litellm_provider]
        prepared = _prepare(wire, request, streamed=False)
        answer = post(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts)
        read = _read_whole(wire, prepared, answer, request)
        return replace(read, dropped_params=_dropped(wire, request))

    def stream(self, request: UpstreamRequest) -> LiveStream:
        wire = FORMATS[request.deployment.litellm_provider]
        prepared = _prepare(wire, request, streamed=True)
        answer = post_stream(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts, request.leash)
        if isinstance(answer, Whole):
            whole = _read_whole(wire, prepared, answer, request)
            said = replayed(Whole(answer.status, answer.headers, dumps(whole.body)))
            return LiveStream(Chunks(said, request.api_key, len(whole.body["choices"]), _dropped(wire, request)))
        parser = wire.parser(prepared, answer.headers)
        return LiveStream(Translated(answer, wire, parser, request))


def _dropped(wire: WireFormat, request: UpstreamRequest) -> tuple[str, ...]:
    return dropped_params(request.body, request.deployment, wire.parameters)


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
        if isinstance(error, TypeError | AttributeError | ImportError) and not _raised_in_litellm(error):
            raise  # our call of litellm is wrong, whatever the client has sent
        reason = getattr(error, "message", None) or str(error) or type(error).__name__
        raise UpstreamError(
            FailureKind.BAD_REQUEST,
            "The request cannot be translated to the provider's format: " + scrubbed(str(reason), request.api_key),
            http_status=400,
            error_type="invalid_request_error",
            code="invalid_value",
        ) from error


def _raised_in_litellm(error: Exception) -> bool:
    """Whether litellm has at least looked at the request. It has not when it is called with wrong arguments."""
    frames = walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__", "")).partition(".")[0] == "litellm" for frame, _ in frames)


def _headers(prepared: Prepared) -> dict[str, str]:
    return {**prepared.headers, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}


def _read_whole(wire: WireFormat, prepared: Prepared, answer: Whole, request: UpstreamRequest) -> WholeAnswer:
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    request_id = errors.request_id(answer.headers)
    if is_stream(answer):
        parser = wire.parser(prepared, answer.headers)
        stream = LiveStream(Translated(replayed(answer), wire, parser, request))
        return replace(whole_answer(collected(stream), answer.status, request_id), service_tier=stream.service_tier)
    try:
        raw = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers) from None
    failure = errors.from_event(raw, provider_request_id=request_id, secret=request.api_key)
    if failure is None and isinstance(raw, dict):
        failure = wire.refusal(raw)
        if failure is not None and raw.get(wire.usage_name):
            failure.usage = _usage_alone(wire, prepared, answer, raw)
    if failure is not None:
        failure.provider_request_id = request_id
        raise failure
    if not isinstance(raw, dict):
        raise errors.malformed(answer.status, answer.headers)
    reports_usage = bool(raw.get(wire.usage_name))
    if not reports_usage:
        raw[wire.usage_name] = dict(wire.no_usage)
        answer = Whole(answer.status, answer.headers, dumps(raw))
    try:
        body = cleaned(wire.read(prepared, answer).model_dump(exclude_none=True))
    except Exception as error:
        usage = _usage_alone(wire, prepared, answer, raw) if reports_usage else None
        raise errors.malformed(answer.status, answer.headers, usage) from error
    if not reports_usage:
        body.pop("usage", None)
    body["model"] = request.deployment.model
    tier = wire.service_tier(raw) or answer.headers.get(_TIER_HEADER)
    return replace(whole_answer(body, answer.status, request_id), service_tier=tier if isinstance(tier, str) else None)


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

    def __init__(self, reader: EventReader, wire: WireFormat, parser: Parser, request: UpstreamRequest) -> None:
        self.http_status = reader.status
        self.dropped_params = _dropped(wire, request)
        self.provider_request_id = errors.request_id(reader.headers)
        self.progress = Progress()
        self.service_tier: str | None = reader.headers.get(_TIER_HEADER)
        self._reader = reader
        self._wire = wire
        self._parser = parser
        self._secret = request.api_key
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

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._usage_dict())

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _usage_dict(self) -> Json | None:
        if self._count is not None:
            with suppress(Exception):  # a count that litellm cannot read is none
                self._usage = self._parser.chunk_parser(self._count).usage or self._usage
            self._count = None
        if self._usage is None:
            return None
        usage: Json = self._usage.model_dump(exclude_none=True)
        return usage

    def chunks(self) -> Iterator[Json]:
        while True:
            counted = self._usage is not None or self._count is not None
            data = next_event(self._reader, finished=bool(self._finish), counted=counted)
            if data is None:
                break
            if data is SILENCE:
                yield QUIET
                continue
            try:
                event = loads(data)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                self.progress.malformed = True
                continue
            is_said = False
            for chunk in self._read(event):
                is_said = True
                yield chunk
            if not is_said and self._reader.beat_s is not None:
                yield QUIET  # a ping, or a thought that is not shown
            if self._wire.is_end(event):
                self._reader.finish()
                break
        yield from self._end()

    def _read(self, event: Json) -> Iterator[Json]:
        """The chunks in which the client is told what the event says. Raises the error that it is."""
        failure = errors.from_event(event, secret=self._secret) or self._wire.refusal(event)
        finished = self._wire.finished(event)
        if self.service_tier is None and isinstance(tier := self._wire.service_tier(event), str):
            self.service_tier = tier
        event, count = self._wire.without_running_count(event)
        if count is not None:
            self._count = count
        try:
            chunk = None if failure and "error" in event else self._parser.chunk_parser(event)
        except Exception:  # noqa: BLE001 - an event that litellm cannot read is skipped, like one that is not JSON
            self.progress.malformed = True
            if event.get(self._wire.usage_name):
                self._count = self._wire.without_answer(event)
            return
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            self._usage, self._count = usage, None
        if failure is not None:
            raise failure
        if chunk is None:
            return
        if not self._id_known and chunk.id:
            self._head["id"] = chunk.id
            self._id_known = True
        for choice in chunk.choices:
            if choice.index in finished:
                self._finish[choice.index] = choice.finish_reason or "stop"
            delta = _delta(choice.delta)
            if delta:
                yield self._said(choice, delta)

    def _said(self, choice: Any, delta: Json) -> Json:
        index: int = choice.index
        if "tool_calls" in delta:
            self._calling.add(index)
        if not self.progress.spoken and speaks(delta):
            self.progress.spoken = True
            self._reader.limits.content_seen()
        if index not in self._opened:
            self._opened.add(index)
            delta = {"role": "assistant", **delta}
        return self._chunk(index, delta, None, getattr(choice, "logprobs", None))

    def _chunk(self, index: int, delta: Json, finish_reason: str | None, logprobs: Any = None) -> Json:
        choice: Json = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = _plain(logprobs)
        return {**self._head, "choices": [choice]}

    def _end(self) -> Iterator[Json]:
        """The events are over: finish reasons and usage, or the failure that it is."""
        self._reader.close()
        empty = not self.progress.spoken and all(map(ends_empty, self._finish.values()))
        if empty or not self._finish:
            raise self.progress.ended_early()
        for index, reason in sorted(self._finish.items()):
            delta: Json = {} if index in self._opened else {"role": "assistant"}
            called = index in self._calling
            yield self._chunk(index, delta, "tool_calls" if called and reason == "stop" else reason)
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
