"""Decides what counts as an answer, whichever upstream brought it.

Whole answers and stream chunks are read before they are passed on, and put into OpenAI's shape as far as possible
(`conforming`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routing.upstreams.base import Content, FailureKind, Json, UpstreamError, WholeAnswer
from routing.upstreams.conforming import conforming, ends_in_failure, why_failed
from routing.upstreams.usage import reported_in, usage_of

#: The parts of a delta or message that are an answer. `annotations`, `thinking_blocks` and the like come with them.
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
#: Finish reasons with which an answer may be without content: they say why it is empty.
_SPEAKING_ENDS = frozenset({"length", "content_filter"})


def speaks(message: object) -> bool:
    """Whether a message or delta has content: text, a tool call, reasoning, a refusal, audio."""
    if not isinstance(message, dict):
        return False
    if message.get("content"):
        return True
    return any(message.get(part) for part in _CONTENT)


def has_content(chunk: Mapping[str, Any]) -> bool:
    """Whether a stream chunk has content or a finish reason. The first such chunk ends the first-token limit."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return isinstance(chunk.get("content"), Content)
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
    said = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    roles = [message.get("role") for message in said if message.get("role") not in ("system", "developer")]
    return bool(request.get("stop")) or roles[-1:] in (["tool"], ["function"])


def whole_answer(
    body: object, http_status: int, provider_request_id: str | None, *, may_be_empty: bool = False, secret: str = ""
) -> WholeAnswer:
    """Checks a `chat.completion`, and puts it into OpenAI's shape.

    Raises UpstreamError: MALFORMED, EMPTY, or OVERLOADED for an answer that ends in an error. The error has the usage,
    because the provider bills it all the same.
    """
    usage = usage_of(reported_in(body)) if isinstance(body, dict) else None

    def failed(kind: FailureKind, message: str) -> UpstreamError:
        return UpstreamError(
            kind,
            message,
            http_status=http_status,
            provider_request_id=provider_request_id,
            usage=usage,
            consumed=True,
            secret=secret,
        )

    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(choices, list) or not all(map(_is_choice, choices)):
        raise failed(FailureKind.MALFORMED, "The provider's answer is not a chat completion")
    if any(ends_in_failure(choice.get("finish_reason")) for choice in choices):
        raise failed(FailureKind.OVERLOADED, why_failed(choices))
    may_be_empty = may_be_empty and all(choice.get("finish_reason") for choice in choices)
    conforming(body)
    ends = [c["finish_reason"] for c in choices if not speaks(c["message"])]
    if len(ends) == len(choices) and all(ends_empty(end, may_be_empty=may_be_empty) for end in ends):
        raise failed(FailureKind.EMPTY, "The provider's answer is empty")
    return WholeAnswer(body, usage, http_status, provider_request_id, tier_of(body))


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


def tier_of(body: Mapping[str, Any]) -> str | None:
    """The service tier that an answer or a chunk names."""
    tier = body.get("service_tier")
    return tier if isinstance(tier, str) and tier else None


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and any(isinstance(choice.get(name), dict) for name in ("message", "delta"))
