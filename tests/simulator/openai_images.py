"""OpenAI's pictures, as documented in its API reference: no picture is made, but what one costs is counted."""

from __future__ import annotations

import base64
import re
import time
from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.prompt import Prompt, count
from tests.simulator.wire_format import Asked, Event, Failure, compact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulator.model import Answer

NAME = "images"
STREAM_TYPE = openai_format.STREAM_TYPE
#: https://platform.openai.com/docs/guides/image-generation#cost-and-latency
TOKENS: Mapping[str, Mapping[str, int]] = {
    "low": {"1024x1024": 272, "1024x1536": 408, "1536x1024": 400},
    "medium": {"1024x1024": 1056, "1024x1536": 1584, "1536x1024": 1568},
    "high": {"1024x1024": 4160, "1024x1536": 6240, "1536x1024": 6208},
}
TOKENS_A_PARTIAL = 100
PICTURE = base64.b64encode(b"a picture").decode()
_COMMON = {"model", "prompt", "n", "size", "user", "quality"}
_TAKEN: Mapping[str, set[str]] = {
    "gpt": _COMMON | {"background", "moderation", "output_compression", "output_format", "partial_images", "stream"},
    "dall-e-3": _COMMON | {"response_format", "style"},
    "dall-e-2": (_COMMON | {"response_format"}) - {"quality"},
}
_SIZES = {
    "gpt": {"auto", "1024x1024", "1024x1536", "1536x1024"},
    "dall-e-3": {"1024x1024", "1792x1024", "1024x1792"},
    "dall-e-2": {"256x256", "512x512", "1024x1024"},
}
_QUALITIES = {"gpt": {"auto", "low", "medium", "high"}, "dall-e-3": {"standard", "hd"}, "dall-e-2": set[str]()}

headers = openai_format.headers
failure = openai_format.failure
not_json = openai_format.not_json
failure_event = openai_format.failure_event


#: Tokens of a picture that is looked at: one tile, and more where its details are kept.
TOKENS_SEEN = {"low": 65 + 129, "high": 65 + 129 + 4096}


def refuse(asked: Asked) -> Failure | None:
    if refusal := openai_format.refuse_key(asked.headers):
        return refusal
    body, family = asked.body, _family(asked.model)
    if not body.get("prompt"):
        return openai_format.invalid("You must provide a prompt.", "prompt")
    if family is None:
        return None  # another server's model
    taken = _TAKEN[family] | ({"image", "image[]", "mask", "input_fidelity"} if _is_edit(body) else set())
    if family == "dall-e-3" and _is_edit(body):
        return openai_format.invalid("Invalid value: 'dall-e-3'. Value must be 'dall-e-2'.", "model", "invalid_value")
    if unknown := sorted(body.keys() - taken):
        return openai_format.invalid(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    for name, values in (("size", _SIZES[family]), ("quality", _QUALITIES[family])):
        if body.get(name) is not None and body[name] not in values:
            listed = ", ".join(f"'{value}'" for value in sorted(values))
            return openai_format.invalid(
                f"Invalid value: '{body[name]}'. Supported values are: {listed}.", name, "invalid_value"
            )
    if family == "dall-e-3" and body.get("n") not in (None, 1):
        return openai_format.invalid(
            "Invalid 'n': integer above maximum value. Expected a value <= 1.", "n", "integer_above_max_value"
        )
    if body.get("partial_images") is not None and not body.get("stream"):
        return openai_format.invalid(
            "The 'partial_images' parameter is only allowed when 'stream' is enabled.", "partial_images"
        )
    if body.get("background") == "transparent" and body.get("output_format") == "jpeg":
        return openai_format.invalid("Transparent background is not supported for JPEG output format", "background")
    return None


def _family(model: str) -> str | None:
    if re.match(r"gpt-image-1|chatgpt-image", model):
        return "gpt"
    return model if model in ("dall-e-2", "dall-e-3") else None


def _is_edit(body: Mapping[str, Any]) -> bool:
    return "image" in body or "image[]" in body


def read(asked: Asked) -> Prompt:
    """A form has texts alone, and of several files under one name the last is enough here."""
    body = dict(asked.body)
    for name in ("n", "partial_images"):
        if isinstance(body.get(name), str):
            body[name] = int(body[name])
    streamed = asked.streamed or body.get("stream") == "true"
    seen = sum(name in body for name in ("image", "image[]", "mask")) * TOKENS_SEEN[body.get("input_fidelity", "low")]
    return Prompt(
        model=asked.model,
        streamed=streamed,
        input_tokens=count(body["prompt"]) + seen,
        image_tokens=seen,
        request=body,
    )


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    body, by_tokens = prompt.request or {}, _family(prompt.model) == "gpt"
    as_text = by_tokens or body.get("response_format") == "b64_json"
    picture: dict[str, Any] = {"b64_json": PICTURE} if as_text else {"url": "https://pictures.example/1.png"}
    if _family(prompt.model) == "dall-e-3":
        picture["revised_prompt"] = f"{body['prompt']}, in detail"
    said: dict[str, Any] = {"created": int(time.time()), "data": [dict(picture) for _ in range(body.get("n") or 1)]}
    if by_tokens:
        said |= _shape(body)
        if answer.usage:
            said["usage"] = usage(prompt, body)
    return said


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    body = prompt.request or {}
    partials = body.get("partial_images") or 0
    word = "image_edit" if _is_edit(body) else "image_generation"
    common = {"b64_json": PICTURE, "created_at": int(time.time()), **_shape(body)}
    for place in range(partials):
        yield _event(f"{word}.partial_image", {**common, "partial_image_index": place})
    for _ in range(body.get("n") or 1):
        counted = {"usage": usage(prompt, {**body, "n": 1})} if answer.usage else {}
        yield _event(f"{word}.completed", {**common, **counted})


def usage(prompt: Prompt, body: Mapping[str, Any]) -> dict[str, Any]:
    shape = _shape(body)
    output = TOKENS[shape["quality"]][shape["size"]] * (body.get("n") or 1)
    output += (body.get("partial_images") or 0) * TOKENS_A_PARTIAL
    return {
        "input_tokens": prompt.input_tokens,
        "input_tokens_details": {
            "text_tokens": prompt.input_tokens - prompt.image_tokens,
            "image_tokens": prompt.image_tokens,
        },
        "output_tokens": output,
        "total_tokens": prompt.input_tokens + output,
    }


def _shape(body: Mapping[str, Any]) -> dict[str, str]:
    """What was made. `auto` makes the dearest here, since nobody may count on less."""
    size, quality = body.get("size") or "auto", body.get("quality") or "auto"
    return {
        "background": "opaque",
        "output_format": body.get("output_format") or "png",
        "quality": "high" if quality == "auto" else quality,
        "size": "1024x1536" if size == "auto" else size,
    }


def _event(kind: str, fields: dict[str, Any]) -> Event:
    return Event(f"event: {kind}\ndata: ".encode() + compact({"type": kind, **fields}) + b"\n\n", token=True)
