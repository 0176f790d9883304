# ruff: noqa: E501 - the provider's own sentences are kept whole
"""OpenAI's embeddings, as documented in its API reference: the same text always gets the same vector."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.prompt import Prompt, count
from tests.simulator.wire_format import Asked, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.model import Answer
    from tests.simulator.wire_format import Event

NAME = "embeddings"
STREAM_TYPE = openai_format.STREAM_TYPE
MOST_INPUTS = 2048
DIMENSIONS = 8
_TAKEN = frozenset({"input", "model", "encoding_format", "dimensions", "user"})

headers = openai_format.headers
failure = openai_format.failure
not_json = openai_format.not_json
failure_event = openai_format.failure_event


def vector(text: object, dimensions: int = DIMENSIONS) -> list[float]:
    digest = hashlib.sha256(repr(text).encode()).digest()
    return [digest[place % len(digest)] / 256 - 0.5 for place in range(dimensions)]


def refuse(asked: Asked) -> Failure | None:
    if refusal := openai_format.refuse_key(asked.headers):
        return refusal
    body = asked.body
    if not body.get("model"):
        return openai_format.invalid("you must provide a model parameter")
    given = body.get("input")
    if given is None or given in ("", []):
        return openai_format.invalid(
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
        )
    if len(_inputs(body)) > MOST_INPUTS:
        return openai_format.invalid(
            f"Invalid 'input': array too long. Expected an array with maximum length {MOST_INPUTS}, but got an array with length {len(_inputs(body))} instead.",
            "input",
            "array_above_max_length",
        )
    if unknown := sorted(body.keys() - _TAKEN):
        return openai_format.invalid(f"Unrecognized request argument supplied: {unknown[0]}")
    if body.get("encoding_format") not in (None, "float", "base64"):
        return openai_format.invalid("Invalid value for 'encoding_format'.", "encoding_format")
    return None


def read(asked: Asked) -> Prompt:
    """The answer is computed by `whole`, which is given the same prompt: so the prompt has the request."""
    inputs = _inputs(asked.body)
    tokens = sum(count(each) if isinstance(each, str) else len(each) for each in inputs)
    return Prompt(model=asked.model, streamed=False, input_tokens=tokens, request=asked.body)


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    body = prompt.request or {}
    as_base64 = body.get("encoding_format") == "base64"
    vectors = [vector(each, body.get("dimensions") or DIMENSIONS) for each in _inputs(body)]
    usage = answer.usage
    said: dict[str, Any] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(values) if as_base64 else values}
            for index, values in enumerate(vectors)
        ],
        "model": prompt.model,
    }
    if usage is not None:
        said["usage"] = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return said


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    raise AssertionError("embeddings are not streamed")


def _inputs(body: Any) -> list[Any]:
    given = body["input"]
    return [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)


def _base64(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
