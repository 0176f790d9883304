"""Pictures in OpenAI's format, whoever makes them: https://platform.openai.com/docs/api-reference/images

A picture is billed as one, by its size and quality, or by the tokens that it comes to. Which of the two, the model
says; where an answer has no count of tokens, its pictures are counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from accounting import json_text
from accounting.usage import Meter, Usage, UsageSource, quantity_name
from routing.upstreams import errors
from routing.upstreams.base import (
    QUIET,
    Deployment,
    FailureKind,
    File,
    Json,
    Timeouts,
    UpstreamError,
    UpstreamRequest,
    WholeAnswer,
)
from routing.upstreams.embeddings import answered
from routing.upstreams.estimate import count_text
from routing.upstreams.http import forms
from routing.upstreams.http.events import EventReader, post_stream
from routing.upstreams.http.transport import Whole, post
from routing.upstreams.mends.capability import cannot
from routing.upstreams.price_map import limits_of
from routing.upstreams.provider_json import dumps
from routing.upstreams.streams import LiveStream, Progress, read_events
from routing.upstreams.usage import usage_of_pictures

#: The paths, and the words for them in the types of events.
GENERATIONS: Final = "images/generations"
EDITS: Final = "images/edits"
_WORDS: Final = {GENERATIONS: "image_generation", EDITS: "image_edit"}
MOST_PARTIALS: Final = 3
#: https://platform.openai.com/docs/guides/image-generation#cost-and-latency
TOKENS_A_PARTIAL: Final = 100
#: Output tokens of a picture, by quality and by whether it is a square. The rest of the documented table is lower.
_TOKENS: Final[Mapping[str, tuple[int, int]]] = {"low": (272, 408), "medium": (1_056, 1_584), "high": (4_160, 6_240)}
_SQUARE: Final = "1024x1024"
#: What comes beside the table: the published prices of the mini model come to 350 tokens more, and the newer models
#: write text.
TOKENS_BESIDE: Final = 1_024
#: Models whose table is published. Newer ones take any size, and nobody says how many tokens that comes to.
_TABLED: Final = re.compile(r"^(?:gpt-image-1(?:\.5|-mini)?(?:-\d{4}-\d\d-\d\d)?|chatgpt-image-latest)$")
_BY_TOKENS: Final = re.compile(r"(?:^|/)(?:gpt-image-|chatgpt-image)")
_DALL_E: Final = re.compile(r"(?:^|/)dall-e-([23])$")
_GEMINI_PICTURES: Final = re.compile(r"gemini.*image|nano-banana")
#: Fields of a form that are files.
FILES: Final = ("image", "mask")
#: Tokens of a picture that is looked at, at the most: 65, and 129 for each of eight tiles, and up to 6,144 where its
#: details are to be kept. https://platform.openai.com/docs/guides/image-generation#input-tokens
TOKENS_A_PICTURE_SEEN: Final = 8_192
_EDITING: Final = frozenset({"azure", "custom_openai", "litellm_proxy", "openai", "openai_like"})
#: What OpenAI's two families take. The other is refused by name, so it is left out.
_GPT_IMAGE_TAKES: Final = frozenset(
    {
        "background", "image", "input_fidelity", "mask", "model", "moderation", "n", "output_compression",
        "output_format", "partial_images", "prompt", "quality", "size", "user",
    }
)  # fmt: skip
_DALL_E_TAKES: Final = frozenset(
    {"image", "mask", "model", "n", "prompt", "quality", "response_format", "size", "style", "user"}
)
#: xAI has shapes and resolutions, and refuses sizes: https://docs.x.ai/docs/guides/image-generations
_XAI_TAKES: Final = frozenset({"aspect_ratio", "model", "n", "prompt", "resolution", "response_format", "user"})
#: A quality that clients of one family ask of the other.
_GPT_IMAGE_QUALITIES: Final = {"standard": "medium", "hd": "high"}
_DALL_E_QUALITIES: Final = {"low": "standard", "medium": "standard", "high": "hd"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the model understands it, and what of the client's is left out."""

    body: Json
    dropped: tuple[str, ...] = ()


def asked(body: Mapping[str, Any], deployment: Deployment) -> Asked:
    """Changes only a copy."""
    given = {name: v for name, v in body.items() if v is not None and name not in ("metadata", "stream")}
    given["model"] = deployment.model
    dall_e = _DALL_E.search(deployment.model)
    if _BY_TOKENS.search(deployment.model):
        takes, qualities = _GPT_IMAGE_TAKES, _GPT_IMAGE_QUALITIES
        if not body.get("stream"):
            takes -= {"partial_images"}
    elif dall_e:
        takes, qualities = _DALL_E_TAKES, _DALL_E_QUALITIES
        if dall_e[1] == "2":
            takes -= {"quality", "style"}  # it has one of each
    elif deployment.litellm_provider == "xai":
        takes, qualities = _XAI_TAKES, {}
    else:
        return Asked({name: value for name, value in given.items() if name != "partial_images"})
    kept = {name: value for name, value in given.items() if name in takes}
    if isinstance(kept.get("quality"), str):
        kept["quality"] = qualities.get(kept["quality"], kept["quality"])
    if dall_e:  # each size and quality has a price of its own, so none is left for the provider to choose
        kept = {name: v for name, v in kept.items() if v != "auto" or name not in ("quality", "size")}
    return Asked(kept, tuple(sorted(given.keys() - takes)))


def resource_of(request: UpstreamRequest) -> str:
    """The path of what is asked for. Raises UpstreamError when the provider does not change pictures."""
    if not _has_files(request.body):
        return GENERATIONS
    if request.deployment.litellm_provider not in _EDITING:
        raise cannot("The gateway cannot ask this provider to change a picture", "image")
    return EDITS


def streams(deployment: Deployment) -> bool:
    """Whether the deployment shows a picture while it is made."""
    return deployment.litellm_provider in _STREAMING and _BY_TOKENS.search(deployment.model) is not None


_STREAMING: Final = frozenset({"azure", "custom_openai", "litellm_proxy", "openai", "openai_like"})


# --- what it comes to ---------------------------------------------------------------------------------------------


def is_by_tokens(deployment: Deployment) -> bool:
    """Whether the model counts its pictures in tokens."""
    return bool(_BY_TOKENS.search(deployment.model) or _GEMINI_PICTURES.search(deployment.model))


def most_output_tokens(given: Mapping[str, Any], deployment: Deployment) -> int | None:
    """Of one picture, with those that show how it comes on; None: nobody says."""
    if _GEMINI_PICTURES.search(deployment.model):
        return limits_of(deployment.litellm_provider, deployment.model)[0]
    if not _TABLED.match(deployment.model):
        return None
    square, other = _TOKENS.get(str(given.get("quality")), _TOKENS["high"])
    most = square if given.get("size") == _SQUARE else other
    return most + TOKENS_BESIDE + (given.get("partial_images") or 0) * TOKENS_A_PARTIAL


def picture_name(given: Mapping[str, Any], deployment: Deployment) -> str:
    """The name of the quantity that a picture is: `image:hd/1024x1024`. Without a size it is the model's usual one."""
    quality, size = given.get("quality"), given.get("size")
    dall_e = _DALL_E.search(deployment.model)
    if dall_e:
        size = "1024x1024" if size in (None, "auto") else size
        quality = (quality or "standard") if dall_e[1] == "3" else None
    elif deployment.litellm_provider == "xai":
        size = str(given.get("resolution") or "1k").upper()
    words = [each for each in (quality, size) if isinstance(each, str) and re.fullmatch(r"[\w.-]{1,20}", each)]
    return quantity_name(Meter.IMAGE, "/".join(words))


def pictures(count: int, given: Mapping[str, Any], deployment: Deployment) -> Usage:
    return Usage(quantities={picture_name(given, deployment): Decimal(count)})


def estimated_usage(given: Mapping[str, Any], count: int, deployment: Deployment) -> Usage:
    """What so many pictures come to that nobody has counted."""
    if not is_by_tokens(deployment):
        found = pictures(count, given, deployment)
        return Usage(quantities=found.quantities, source=UsageSource.ESTIMATED)
    tokens = count * (most_output_tokens(given, deployment) or _TOKENS["high"][1])
    return Usage(
        input_tokens=max(1, count_text(str(given.get("prompt")), deployment.model)),
        output_tokens=tokens,
        source=UsageSource.ESTIMATED,
        quantities={quantity_name(Meter.IMAGE_OUTPUT): Decimal(tokens)},
    )


# --- answers ------------------------------------------------------------------------------------------------------


def draw(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> WholeAnswer:
    """Asks a provider that speaks OpenAI's format. Raises UpstreamError."""
    sent = asked(request.body, request.deployment)
    body, content_type = _written(sent.body)
    return _read(post(url, {**headers, "Content-Type": content_type}, body, request.timeouts), request, sent)


def draw_live(url: str, headers: Mapping[str, str], request: UpstreamRequest) -> LiveStream:
    """The same as a stream, also of a model that does not stream. Raises UpstreamError."""
    if not streams(request.deployment):
        return LiveStream(Drawn(draw(url, headers, request), request))
    sent = asked(request.body, request.deployment)
    body, content_type = _written({**sent.body, "stream": True})
    headers = {**headers, "Content-Type": content_type}
    answer = post_stream(url, headers, body, _patient(request.timeouts), request.leash)
    if isinstance(answer, Whole):
        return LiveStream(Drawn(_read(answer, request, sent), request))
    return LiveStream(Events(answer, request, sent.dropped))


def _patient(timeouts: Timeouts) -> Timeouts:
    """A picture is made in silence, before its first preview and between two of them."""
    silence_s = min(timeouts.thinking_s, timeouts.total_s)
    return replace(timeouts, first_token_s=silence_s, idle_s=max(silence_s, timeouts.idle_s))


def _written(body: Json) -> tuple[bytes, str]:
    """JSON, or a form when there are files in it."""
    if not _has_files(body):
        return dumps(body), "application/json"
    parts: list[tuple[str, str | File]] = []
    for name, value in body.items():
        if name in FILES:
            parts.extend((f"{name}[]" if len(value) > 1 else name, file) for file in value)
        else:
            parts.append((name, json_text.dumps(value).decode() if isinstance(value, bool) else str(value)))
    return forms.written(parts)


def _has_files(body: Mapping[str, Any]) -> bool:
    """A client's JSON may have an ``image``, too, which is a text or a list."""
    return isinstance(body.get("image"), tuple)


def _read(answer: Whole, request: UpstreamRequest, asked_for: Asked) -> WholeAnswer:
    body = answered(answer, request.api_key)
    request_id = errors.request_id(answer.headers, request.api_key)
    return drawn(body, request.deployment, asked_for, http_status=answer.status, request_id=request_id)


def drawn(
    body: Json, deployment: Deployment, asked_for: Asked, *, http_status: int, request_id: str | None
) -> WholeAnswer:
    """The answer with its count: the provider's of tokens, else that of its pictures. Raises UpstreamError."""
    data = body.get("data")
    made = [each for each in data if _is_picture(each)] if isinstance(data, list) else []
    usage = usage_of_pictures(body.get("usage"))
    if not made:
        raise UpstreamError(
            FailureKind.EMPTY if data == [] else FailureKind.MALFORMED,
            "The provider's answer has no picture",
            http_status=http_status,
            provider_request_id=request_id,
            usage=usage,
            consumed=True,
        )
    if type(body.get("created")) is not int:
        body["created"] = int(time.time())
    body["data"] = made
    if usage is None and not is_by_tokens(deployment):
        usage = pictures(len(made), asked_for.body, deployment)
    return WholeAnswer(body, usage, http_status, request_id, dropped_params=asked_for.dropped)


def _is_picture(each: object) -> bool:
    return isinstance(each, dict) and any(
        isinstance(each.get(name), str) and each[name] for name in ("b64_json", "url")
    )


class Events:
    """A :class:`~routing.upstreams.streams.Source`: a picture while it is made, as OpenAI sends it.

    Each chunk has the provider's event as ``native``, and a choice that has content and no words."""

    def __init__(self, reader: EventReader, request: UpstreamRequest, dropped: tuple[str, ...]) -> None:
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.dropped_params = dropped
        self.progress = Progress()
        self.service_tier: str | None = None
        self._reader = reader
        self._secret = request.api_key
        self._most = request.body.get("n") or 1
        self._usage: Usage | None = None
        self._completed = 0

    @property
    def usage(self) -> Usage | None:
        return self._usage

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _state(self) -> tuple[bool, bool]:
        is_over = self._completed >= self._most
        return is_over, is_over

    def chunks(self) -> Iterator[Json]:
        for event, _ in read_events(self._reader, self.progress, self._state):
            if event is QUIET:
                yield QUIET
                continue
            if failure := errors.from_event(event, secret=self._secret):
                raise failure
            if not _is_picture(event):
                yield QUIET
                continue
            self.progress.spoken = True
            self._reader.limits.content_seen()
            yield self._chunk(event)
        self._reader.close()
        if not self._completed:
            raise self.progress.ended_early()

    def _chunk(self, event: Json) -> Json:
        is_last = is_completed(event)
        if is_last:
            self._completed += 1
            counted = usage_of_pictures(event.get("usage"))
            self._usage = counted if self._usage is None or counted is None else self._usage + counted
        reason = "stop" if is_last and self._completed >= self._most else None
        return {"choices": [{"index": 0, "delta": {"images": [True]}, "finish_reason": reason}], "native": event}


class Drawn:
    """A :class:`~routing.upstreams.streams.Source`: a whole answer where a stream was asked for."""

    progress = Progress(spoken=True)
    has_event = False

    def __init__(self, answer: WholeAnswer, request: UpstreamRequest) -> None:
        self._type = f"{_WORDS[resource_of(request)]}.completed"
        self.http_status = answer.http_status
        self.provider_request_id = answer.provider_request_id
        self.dropped_params = answer.dropped_params
        self.usage = answer.usage
        self.service_tier: str | None = None
        self._body = answer.body

    def beat(self, every_s: float) -> None:
        pass

    def close(self) -> None:
        pass

    def chunks(self) -> Iterator[Json]:
        said = {name: self._body[name] for name in _OF_AN_EVENT if name in self._body}
        for place, picture in enumerate(self._body["data"], start=1):
            event = {"type": self._type, "created_at": self._body["created"], **said, **picture}
            reason = "stop" if place == len(self._body["data"]) else None
            yield {"choices": [{"index": 0, "delta": {"images": [True]}, "finish_reason": reason}], "native": event}


def is_completed(event: Mapping[str, Any]) -> bool:
    """Whether the event has a picture as it is to be, and not how it comes on."""
    kind = event.get("type")
    return isinstance(kind, str) and kind.endswith(".completed")


_OF_AN_EVENT: Final = ("background", "output_format", "quality", "size")
