"""Anthropic's Messages API, version 2023-06-01, as documented in its API reference and its streaming guide."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tests.simulator import anthropic_rules
from tests.simulator.model import Answer, Choice, fresh_id
from tests.simulator.prompt import CacheMark, Prompt, Tool, count, pieces
from tests.simulator.wire_format import Asked, Event, Failure, compact, html_page, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulator.behaviour import Behaviour, Problem, Usage

NAME = "anthropic"
STREAM_TYPE = "text/event-stream; charset=utf-8"
_IMAGE_TOKENS = 1590  # (width x height) / 750, for the guide's example of 1092x1092
_SIGNATURE = "EqoBCkgIARABGAIiQL2UoU0b1OHYi+6nR5dF8ZbnWzVYsimulated"
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_FIELDS = frozenset(
    [
        "model",
        "messages",
        "max_tokens",
        "system",
        "metadata",
        "stop_sequences",
        "stream",
        "temperature",
        "top_k",
        "top_p",
        "tools",
        "tool_choice",
        "thinking",
        "service_tier",
        "container",
        "context_management",
        "mcp_servers",
        "output_config",
        "output_format",
        "cache_control",
        "inference_geo",
        "speed",
        "anthropic_beta",
        "betas",
    ]
)
_BLOCKS = (
    "container_upload",
    "document",
    "image",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "text",
    "thinking",
    "tool_result",
    "tool_use",
    "web_search_tool_result",
)


# --- reading -------------------------------------------------------------------------------------


def refuse(asked: Asked) -> Failure | None:
    bearer = asked.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if not asked.headers.get("x-api-key") and not bearer:
        return _error(401, "authentication_error", "x-api-key header is required")
    if not asked.headers.get("anthropic-version"):
        return _invalid("anthropic-version: header is required")
    body = asked.body
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            return _invalid(f"{name}: Field required")
    if not isinstance(body["max_tokens"], int):
        return _invalid("max_tokens: Input should be a valid integer")
    if body["max_tokens"] < 1:
        return _invalid("max_tokens: Input should be greater than or equal to 1")
    for name in body:
        if name not in _FIELDS:
            return _invalid(f"{name}: Extra inputs are not permitted")
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled" and thinking.get("budget_tokens", 0) >= body["max_tokens"]:
        return _invalid(
            "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at "
            "https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size"
        )
    messages = body["messages"]
    if not isinstance(messages, list):
        return _invalid("messages: Input should be a valid list")
    if not messages:
        return _invalid("messages: at least one message is required")
    return _refuse_messages(messages) or _refuse_combinations(body)


def _refuse_combinations(body: Mapping[str, Any]) -> Failure | None:
    message = anthropic_rules.broken(body)
    return _invalid(message) if message else None


def _refuse_messages(messages: list[Any]) -> Failure | None:  # noqa: C901 - one line a rule
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role is None:
            return _invalid(f"messages.{index}.role: Field required")
        if role == "system":
            return _invalid(
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not '
                '"system" as an input message role.'
            )
        if role not in ("user", "assistant"):
            return _invalid(f'messages: Unexpected role "{role}". Allowed roles are "user" or "assistant"')
        content = message.get("content")
        if not isinstance(content, (str, list)):
            return _invalid(f"messages.{index}.content: Input should be a valid list")
        if not content and index < len(messages) - 1:
            return _invalid(
                f"messages.{index}: all messages must have non-empty content except for the optional final assistant "
                "message"
            )
        for number, block in enumerate(_blocks(content)):
            kind = block.get("type")
            if kind not in _BLOCKS:
                expected = ", ".join(f"'{name}'" for name in _BLOCKS)
                return _invalid(
                    f"messages.{index}.content.{number}: Input tag '{kind}' found using 'type' does not match any of "
                    f"the expected tags: {expected}"
                )
            if kind == "text" and not block.get("text") and isinstance(content, list):
                return _invalid("messages: text content blocks must be non-empty")
        if refusal := _refuse_open_calls(messages, index):
            return refusal
    last = messages[-1]
    if last["role"] == "assistant" and (text := _text(last["content"])) and text != text.rstrip():
        return _invalid("messages: final assistant content cannot end with trailing whitespace")
    if messages[0]["role"] != "user":
        return _invalid('messages: first message must use the "user" role')
    return None


def _refuse_open_calls(messages: list[Any], index: int) -> Failure | None:
    """Every tool call is answered in the next message, and every tool result answers a call of the one before."""
    blocks = _blocks(messages[index]["content"])
    called = [block.get("id") for block in blocks if block.get("type") == "tool_use"]
    answered = [block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"]
    if called and index < len(messages) - 1:
        following = [block.get("tool_use_id") for block in _blocks(messages[index + 1].get("content"))]
        if missing := [str(call) for call in called if call not in following]:
            return _invalid(
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
    before = [b.get("id") for b in _blocks(messages[index - 1]["content"])] if index else []
    if unknown := [str(call) for call in answered if call not in before]:
        return _invalid(
            f"messages.{index}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: "
            f"{', '.join(unknown)}. Each `tool_result` block must have a corresponding `tool_use` block in the "
            "previous message."
        )
    return None


def read(asked: Asked) -> Prompt:
    body, messages = asked.body, asked.body["messages"]
    tools = tuple(
        Tool(tool["name"], tool.get("input_schema") or {}) for tool in body.get("tools") or () if "name" in tool
    )
    images, tokens, marks = _measure(body)
    choice = body.get("tool_choice") or {}
    forced = {"any": "", "tool": choice.get("name", "")}.get(str(choice.get("type")))
    shape = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    last = messages[-1]
    results = [b for b in _blocks(last["content"]) if b.get("type") == "tool_result"]
    return Prompt(
        model=asked.model,
        streamed=asked.streamed,
        input_tokens=tokens + images * _IMAGE_TOKENS,
        user_text=next((t for m in reversed(messages) if m["role"] == "user" and (t := _text(m["content"]))), ""),
        prefill=_text(last["content"]) if last["role"] == "assistant" else None,
        tool_result="; ".join(_text(block.get("content")) for block in results) if results else None,
        tools=tools,
        forced_tool=None if results and forced == "" else forced,
        tools_allowed=choice.get("type") != "none",
        parallel_tools=not choice.get("disable_parallel_tool_use"),
        max_tokens=body["max_tokens"],
        stop=tuple(body.get("stop_sequences") or ()),
        json_schema=shape.get("schema") if shape.get("type") == "json_schema" else None,
        reasons=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        images=images,
        image_tokens=images * _IMAGE_TOKENS,
        cache_marks=tuple(marks),
    )


def _measure(body: Mapping[str, Any]) -> tuple[int, int, list[CacheMark]]:
    """The images, the tokens without them, and the cache marks, in the order in which the cache sees the prompt:
    tools, system, messages. Prefixes of any length are cached; the real minimum is 1024 tokens and more."""
    images, tokens, marks, prefix = 0, 0, [], hashlib.sha256(str(body["model"]).encode())
    content = [
        *(body.get("tools") or ()),
        *_blocks(body.get("system")),
        *(block for message in body["messages"] for block in _blocks(message["content"])),
    ]
    for block in content:
        plain = {key: value for key, value in block.items() if key != "cache_control"}
        prefix.update(json.dumps(plain, sort_keys=True).encode())
        if plain.get("type") == "image":
            images += 1
        elif plain.get("type") == "tool_result" and isinstance(plain.get("content"), list):
            pictures = [part for part in plain["content"] if part.get("type") == "image"]
            images += len(pictures)
            tokens += count(_text(plain["content"]))
        else:
            tokens += count(plain.get("text") if plain.get("type") == "text" else plain)
        if mark := block.get("cache_control"):
            at = tokens + images * _IMAGE_TOKENS
            marks.append(CacheMark(prefix.hexdigest(), at, mark.get("ttl", "5m")))
    return images, tokens + 3 + 3 * len(body["messages"]), marks


def _blocks(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content or []


def _text(content: Any) -> str:
    return " ".join(block.get("text") or "" for block in _blocks(content) if block.get("type") == "text")


# --- answering -----------------------------------------------------------------------------------


def headers() -> dict[str, str]:
    return {
        "request-id": fresh_id("req_", 24),
        "anthropic-organization-id": "01234567-89ab-4cde-8f01-23456789abcd",
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "3999",
        "anthropic-ratelimit-requests-reset": "2026-01-02T03:04:05Z",
        "anthropic-ratelimit-tokens-limit": "480000",
        "anthropic-ratelimit-tokens-remaining": "480000",
        "anthropic-ratelimit-tokens-reset": "2026-01-02T03:04:05Z",
    }


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    choice = answer.choices[0]
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": "".join(answer.reasoning), "signature": _SIGNATURE})
    if choice.tokens:
        content.append({"type": "text", "text": choice.text})
    for call in choice.tool_calls:
        try:
            arguments = json.loads(call.arguments)
        except ValueError:  # the token limit cut the call: what had been written does not show in a whole answer
            arguments = {}
        content.append({"type": "tool_use", "id": _call_id(call.id), "name": call.name, "input": arguments})
    return _message(prompt) | {
        "content": content,
        "stop_reason": _stop_reason(choice),
        "stop_sequence": choice.stop_sequence,
        **({"usage": _usage(answer.usage)} if answer.usage else {}),
    }


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    choice = answer.choices[0]
    start = _message(prompt) | {"content": [], "stop_reason": None, "stop_sequence": None}
    if answer.usage:
        start["usage"] = _usage(answer.usage) | {"output_tokens": min(1, answer.usage.output_tokens)}
    yield _event("message_start", {"message": start})
    for index, (opening, deltas, closing) in enumerate(_streamed_blocks(answer, choice)):
        yield _event("content_block_start", {"index": index, "content_block": opening})
        if index == 0:
            yield _event("ping", {})
        for delta in deltas:
            yield _event("content_block_delta", {"index": index, "delta": delta}, token=True)
        if closing:
            yield _event("content_block_delta", {"index": index, "delta": closing})
        yield _event("content_block_stop", {"index": index})
    end: dict[str, Any] = {"delta": {"stop_reason": _stop_reason(choice), "stop_sequence": choice.stop_sequence}}
    if answer.usage:
        counts = _usage(answer.usage)
        names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
        end["usage"] = {name: counts[name] for name in names}
    yield _event("message_delta", end)
    yield _event("message_stop", {}, last=True)


def _streamed_blocks(
    answer: Answer, choice: Choice
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any] | None]]:
    """Each block's opening, its deltas with content, and a last delta without."""
    if answer.reasoning:
        yield (
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": token} for token in answer.reasoning],
            {"type": "signature_delta", "signature": _SIGNATURE},
        )
    if choice.tokens:
        yield (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": token} for token in choice.tokens],
            None,
        )
    for call in choice.tool_calls:
        yield (
            {"type": "tool_use", "id": _call_id(call.id), "name": call.name, "input": {}},
            [{"type": "input_json_delta", "partial_json": part} for part in pieces(call.arguments)],
            None,
        )


def _message(prompt: Prompt) -> dict[str, Any]:
    return {"id": fresh_id("msg_", 24), "type": "message", "role": "assistant", "model": prompt.model}


def _event(name: str, data: dict[str, Any], token: bool = False, last: bool = False) -> Event:
    return Event(b"event: %s\ndata: %s\n\n" % (name.encode(), compact({"type": name} | data)), token, last)


def _stop_reason(choice: Choice) -> str:
    return choice.end or ("stop_sequence" if choice.stop_sequence else _STOP_REASONS[choice.finish])


def _call_id(given: str) -> str:
    return given if given.startswith("toolu_") else f"toolu_{given}"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


# --- failing -------------------------------------------------------------------------------------


def not_json() -> Failure:
    return _invalid("The request body is not valid JSON: expected value: line 1 column 1 (char 0)")


def failure(  # noqa: C901, PLR0912 - one case a problem reads best in one place
    problem: Problem, prompt: Prompt, behaviour: Behaviour
) -> Failure:
    match problem:
        case "rate_limited":
            return _error(
                429,
                "rate_limit_error",
                "This request would exceed your organization's rate limit of 4,000 requests per minute. For details, "
                "refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for current "
                "usage. Please reduce the prompt length or the maximum tokens requested, or try again later.",
                retry_after(behaviour),
            )
        case "insufficient_quota":
            return _invalid(
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade "
                "or purchase credits."
            )
        case "server_error":
            return _error(500, "api_error", "Internal server error")
        case "unavailable":
            return _error(503, "api_error", "Service Unavailable", retry_after(behaviour))
        case "overloaded":
            return _error(529, "overloaded_error", "Overloaded", {"x-should-retry": "true"})
        case "bad_gateway":
            return html_page(502, "Bad Gateway")
        case "gateway_timeout":
            return _error(504, "timeout_error", "Request timed out")
        case "context_length_exceeded":
            return _invalid(f"prompt is too long: {200000 + prompt.input_tokens} tokens > 200000 maximum")
        case "content_filtered":
            return _invalid("Output blocked by content filtering policy")
        case "invalid_key":
            return _error(401, "authentication_error", "invalid x-api-key")
        case "permission_denied":
            return _error(
                403,
                "permission_error",
                "Your API key does not have permission to use the specified resource.",
            )
        case "model_not_found":
            return _error(404, "not_found_error", f"model: {prompt.model}")
        case "request_too_large":
            return _error(413, "request_too_large", "Request exceeds the maximum size")
        case "prefill_refused":
            return _invalid(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )


def failure_event(failure: Failure) -> bytes:
    return b"event: error\ndata: " + compact(failure.body) + b"\n\n"


def _invalid(message: str) -> Failure:
    return _error(400, "invalid_request_error", message, {"x-should-retry": "false"})


def _error(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> Failure:
    body = {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": fresh_id("req_", 24),
    }
    return Failure(status, body, headers or {})
