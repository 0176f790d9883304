"""Puts an answer into OpenAI's shape.

Providers that claim to speak OpenAI's format differ in the details. Nothing in an answer may surprise the code and the
clients that read it later.
"""

from __future__ import annotations

import time
from typing import Any, Final, Literal

from routing.upstreams.base import Json
from routing.upstreams.calls import Calls, arguments_of, text_of
from routing.upstreams.provider_json import UNLIKELY
from routing.upstreams.usage import conforming_usage, reported_in

#: The parts of a message or a delta that are text.
TEXTS: Final = frozenset({"content", "reasoning_content", "reasoning", "refusal"})
#: Finish reasons of other providers → the nearest of OpenAI's five. A reason that is not listed becomes "stop".
_REASONS: Final[dict[str, str]] = {
    **{reason: reason for reason in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    **dict.fromkeys(
        (
            "max_tokens",
            "max_length",
            "max_output_tokens",
            "model_length",  # Mistral
            "model_context_window_exceeded",  # Anthropic, Z.AI
            "context_length_exceeded",
            "token_limit",
            "truncated",
        ),
        "length",
    ),
    **dict.fromkeys(("tool_use", "tool_call", "tool", "function"), "tool_calls"),
    **dict.fromkeys(
        (
            "safety",
            "sensitive",  # Z.AI
            "content_filtered",
            "blocked",
            "prohibited_content",
            "recitation",
            "refusal",
            "guardrail_intervened",  # Bedrock
        ),
        "content_filter",
    ),
}
#: Finish reasons that say that the provider failed: OpenRouter; DeepSeek; Z.AI; vLLM and SGLang.
_FAILURES: Final = frozenset({"error", "insufficient_system_resource", "network_error", "abort", "aborted"})


def _plain_reason(reason: object) -> str:
    return str(reason).strip().lower().replace("-", "_")


def ends_in_failure(reason: object) -> bool:
    """Whether the finish reason says that the provider failed before the answer was finished."""
    return reason is not None and _plain_reason(reason) in _FAILURES


def why_failed(choices: list[Json]) -> str:
    """The words that OpenRouter puts beside the finish reason "error"."""
    for choice in choices:
        error = choice.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        if isinstance(message, str):
            return message
    return "The provider's answer ended in an error"


def conforming_reason(reason: object, *, called: bool) -> str:
    """The nearest of OpenAI's five finish reasons. `called`: the answer has tool calls, which many servers end with
    "stop": agents that go by the reason would not make the calls."""
    known = _REASONS.get(_plain_reason(reason)) if reason else None
    if known in (None, "stop"):
        return "tool_calls" if called else "stop"
    return known


def conforming(body: Json) -> Json:
    """The same object, with everything that OpenAI's schema requires of a `chat.completion`."""
    if not isinstance(body.get("id"), str):
        body["id"] = f"chatcmpl-{time.time_ns():x}"
    body["object"] = "chat.completion"
    if type(body.get("created")) is not int:
        body["created"] = int(time.time())
    usage = conforming_usage(reported_in(body))
    body.pop("usage", None)
    if usage is not None:
        body["usage"] = usage
    for index, choice in enumerate(body["choices"]):
        message = conforming_choice(choice, index, "message", Calls(numbered=False))
        message["role"] = "assistant"
        message.setdefault("content", None)
        message.setdefault("refusal", None)
        choice["finish_reason"] = conforming_reason(choice.get("finish_reason"), called=bool(message.get("tool_calls")))
    return body


def conforming_choice(choice: Json, index: int, name: Literal["message", "delta"], calls: Calls) -> Json:
    """Puts a choice of an answer or of a chunk into OpenAI's shape, but for its finish reason.

    Returns its message or delta. That then stands under ``name``, even when the provider used another name."""
    if type(choice.get("index")) is not int:
        choice["index"] = index
    other = choice.pop("delta" if name == "message" else "message", None)
    said = choice.get(name)
    if type(said) is not dict:
        said = choice[name] = other if type(other) is dict else {}
    choice.pop("usage", None)
    if name == "message" or "logprobs" in choice:
        choice["logprobs"] = _conforming_logprobs(choice.get("logprobs"))
    content = said.get("content")
    if content is not None and type(content) is not str:
        _split_content(said, content)
    if "role" in said and said["role"] != "assistant":
        said["role"] = "assistant"
    for part in TEXTS:
        if (text := said.get(part)) is not None and not isinstance(text, str):
            said[part] = text_of(said[part])
    if "tool_calls" in said:
        calls.conform(said)
    called = said.get("function_call")
    if isinstance(called, dict):
        called["arguments"] = arguments_of(called.get("arguments"))
    elif called is None:
        said.pop("function_call", None)
    return said


def _split_content(said: Json, content: object) -> None:
    """Content that comes in parts (Mistral): text stays content, thinking becomes `reasoning_content`."""
    parts: list[Any] = content if isinstance(content, list) else [content]
    thoughts = "".join(text_of(part["thinking"]) for part in parts if _is_thought(part))
    pictures = [part for part in parts if isinstance(part, dict) and part.get("type") == "image_url"]
    said["content"] = "".join(text_of(part) for part in parts if not _is_thought(part))
    if thoughts:
        said["reasoning_content"] = text_of(said.get("reasoning_content")) + thoughts
        said["content"] = said["content"] or None
    if pictures:
        said["images"] = pictures


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking" and "thinking" in part


def _conforming_logprobs(logprobs: object) -> object:
    """Log probabilities with a text and a number for each token."""
    if not isinstance(logprobs, dict):
        return None
    for name, tokens in logprobs.items():
        if isinstance(tokens, list):
            logprobs[name] = conformed = _conforming_tokens(tokens)
            for token in conformed:
                if "top_logprobs" in token:
                    likely = token["top_logprobs"]
                    token["top_logprobs"] = _conforming_tokens(likely if isinstance(likely, list) else [])
        elif name in ("content", "refusal"):
            logprobs[name] = None
    return logprobs


def _conforming_tokens(tokens: list[Any]) -> list[Json]:
    conformed = [token for token in tokens if isinstance(token, dict)]
    for token in conformed:
        if not isinstance(token.get("token"), str):
            token["token"] = text_of(token.get("token"))
        if token.get("logprob") is None:
            token["logprob"] = UNLIKELY
    return conformed
