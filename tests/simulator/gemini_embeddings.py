"""Gemini's embeddings: https://ai.google.dev/api/embeddings#method:-models.batchembedcontents"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulator import gemini_format
from tests.simulator.openai_embeddings import DIMENSIONS, vector
from tests.simulator.prompt import Prompt, count
from tests.simulator.wire_format import Asked, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.model import Answer
    from tests.simulator.wire_format import Event

NAME = "gemini_embeddings"
STREAM_TYPE = gemini_format.STREAM_TYPE
MOST_INPUTS = 100

headers = gemini_format.headers
failure = gemini_format.failure
not_json = gemini_format.not_json
failure_event = gemini_format.failure_event


def refuse(asked: Asked) -> Failure | None:
    if refusal := gemini_format.refuse_key(asked):
        return refusal
    requests = asked.body.get("requests")
    if not isinstance(requests, list) or not requests:
        return gemini_format.invalid("* BatchEmbedContentsRequest.requests: requests is required")
    if len(requests) > MOST_INPUTS:
        return gemini_format.invalid(
            f"* BatchEmbedContentsRequest.requests: at most {MOST_INPUTS} requests can be in one batch"
        )
    for index, request in enumerate(requests):
        if request.get("model") != f"models/{asked.model}":
            return gemini_format.invalid(
                f"* BatchEmbedContentsRequest.requests[{index}].model: unexpected model name format"
            )
        if unknown := sorted(request.keys() - {"model", "content", "taskType", "title", "outputDimensionality"}):
            return gemini_format.invalid(
                f"Invalid JSON payload received. Unknown name \"{unknown[0]}\" at 'requests[{index}]': "
                "Cannot find field."
            )
    return None


def read(asked: Asked) -> Prompt:
    tokens = sum(count(_text(request)) for request in asked.body["requests"])
    return Prompt(model=asked.model, streamed=False, input_tokens=tokens, request=asked.body)


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    requests = (prompt.request or {})["requests"]
    return {
        "embeddings": [
            {"values": vector(_text(each), each.get("outputDimensionality") or DIMENSIONS)} for each in requests
        ]
    }


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    raise AssertionError("embeddings are not streamed")


def _text(request: Any) -> str:
    return "".join(part["text"] for part in request["content"]["parts"])
