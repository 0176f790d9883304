"""OpenAI's endpoints of sound, of whoever serves them: text is spoken, and sound is written down or translated.

https://platform.openai.com/docs/api-reference/audio
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any, Final

from accounting.usage import Meter, Usage, quantity_name
from routing.upstreams import errors
from routing.upstreams.answers import has_content
from routing.upstreams.base import QUIET, Content, File, Json, UpstreamRequest, WholeAnswer
from routing.upstreams.embeddings import answered
from routing.upstreams.http import forms
from routing.upstreams.http.events import SILENCE, EventReader, post_stream
from routing.upstreams.http.pieces import PieceReader, post_for_pieces
from routing.upstreams.http.transport import Whole, post
from routing.upstreams.provider_json import dumps
from routing.upstreams.streams import LiveStream, Progress, read_events
from routing.upstreams.usage import MAX_TOKENS

#: What the gateway alone reads.
OURS: Final = frozenset({"metadata", "user", "safety_identifier"})
CONTENT_TYPES: Final = {
    "aac": "audio/aac",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "pcm": "audio/pcm",
    "wav": "audio/wav",
}
#: Formats of a transcript that are text and no JSON.
TEXTS: Final = {
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/plain; charset=utf-8",
}
#: Fields that OpenAI takes several times, under these names with brackets.
LISTS: Final = frozenset(
    {
        "include",
        "keywords",
        "known_speaker_names",
        "known_speaker_references",
        "languages",
        "timestamp_granularities",
    }
)
#: OpenAI's models that speak and count tokens. They tell the count only when they are asked for events.
_COUNTS_IN_EVENTS: Final = re.compile(r"gpt-.*-tts")
_COUNTING_PROVIDERS: Final = frozenset({"openai", "azure"})
_MOST_SECONDS: Final = 10**7
#: The last events of the two kinds of streams.
SPOKEN, WRITTEN_DOWN = "speech.audio.done", "transcript.text.done"


# --- speech --------------------------------------------------------------------------------------------------


def speak(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> LiveStream:
    """The sound as it comes. Each chunk has some as a ``content``; of a provider that sends events, each has the event
    as ``native`` and its bytes as ``raw``, too. Raises UpstreamError."""
    deployment = request.deployment
    body = {name: value for name, value in request.body.items() if name not in OURS and value is not None}
    body["model"] = deployment.model
    if deployment.litellm_provider in _COUNTING_PROVIDERS and _COUNTS_IN_EVENTS.match(deployment.model):
        body["stream_format"] = "sse"
    answer = post_for_pieces(url, headers, dumps(body), request.timeouts, request.leash)
    if isinstance(answer, Whole):
        return LiveStream(_unpacked(answer, request))
    if isinstance(answer, EventReader):
        return LiveStream(Events(answer, request, SPOKEN, partial(_sounding, content_type_of(request.body))))
    return LiveStream(Pieces(answer, request))


def content_type_of(body: Mapping[str, Any]) -> str:
    """Of the sound that a request asks for."""
    return CONTENT_TYPES.get(str(body.get("response_format") or "mp3"), "application/octet-stream")


class Pieces:
    """A :class:`~routing.upstreams.streams.Source`: sound as bytes. Nobody counts it."""

    dropped_params: tuple[str, ...] = ()
    service_tier: str | None = None
    usage: Usage | None = None
    has_event = False

    def __init__(self, reader: PieceReader, request: UpstreamRequest) -> None:
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.progress = Progress()
        said = reader.headers.get("content-type", "")
        # Our own server sends no header with other characters: the answer would fail when all of it is paid for.
        is_sayable = said.isascii() and said.isprintable()
        self._content_type = (is_sayable and said) or content_type_of(request.body)
        self._reader = reader

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def chunks(self) -> Iterator[Json]:
        while (piece := self._reader.next_piece()) is not None:
            if piece is SILENCE:
                yield QUIET
                continue
            self.progress.spoken = True
            self._reader.limits.content_seen()
            yield {"content": Content(self._content_type, piece)}
        self._reader.close()
        if not self.progress.spoken:
            raise self.progress.ended_early()


class Events:
    """A :class:`~routing.upstreams.streams.Source`: events, the last of which says so and has the count."""

    dropped_params: tuple[str, ...] = ()
    service_tier: str | None = None

    def __init__(
        self, reader: EventReader, request: UpstreamRequest, done: str, chunk: Callable[[Json, bytes], Json]
    ) -> None:
        """``done`` is the last event's type. ``chunk`` makes a chunk of an event and its bytes."""
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.progress = Progress()
        self.usage: Usage | None = None
        self._request = request
        self._done = done
        self._is_done = False
        self._chunk = chunk
        self._reader = reader

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _state(self) -> tuple[bool, bool]:
        return self._is_done, self._is_done

    def chunks(self) -> Iterator[Json]:
        for event, data in read_events(self._reader, self.progress, self._state):
            if event is QUIET:
                yield QUIET
                continue
            self._take(event)
            chunk = self._chunk(event, data)
            if not self.progress.spoken and has_content(chunk):
                self.progress.spoken = True
                self._reader.limits.content_seen()
            yield chunk
        self._reader.finish()
        if not self._is_done or not self.progress.spoken:
            raise self.progress.ended_early()

    def _take(self, event: Json) -> None:
        """Raises the error that the event is."""
        if failure := errors.from_event(event, secret=self._request.api_key):
            raise failure
        if event.get("type") == self._done:
            self._is_done = True
            self.usage = (_spoken if self._done == SPOKEN else _written)(event, self._request)


class Ready:
    """A :class:`~routing.upstreams.streams.Source`: an answer that came whole although a stream was asked for."""

    dropped_params: tuple[str, ...] = ()
    service_tier: str | None = None
    has_event = False

    def __init__(self, answer: Whole, request: UpstreamRequest, usage: Usage | None, *chunks: Json) -> None:
        self.http_status = answer.status
        self.provider_request_id = errors.request_id(answer.headers, request.api_key)
        self.progress = Progress(spoken=True)
        self.usage = usage
        self._said = chunks

    def beat(self, every_s: float) -> None:
        pass  # it is here already

    def close(self) -> None:
        pass

    def chunks(self) -> Iterator[Json]:
        yield from self._said


def _unpacked(answer: Whole, request: UpstreamRequest) -> Ready:
    """Sound in base64 in a JSON object, as Mistral sends it: https://docs.mistral.ai/api/endpoint/audio/speech"""
    body = answered(answer, request.api_key)
    usage, data = _spoken(body, request), _decoded(body.get("audio_data"))
    if not data:
        raise errors.malformed(answer.status, answer.headers, request.api_key, usage)
    return Ready(answer, request, usage, {"content": Content(content_type_of(request.body), data)})


def _sounding(content_type: str, event: Json, data: bytes) -> Json:
    sound = _decoded(event.get("audio")) if event.get("type") == "speech.audio.delta" else None
    return {"native": event, "raw": data, **({"content": Content(content_type, sound)} if sound else {})}


def _spoken(answer: Json, request: UpstreamRequest) -> Usage | None:
    measured = {quantity_name(Meter.INPUT_CHARACTER): Decimal(len(request.body["input"]))}
    return usage_of(answer.get("usage"), is_spoken=True, measured=measured)


def _decoded(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:  # a letter that is not ASCII is one, too
        return None


# --- transcripts ---------------------------------------------------------------------------------------------


def write_down(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> WholeAnswer:
    """A transcript: an object, or a text as a ``content``. Raises UpstreamError."""
    body, content_type = _form(request)
    answer = post(url, {**headers, "Content-Type": content_type}, body, request.timeouts)
    kind = TEXTS.get(_format(request))
    if kind is None or answer.status != 200:
        read = answered(answer, request.api_key)
        if not isinstance(read.get("text"), str):
            raise errors.malformed(answer.status, answer.headers, request.api_key, _written(read, request))
        usage = _written(read, request)
    else:
        read, usage = {"content": Content(kind, answer.body)}, None
    return WholeAnswer(read, usage, answer.status, errors.request_id(answer.headers, request.api_key))


def write_down_live(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> LiveStream:
    """The transcript as events: each chunk has the provider's as ``native``, and its bytes as ``raw``. Raises
    UpstreamError."""
    written_as = _format(request)
    if written_as == "text":  # which the events are in any case, and JSON has a count
        request = replace(request, body={**request.body, "response_format": ("json",)})
    body, content_type = _form(request)
    if written_as in TEXTS and written_as != "text":  # only models that do not stream write subtitles
        return LiveStream(
            _replayed(post(url, {**headers, "Content-Type": content_type}, body, request.timeouts), request)
        )
    answer = post_stream(url, {**headers, "Content-Type": content_type}, body, request.timeouts, request.leash)
    if isinstance(answer, Whole):
        return LiveStream(_replayed(answer, request))
    return LiveStream(Events(answer, request, WRITTEN_DOWN, _said))


def _format(request: UpstreamRequest) -> str:
    given = request.body.get("response_format") or ("json",)
    return str(given[-1])


def _form(request: UpstreamRequest) -> tuple[bytes, str]:
    """The client's form, with the model's own name."""
    parts: list[tuple[str, str | File]] = []
    for name, value in request.body.items():
        if name in OURS or name.partition("[")[0] in OURS:
            continue
        if isinstance(value, File):
            parts.append((name, value))
            continue
        values = (request.deployment.model,) if name == "model" else value
        parts.extend((f"{name}[]" if name in LISTS else name, each) for each in values)
    return forms.written(parts)


def _replayed(answer: Whole, request: UpstreamRequest) -> Ready:
    """The events of a whole transcript: not every model streams."""
    if answer.status == 200 and _format(request) in TEXTS:
        body: Json = {"text": answer.body.decode("utf-8", "replace")}
    else:
        body = answered(answer, request.api_key)
    usage, text = _written(body, request), body.get("text")
    if not isinstance(text, str):
        raise errors.malformed(answer.status, answer.headers, request.api_key, usage)
    counted = {"usage": body["usage"]} if isinstance(body.get("usage"), dict) else {}
    said: tuple[Json, ...] = (
        {"type": "transcript.text.delta", "delta": text},
        {"type": WRITTEN_DOWN, "text": text, **counted},
    )
    return Ready(answer, request, usage, *(_said(event, dumps(event)) for event in said))


def _written(answer: Json, request: UpstreamRequest) -> Usage | None:
    file = request.body.get("file")
    seconds = file.seconds if isinstance(file, File) else None
    measured = None if seconds is None else {quantity_name(Meter.INPUT_SECOND): Decimal(seconds)}
    return usage_of(answer.get("usage"), measured=measured)


def _said(event: Json, data: bytes) -> Json:
    """The event, with what it says as in a chunk of a chat completion."""
    text = event.get("delta") if event.get("type") == "transcript.text.delta" else None
    is_last = event.get("type") == "transcript.text.done"
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop" if is_last else None}
    return {"choices": [choice] if is_last or isinstance(text, str) else [], "native": event, "raw": data}


# --- both ----------------------------------------------------------------------------------------------------


def usage_of(
    reported: object, *, is_spoken: bool = False, measured: Mapping[str, Decimal] | None = None
) -> Usage | None:
    """A count of tokens, or of seconds: OpenAI's two kinds, and Mistral's ``prompt_audio_seconds``. None: there is none
    that can be read. ``is_spoken``: the output is sound. ``measured``: what we know of the input in other
    units, for a model that tells tokens and whose price is of those units."""
    if not isinstance(reported, Mapping):
        return None
    seconds = reported.get("seconds", reported.get("prompt_audio_seconds"))
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < _MOST_SECONDS:
        return Usage(quantities={quantity_name(Meter.INPUT_SECOND): Decimal(str(seconds))})
    given, made = _count(reported.get("input_tokens")), _count(reported.get("output_tokens"))
    if not given or made is None:  # no request is without input
        return None
    details = reported.get("input_token_details")
    heard = min(given, _count(details.get("audio_tokens")) or 0) if isinstance(details, Mapping) else 0
    return Usage(
        input_tokens=given,
        audio_input_tokens=heard,
        output_tokens=made,
        audio_output_tokens=made if is_spoken else 0,
        quantities=measured or {},
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS else None
