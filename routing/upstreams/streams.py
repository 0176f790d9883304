"""What the three kinds of streams have in common: how they are asked, how they end, and how they fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from accounting.usage import Usage, UsageSource
from routing.upstreams.answers import ends_empty, speaks
from routing.upstreams.base import QUIET, AnswerStream, FailureKind, Json, UpstreamError
from routing.upstreams.http.events import SILENCE, EventReader
from routing.upstreams.provider_json import loads

log = logging.getLogger("gateway.upstreams")

#: After the last finish reason: how long we wait for the usage, and then for the end.
_USAGE_GRACE_S: Final = 2.0
_END_GRACE_S: Final = 0.25


#: Failures of a stream that had begun and before its first content: no refusal of the provider, which may bill them.
_BILLED_UNSPOKEN: Final = frozenset(
    {
        FailureKind.MALFORMED,
        FailureKind.EMPTY,
        FailureKind.TIMEOUT,
        FailureKind.CONNECTION,
        FailureKind.INTERRUPTED,
    }
)


#: Of these, those that came before the provider's count did.
_BROKEN: Final = frozenset({FailureKind.TIMEOUT, FailureKind.CONNECTION, FailureKind.INTERRUPTED})


@dataclass(slots=True)
class Progress:
    """How far an answer has come, and so what it means when its stream ends."""

    spoken: bool = False  # something of the answer has come
    is_uncounted: bool = False  # something of it has come since the provider counted last
    malformed: bool = False  # something has come that could not be read
    may_be_empty: bool = False  # an end without content is an answer

    def ended_early(self) -> UpstreamError:
        """The failure that an end before the answer's own is."""
        if self.spoken:
            return UpstreamError(FailureKind.INTERRUPTED, "The provider's stream ended before its answer did")
        if self.malformed:
            return UpstreamError(FailureKind.MALFORMED, "The provider's stream is not in its format")
        return UpstreamError(FailureKind.EMPTY, "The provider's answer is empty")


class Source(Protocol):
    """Where the chunks of a stream come from: the part that each kind of upstream has of its own."""

    http_status: int
    provider_request_id: str | None
    progress: Progress
    dropped_params: tuple[str, ...]

    @property
    def usage(self) -> Usage | None: ...

    @property
    def service_tier(self) -> str | None: ...

    def chunks(self) -> Iterator[Json]:
        """The answer's chunks to its end, and QUIET in between. Raises UpstreamError."""

    @property
    def has_event(self) -> bool:
        """As :attr:`~routing.upstreams.base.AnswerStream.has_event`."""

    def beat(self, every_s: float) -> None:
        """As :meth:`~routing.upstreams.base.AnswerStream.beat`."""

    def close(self) -> None:
        """Ends the provider's connection at once. From anywhere."""


class LiveStream:
    """An :class:`~routing.upstreams.base.AnswerStream` over a source.

    A failed stream fails again for whoever asks again: it must not look complete. What goes wrong while a provider's
    events are read is the provider's failure, whatever it is: nothing of what it sends may end as an error of ours.
    """

    def __init__(self, source: Source) -> None:
        self.http_status = source.http_status
        self.provider_request_id = source.provider_request_id
        self.dropped_params = source.dropped_params
        self._source = source
        self._chunks = source.chunks()
        self._failure: UpstreamError | None = None

    @property
    def usage(self) -> Usage | None:
        """What the provider has counted. It is marked as an estimate when the answer went on behind the last count."""
        usage = self._source.usage
        if usage is not None and self._source.progress.is_uncounted:
            usage = replace(usage, source=UsageSource.ESTIMATED)
        return usage

    @property
    def service_tier(self) -> str | None:
        return self._source.service_tier

    @property
    def has_event(self) -> bool:
        return self._source.has_event

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        if self._failure is not None:
            raise self._failure
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except UpstreamError as error:
            raise self._failed(error) from error.__cause__
        except Exception as error:
            log.exception("a provider's stream cannot be read")
            raise self._failed(
                UpstreamError(FailureKind.MALFORMED, "The provider's stream is not in its format")
            ) from error

    def _failed(self, error: UpstreamError) -> UpstreamError:
        self.close()
        spoken = self._source.progress.spoken
        if error.kind is FailureKind.CONNECTION and spoken:
            error = UpstreamError(FailureKind.INTERRUPTED, error.message)
        if error.kind not in (FailureKind.TIMEOUT, FailureKind.CONNECTION):  # of these the status says nothing
            error.http_status = error.http_status or self.http_status
        error.consumed = spoken or error.kind in _BILLED_UNSPOKEN
        if error.usage is None:  # else the stream came to its end, and the count is the last
            error.usage = self.usage
            if error.usage is not None and error.kind in _BROKEN:
                error.usage = replace(error.usage, source=UsageSource.ESTIMATED)  # Anthropic counts as it goes, from 1
        error.provider_request_id = error.provider_request_id or self.provider_request_id
        self._failure = error
        return error

    def beat(self, every_s: float) -> None:
        self._source.beat(every_s)

    def close(self) -> None:
        self._source.close()


def next_event(reader: EventReader, *, finished: bool, counted: bool) -> bytes | None:
    """The next event; None when there is none. Once the answer has `finished`, its usage and its end are waited for
    only shortly, and a connection that breaks then has lost nothing."""
    if not finished:
        return reader.next_event()
    try:
        return reader.next_event(_END_GRACE_S if counted else _USAGE_GRACE_S)
    except UpstreamError as error:
        if error.kind in (FailureKind.TIMEOUT, FailureKind.CONNECTION):
            return None
        raise


def read_events(
    reader: EventReader, progress: Progress, state: Callable[[], tuple[bool, bool]]
) -> Iterator[tuple[Json, bytes]]:
    """The provider's events to the end of its stream, each with its bytes, and QUIET while no event comes.

    What is no JSON object is noted and passed over. ``state``: whether the answer has finished and its count has come.
    """
    while True:
        finished, counted = state()
        data = next_event(reader, finished=finished, counted=counted) if finished else reader.next_event()
        if data is None or data == b"[DONE]":
            return
        if data is SILENCE:
            yield QUIET, data
            continue
        try:
            event = loads(data)
        except ValueError:
            event = None
        if isinstance(event, dict):
            yield event, data
        else:
            progress.malformed = True


# --- an answer that came in the other form than it was asked for ---------------------------------------------


def collected(stream: AnswerStream) -> Json:
    """The chunks of a stream, put together to a `chat.completion`. Raises UpstreamError."""
    body: Json = {}
    choices: dict[int, Json] = {}
    for chunk in stream:
        for name, value in chunk.items():
            if value is not None and name != "choices":
                body[name] = value
        for part in chunk["choices"]:
            choice = choices.setdefault(part["index"], {"index": part["index"], "message": {}})
            _add(choice["message"], part["delta"])
            choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")
            choice["logprobs"] = _joined(choice.get("logprobs"), part.get("logprobs")) or choice.get("logprobs")
    return {**body, "choices": [choices[index] for index in sorted(choices)]}


def _add(message: Json, delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls: list[Json] = message.setdefault("tool_calls", [])
            for part in value:
                while len(calls) <= part["index"]:
                    calls.append({})
                call = calls[part["index"]]
                for field, said in part.items():
                    if isinstance(said, dict):  # `function`, and `custom` of a custom tool's call
                        _add(call.setdefault(field, {}), said)
                    elif field != "index" and said is not None:
                        call[field] = said
        elif name in ("role", "name"):
            message[name] = value or message.get(name)
        elif value is not None:
            message[name] = _joined(message.get(name), value)


def _joined(before: Any, value: Any) -> Any:
    """Text goes on, lists go on, objects go on in their parts; all else is what came last."""
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, list) and isinstance(value, list):
        return [*before, *value]
    if isinstance(before, dict) and isinstance(value, dict):
        return {**before, **{name: _joined(before.get(name), part) for name, part in value.items()}}
    return value


# --- chunks ----------------------------------------------------------------------------------------------------


def completed(chunk: Json, last: Json) -> None:
    """What OpenAI's schema requires of every chunk and a provider left out; the last chunk's where it had it."""
    if not isinstance(chunk.get("id"), str):
        chunk["id"] = last.get("id") or f"chatcmpl-{time.time_ns():x}"
    chunk["object"] = "chat.completion.chunk"
    if type(chunk.get("created")) is not int:
        chunk["created"] = last.get("created") or int(time.time())


def says_something(delta: Mapping[str, Any], reason: object, *, may_be_empty: bool = False) -> bool:
    """Whether a choice of a chunk is (part of) an answer: content, or an end that says why there is none."""
    return speaks(delta) or bool(reason and not ends_empty(reason, may_be_empty=may_be_empty))
