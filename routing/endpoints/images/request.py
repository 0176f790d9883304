"""Reads and validates a request for pictures, and bounds its cost: https://platform.openai.com/docs/api-reference/images"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Meter, Usage
from routing.api.parts import Form
from routing.catalog import Step
from routing.endpoints.fields import (
    alias_of,
    end_user_of,
    optional,
    refuse_more_than,
    required,
    tags_of,
    whole_number,
)
from routing.exceptions import InvalidRequest, MissingParameter
from routing.serving.call import Call, CappedBy, Partial, Quantities, Received, Unbounded
from routing.upstreams import images
from routing.upstreams.base import AnswerStream, File, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind

MAX_PICTURES: Final = 10  # OpenAI's limit of `n`
MAX_PROMPT_CHARACTERS: Final = 100_000  # OpenAI takes 32,000
#: What stands around a prompt.
TOKENS_A_PROMPT: Final = 64
MAX_FILES: Final = 16  # OpenAI's limit
_NUMBERS: Final = frozenset({"n", "output_compression", "partial_images"})
#: What is known to change nothing but the picture: of OpenAI's format, and what other providers added. The size and
#: the quality have prices.
_FREE: Final = frozenset(
    {
        "aspect_ratio", "background", "input_fidelity", "metadata", "model", "moderation", "n", "negative_prompt",
        "output_compression", "output_format", "partial_images", "prompt", "quality", "resolution", "response_format",
        "seed", "size", "stream", "style", "user",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImagesCall:
    """A valid request for pictures: a `routing.serving.call.StreamedCall`. ``body`` is never changed."""

    endpoint: ClassVar[str] = "images"
    kind: ClassVar[Kind] = Kind.IMAGE
    is_adapted: ClassVar[bool] = False

    alias: str
    body: Mapping[str, Any]
    streamed: bool
    pictures: int
    end_user: str
    tags: Tags
    deadline: float | None = None  # monotonic: when the client no longer wants an answer
    files: Mapping[str, tuple[File, ...]] = field(default_factory=dict)  # the pictures to be changed, and a mask

    def left_s(self) -> float:
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def ceiling(self, step: Step) -> Quantities:
        given = images.asked(self.body, step.deployment).body
        if not images.is_by_tokens(step.deployment):
            most = Quantities(
                input_tokens=0,
                output_cap_tokens=0,
                capped_by=CappedBy.NOBODY,
                units={images.picture_name(given, step.deployment): Decimal(self.pictures)},
                needs={"model": Meter.IMAGE},
            )
        else:
            tokens = images.most_output_tokens(given, step.deployment)
            seen = sum(map(len, self.files.values()))
            most = Quantities(
                # Nobody says that all of it is read once for several pictures, and a stream has a count for each.
                input_tokens=self.pictures * (_most_tokens(str(given["prompt"])) + seen * images.TOKENS_A_PICTURE_SEEN),
                output_cap_tokens=tokens or 0,
                capped_by=CappedBy.NOBODY,
                answers=self.pictures,
            )
            if tokens is None:
                raise Unbounded("model", f"nobody says how many tokens a picture of {step.deployment.model} is", most)
        unknown = next((name for name in self.body if name not in _FREE), None)
        if unknown is not None:
            raise Unbounded(unknown, "it is not known to cost nothing more", most)
        return most

    def request_for(self, step: Step, most: Quantities) -> Json:
        return {**self.body, **self.files}

    def ask_otherwise(self, step: Step) -> bool:
        return False

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        return upstream.draw(request)

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        return upstream.draw_stream(request)

    def estimate(self, received: Received, step: Step) -> Usage:
        made = len(received["data"]) if isinstance(received, dict) else self.pictures
        given = images.asked(self.body, step.deployment).body
        return images.estimated_usage(given, made, step.deployment)

    def partial(self, *, is_rescuable: bool) -> Partial:
        return PartialPicture()

    def continuation(self, partial: Partial, said_tokens: int) -> Call:
        raise AssertionError("no picture is gone on with")


class PartialPicture:
    """What has come of a stream of pictures: a `routing.serving.call.Partial`. Nobody can go on with a picture."""

    can_be_continued = False
    received = ""

    def __init__(self) -> None:
        self.is_finished = False

    def receive(self, event: Json) -> Iterable[Json]:
        self.is_finished = self.is_finished or any(each.get("finish_reason") for each in event["choices"])
        return (event,)

    def begin_anew(self) -> None:
        pass


def _most_tokens(prompt: str) -> int:
    """No tokenizer makes more tokens of a text than it has bytes."""
    return len(prompt.encode("utf-8", "surrogatepass")) + TOKENS_A_PROMPT


def parse_edit(form: Form, alias_in_path: str | None = None, deadline: float | None = None) -> ImagesCall:
    """Validate a form with pictures that are to be changed. Raises InvalidRequest, whose ``param`` names the field."""
    body: Json = {}
    metadata = {}
    for name, values in form.fields.items():
        if name.startswith("metadata["):
            metadata[name.removeprefix("metadata[").rstrip("]")] = values[-1]
        else:
            body[name] = _value(name, values[-1])
    if metadata:
        body["metadata"] = metadata
    for name in images.FILES:
        if name in form.fields:
            raise InvalidRequest(f"'{name}' must be a file, which has a name.", param=name)
    for name in form.files:
        if name not in images.FILES:
            raise InvalidRequest(
                f"There is a file under '{name[:100]}'; send it as 'image' or 'mask'.", param=name[:100]
            )
    if not form.files.get("image"):
        raise MissingParameter("'image' is required: a file with a name.", param="image")
    refuse_more_than(MAX_FILES, len(form.files["image"]), "pictures", "image")
    refuse_more_than(1, len(form.files.get("mask", ())), "masks", "mask")
    return replace(parse_generation(body, alias_in_path, deadline), files=form.files)


def _value(name: str, text: str) -> Any:
    """A form has texts alone."""
    if name == "stream" and text in ("true", "false"):
        return text == "true"
    if name in _NUMBERS and text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return text


def parse_generation(body: Any, alias_in_path: str | None = None, deadline: float | None = None) -> ImagesCall:
    """Validate a request for pictures. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if alias_in_path is not None:
        body = {**body, "model": alias_in_path}
    alias = alias_of(body)
    prompt = required(body, "prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequest("'prompt' must be a non-empty string.", param="prompt")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(f"'prompt' may have {MAX_PROMPT_CHARACTERS} characters at the most.", param="prompt")
    for name in ("size", "quality", "background", "output_format", "style", "moderation", "resolution"):
        optional(body, name, str, "a string")
    form = optional(body, "response_format", str, "'url' or 'b64_json'")
    if form not in (None, "url", "b64_json"):
        raise InvalidRequest("'response_format' must be 'url' or 'b64_json'.", param="response_format")
    streamed = optional(body, "stream", bool, "true or false") or False
    partials = body.get("partial_images")
    if partials is not None and (type(partials) is not int or not 0 <= partials <= images.MOST_PARTIALS):
        raise InvalidRequest(
            f"'partial_images' must be a whole number from 0 to {images.MOST_PARTIALS}.", param="partial_images"
        )
    return ImagesCall(
        alias=alias,
        body=body,
        streamed=streamed,
        pictures=whole_number(body, "n", most=MAX_PICTURES) or 1,
        end_user=end_user_of(body),
        tags=tags_of(body),
        deadline=deadline,
    )
