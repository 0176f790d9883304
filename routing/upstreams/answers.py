"""What an answer in OpenAI's format must have in it to count as one, whichever upstream brought it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from routing.upstreams.base import FailureKind, Json, UpstreamError, WholeAnswer
from routing.upstreams.usage import usage_of

#: Parts of a delta or message that are an answer. `annotations`, `thinking_blocks` and the like come with these.
_CONTENT = (
    "content",
    "tool_calls",
    "reasoning_content",
    "refusal",
    "audio",
    "function_call",
    "reasoning",
    "images",
)
#: An answer without content is still one when these say why.
_SPEAKING_ENDS = frozenset({"length", "content_filter"})


def speaks(message: object) -> bool:
    """Whether a message or delta has content: text, a tool call, reasoning, a refusal, audio."""
    if not isinstance(message, dict):
        return False
    if message.get("content"):
        return True
    return any(message.get(part) for part in _CONTENT)


def has_content(chunk: Mapping[str, Any]) -> bool:
    """Whether a stream chunk carries content or a finish reason: the first-token limit runs until one does."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return False
    return any(
        isinstance(choice, dict) and (choice.get("finish_reason") or speaks(choice.get("delta"))) for choice in choices
    )


def ends_empty(finish_reason: object, *, may_be_empty: bool = False) -> bool:
    """Whether an answer that ends so, without any content, is an empty one."""
    return finish_reason not in _SPEAKING_ENDS and not (may_be_empty and finish_reason == "stop")


def may_be_empty(request: Mapping[str, Any]) -> bool:
    """Whether an answer without content that ends with `stop` answers the request: an agent that has nothing more to
    say after a tool's result, or a model whose first words were a stop sequence."""
    messages = request.get("messages")
    roles = (
        [message.get("role") for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    )
    said = [role for role in roles if role not in ("system", "developer")]
    return bool(request.get("stop")) or said[-1:] in (["tool"], ["function"])


def loads(data: bytes | str) -> Any:
    """JSON from a provider. Raises ValueError, also for nesting that is too deep."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def dumps(body: Mapping[str, Any]) -> bytes:
    """A request's body. Escaped to ASCII: a lone surrogate, which JSON allows, has no UTF-8."""
    try:
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise UpstreamError(
            FailureKind.BAD_REQUEST,
            "The request cannot be written as JSON",
            http_status=400,
            error_type="invalid_request_error",
            code="invalid_value",
        ) from error


def whole_answer(
    body: object, http_status: int, provider_request_id: str | None, *, may_be_empty: bool = False
) -> WholeAnswer:
    """Checks a `chat.completion` and fills in the fields that OpenAI's schema requires and others leave out.

    Raises UpstreamError MALFORMED or EMPTY; the latter with the usage, which the provider bills all the same.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(choices, list) or not all(map(_is_choice, choices)):
        raise UpstreamError(
            FailureKind.MALFORMED,
            "The provider's answer is not a chat completion",
            http_status=http_status,
            provider_request_id=provider_request_id,
        )
    usage = usage_of(body.get("usage"))
    ends = [c.get("finish_reason") for c in choices if not speaks(c["message"])]
    if len(ends) == len(choices) and all(ends_empty(end, may_be_empty=may_be_empty) for end in ends):
        raise UpstreamError(
            FailureKind.EMPTY,
            "The provider's answer is empty",
            http_status=http_status,
            provider_request_id=provider_request_id,
            usage=usage,
        )
    return WholeAnswer(conforming(body), usage, http_status, provider_request_id)


def cleaned(body: Json) -> Json:
    """litellm's answer without the empty fields that only litellm's own code reads."""
    result = {n: v for n, v in body.items() if v or not n.startswith("vertex_ai_")}
    for choice in result.get("choices", ()):
        for holder in (choice, choice["message"]):
            for name in ("images", "thinking_blocks", "provider_specific_fields", "annotations"):
                value = holder.get(name)
                if isinstance(value, dict):
                    holder[name] = value = {n: v for n, v in value.items() if v is not None}
                if name in holder and not value:
                    del holder[name]
    return result


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def conforming(body: Json) -> Json:
    """The same object, with what OpenAI's schema requires of a `chat.completion` in place."""
    if not isinstance(body.get("id"), str):
        body["id"] = f"chatcmpl-{time.time_ns():x}"
    body["object"] = "chat.completion"
    if type(body.get("created")) is not int:
        body["created"] = int(time.time())
    if body.get("usage", 0) is None:
        del body["usage"]
    for index, choice in enumerate(body["choices"]):
        if type(choice.get("index")) is not int:
            choice["index"] = index
        if not choice.get("finish_reason"):
            choice["finish_reason"] = "tool_calls" if choice["message"].get("tool_calls") else "stop"
        choice.setdefault("logprobs", None)
        message = choice["message"]
        message["role"] = "assistant"
        message.setdefault("content", None)
        message.setdefault("refusal", None)
        if message.get("tool_calls", 0) is None:
            del message["tool_calls"]
    return body
