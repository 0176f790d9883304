"""Embeddings in OpenAI's format, whoever makes them: https://platform.openai.com/docs/api-reference/embeddings

A provider is asked for vectors as it gives them, in as many inputs at once as it takes. The client gets them as it
asked for them.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from accounting.usage import Usage, UsageSource
from routing.upstreams import errors
from routing.upstreams.base import Deployment, FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.estimate import count_text, text_of_tokens
from routing.upstreams.http.transport import Whole
from routing.upstreams.provider_json import loads
from routing.upstreams.providers import ProviderFacts, facts_of

#: The parameters of OpenAI's embeddings that an answer does without.
_OPTIONAL: Final = frozenset({"encoding_format", "user"})
_FLOAT_BYTES: Final = 4

#: Sends one call's body, and gives the answer in OpenAI's shape. Raises UpstreamError.
Send = Callable[[Json, UpstreamRequest], WholeAnswer]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the provider understands it. ``inputs`` are texts, or lists of tokens where it reads tokens."""

    inputs: list[Any]
    parameters: Json
    dropped: tuple[str, ...]


def inputs_of(body: Mapping[str, Any]) -> list[Any]:
    """The texts or token lists that are asked for. A text or a token list alone is a list of one."""
    given = body["input"]
    is_one = isinstance(given, str) or (given and isinstance(given[0], int))
    return [given] if is_one else list(given)


def embed(request: UpstreamRequest, send: Send) -> WholeAnswer:
    """One answer for all inputs, from as many calls as the provider needs for them. Raises UpstreamError."""
    row = facts_of(request.deployment.litellm_provider, request.deployment.model, request.deployment.base_url)
    asked = _asked(request.body, request.deployment, row)
    ends_at = monotonic() + request.timeouts.total_s
    vectors: list[Any] = []
    usage: Usage | None = None
    answer: WholeAnswer | None = None
    for start in range(0, len(asked.inputs), row.embeds.most_inputs):
        part = asked.inputs[start : start + row.embeds.most_inputs]
        try:
            answer = send({**asked.parameters, "input": part}, _within(request, ends_at))
            vectors += _vectors(answer, len(part))
        except UpstreamError as error:
            if usage is not None:
                error.usage = usage if error.usage is None else usage + error.usage
            raise
        usage = _together(usage, answer.usage, is_first=start == 0)
    assert answer is not None  # a request has at least one input
    as_base64 = request.body.get("encoding_format") == "base64"
    try:
        encoded = [_encoded(vector, as_base64=as_base64) for vector in vectors]
    except (ValueError, OverflowError, struct.error):
        raise _malformed(answer, "The provider's answer has a vector that is none", usage) from None
    body: Json = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(encoded)],
        "model": request.deployment.model,
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
    return replace(answer, body=body, usage=usage, dropped_params=asked.dropped)


def _within(request: UpstreamRequest, ends_at: float) -> UpstreamRequest:
    return replace(request, timeouts=request.timeouts.within(ends_at - monotonic()))


def _asked(body: Mapping[str, Any], deployment: Deployment, row: ProviderFacts) -> Asked:
    """Changes only copies."""
    inputs = inputs_of(body)
    if not row.embeds.reads_tokens:
        inputs = [each if isinstance(each, str) else _text_of(each) for each in inputs]
    parameters: Json = {"model": deployment.model}
    dropped = []
    for name, value in body.items():
        if name in ("input", "model", "metadata") or value is None:
            continue
        if name in _OPTIONAL and name not in row.embeds.takes:
            if name != "encoding_format":  # the vectors are given as they were asked for all the same
                dropped.append(name)
            continue
        parameters[row.embeds.renames.get(name, name)] = value
    return Asked(inputs, parameters, tuple(dropped))


def _text_of(tokens: list[int]) -> str:
    """Tokens of OpenAI's embedding models as text. LangChain's client sends them, whatever model is asked."""
    text = text_of_tokens(tokens)
    if text is None:
        raise UpstreamError(
            FailureKind.BAD_REQUEST,
            "This provider reads text, and the tokens in 'input' are not those of OpenAI's embedding models",
            http_status=400,
            param="input",
        )
    return text


def _vectors(answer: WholeAnswer, expected: int) -> list[Any]:
    """The answer's vectors in the order of the inputs. Raises UpstreamError."""
    data = answer.body.get("data")
    found: dict[int, Any] = {}
    for place, item in enumerate(data if isinstance(data, list) else ()):
        if isinstance(item, dict) and _is_vector(item.get("embedding")):
            index = item.get("index")
            found[index if type(index) is int else place] = item["embedding"]
    if sorted(found) != list(range(expected)):
        said = f"The provider's answer has not one embedding for each of {expected} inputs"
        raise _malformed(answer, said, answer.usage)
    return [found[index] for index in range(expected)]


def _malformed(answer: WholeAnswer, message: str, usage: Usage | None) -> UpstreamError:
    return UpstreamError(
        FailureKind.MALFORMED,
        message,
        http_status=answer.http_status,
        provider_request_id=answer.provider_request_id,
        usage=usage,
        consumed=True,
    )


def _is_vector(value: object) -> bool:
    """Numbers, or their text in base64. Some models give more than numbers: a vector for each token."""
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, list) and bool(value)


def _encoded(vector: Any, *, as_base64: bool) -> Any:
    """The vector as the client asked for it: 32-bit floats, little-endian, in base64, or a list of numbers."""
    if isinstance(vector, str) and not as_base64:
        raw = base64.b64decode(vector, validate=True)
        return list(struct.unpack(f"<{len(raw) // _FLOAT_BYTES}f", raw[: len(raw) // _FLOAT_BYTES * _FLOAT_BYTES]))
    if as_base64 and isinstance(vector, list) and all(_is_number(value) for value in vector):
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return vector


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _together(before: Usage | None, reported: Usage | None, *, is_first: bool) -> Usage | None:
    """None when a call was not counted: then the whole request is estimated."""
    if is_first or before is None or reported is None:
        return reported if is_first else None
    return before + reported


def estimated_usage(body: Mapping[str, Any], model: str) -> Usage:
    """What the inputs come to, by litellm's tokenizer for the model."""
    tokens = sum(_estimated_tokens(each, model) for each in inputs_of(body))
    return Usage(input_tokens=max(1, tokens), source=UsageSource.ESTIMATED)


def _estimated_tokens(given: Any, model: str) -> int:
    return count_text(given, model) if isinstance(given, str) else len(given)


def answered(answer: Whole, secret: str) -> Json:
    """The JSON object of an answer. Raises UpstreamError when it is an error, whatever its status."""
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=secret)
    try:
        body = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers, secret) from None
    request_id = errors.request_id(answer.headers, secret)
    if error := errors.from_event(body, provider_request_id=request_id, secret=secret):
        raise error
    if not isinstance(body, dict):
        raise errors.malformed(answer.status, answer.headers, secret)
    return body
