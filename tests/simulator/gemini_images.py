"""Imagen's pictures, as Google AI Studio serves them: https://ai.google.dev/gemini-api/docs/imagen"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulator import gemini_format
from tests.simulator.openai_images import PICTURE
from tests.simulator.prompt import Prompt
from tests.simulator.wire_format import Asked, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.model import Answer
    from tests.simulator.wire_format import Event

NAME = "imagen"
STREAM_TYPE = gemini_format.STREAM_TYPE
_TAKEN = frozenset({"sampleCount", "imageSize", "aspectRatio", "personGeneration"})

headers = gemini_format.headers
failure = gemini_format.failure
not_json = gemini_format.not_json
failure_event = gemini_format.failure_event


def refuse(asked: Asked) -> Failure | None:
    if refusal := gemini_format.refuse_key(asked):
        return refusal
    instances, parameters = asked.body.get("instances"), asked.body.get("parameters") or {}
    if not isinstance(instances, list) or len(instances) != 1 or not instances[0].get("prompt"):
        return gemini_format.invalid("Exactly one instance with a prompt is required.")
    if unknown := sorted(parameters.keys() - _TAKEN):
        return gemini_format.invalid(f"{unknown[0]} isn't supported by this model.")
    if not 1 <= (parameters.get("sampleCount") or 1) <= 4:
        return gemini_format.invalid("sampleCount must be between 1 and 4.")
    return None


def read(asked: Asked) -> Prompt:
    return Prompt(model=asked.model, streamed=False, input_tokens=0, request=asked.body)


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    count = ((prompt.request or {}).get("parameters") or {}).get("sampleCount") or 1
    return {"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": PICTURE} for _ in range(count)]}


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    raise AssertionError("Imagen's pictures are not streamed")
