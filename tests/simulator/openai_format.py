# ruff: noqa: E501 - the provider's own sentences are kept whole
"""OpenAI's chat completions, as documented in its API reference and typed in its official client.

Groq, Mistral, DeepSeek, vLLM and many others speak it as well. Reasoning text is shown (as `reasoning_content`, the
way of DeepSeek and vLLM) only when a behaviour scripts it: OpenAI itself only counts it.
"""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from tests.simulator import strictness
from tests.simulator.model import Answer, Choice, fresh_id
from tests.simulator.prompt import Prompt, Tool, count, kept_prefixes, pieces
from tests.simulator.wire_format import Asked, Event, Failure, compact, html_page, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulator.behaviour import Behaviour, Problem, Usage

NAME = "openai"
STREAM_TYPE = "text/event-stream; charset=utf-8"
_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_IMAGE_TOKENS = {
    "low": 85,
    "high": 765,
    "auto": 765,
}  # gpt-4o: 85, and 170 for each of four tiles of 1024x1024
_REASONING_MODELS = ("o1", "o3", "o4", "gpt-5")


# --- reading -------------------------------------------------------------------------------------


def refuse(asked: Asked) -> Failure | None:
    if refusal := refuse_key(asked.headers):
        return refusal
    body = asked.body
    if not body.get("model"):
        return invalid("you must provide a model parameter")
    messages = body.get("messages")
    if messages is None:
        return invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list):
        return invalid(
            "Invalid type for 'messages': expected an array of objects, but got something else instead.",
            "messages",
            "invalid_type",
        )
    if not messages:
        return invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    return _refuse_messages(messages) or _refuse_parameters(body) or strictness.refuse(asked.provider, body)


def refuse_key(headers: Mapping[str, str]) -> Failure | None:
    bearer = headers.get("authorization", "")
    if headers.get("api-key") or (bearer.startswith("Bearer ") and bearer[7:].strip()):
        return None
    return _error(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
        "auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're "
        "accessing the API from your browser and are prompted for a username and password. You can obtain an API "
        "key from https://platform.openai.com/account/api-keys.",
    )


def _refuse_messages(messages: list[Any]) -> Failure | None:
    calls_open = False
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role is None:
            return invalid(
                f"Missing required parameter: 'messages[{index}].role'.",
                f"messages[{index}].role",
                "missing_required_parameter",
            )
        if role not in _ROLES:
            named = ", ".join(f"'{r}'" for r in _ROLES[:-1])
            return invalid(
                f"Invalid value: '{role}'. Supported values are: {named}, and '{_ROLES[-1]}'.",
                f"messages[{index}].role",
                "invalid_value",
            )
        if role == "tool" and not calls_open:
            return invalid(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                "'tool_calls'.",
                f"messages.[{index}].role",
            )
        calls_open = bool(message.get("tool_calls")) or (role == "tool" and calls_open)
    return None


def _refuse_parameters(body: Mapping[str, Any]) -> Failure | None:
    if "max_tokens" in body and str(body["model"]).startswith(_REASONING_MODELS):
        return invalid(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    for name in ("max_tokens", "max_completion_tokens", "n"):
        value = body.get(name)
        if value is not None and (not isinstance(value, int) or value < 1):
            return invalid(
                f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} instead.",
                name,
                "integer_below_min_value",
            )
    if body.get("stream_options") and not body.get("stream"):
        return invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return None


def read(asked: Asked) -> Prompt:
    body, messages = asked.body, asked.body["messages"]
    images, image_tokens, tokens = 0, 0, 3
    for message in messages:
        tokens += 3 + count(message.get("tool_calls"))
        for part in _parts(message.get("content")):
            if part.get("type") == "image_url":
                images += 1
                image_tokens += _IMAGE_TOKENS.get((part.get("image_url") or {}).get("detail", "auto"), 765)
            else:
                tokens += count(part.get("text"))
    tools = tuple(
        Tool(tool["function"]["name"], tool["function"].get("parameters") or {})
        for tool in body.get("tools") or ()
        if tool.get("type") == "function"
    )
    tokens += sum(count(tool.name) + count(dict(tool.parameters)) for tool in tools)
    choice = body.get("tool_choice")
    forced = "" if choice == "required" else None
    if isinstance(choice, dict):
        forced = choice.get("function", {}).get("name", "")
    shape = body.get("response_format") or {}
    schema = shape.get("json_schema", {}).get("schema") if shape.get("type") == "json_schema" else None
    if shape.get("type") == "json_object":
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    stop = body.get("stop")
    last = messages[-1]
    return Prompt(
        model=asked.model,
        streamed=asked.streamed,
        input_tokens=tokens + image_tokens,
        user_text=next((_text(m.get("content")) for m in reversed(messages) if m["role"] == "user"), ""),
        prefill=_text(last.get("content")) if last["role"] == "assistant" and not last.get("tool_calls") else None,
        tool_result=_tool_results(messages),
        tools=tools,
        forced_tool=None if last["role"] == "tool" and forced == "" else forced,
        tools_allowed=choice != "none",
        parallel_tools=body.get("parallel_tool_calls") is not False,
        max_tokens=_cap(asked),
        answers=body.get("n") or 1,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        json_schema=schema,
        reasons=body.get("reasoning_effort") not in (None, "none"),
        logprobs=bool(body.get("logprobs")),
        top_logprobs=body.get("top_logprobs") or 0,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        images=images,
        image_tokens=image_tokens,
        cache_marks=kept_prefixes(_spoken(body), tokens) if tokens >= 1024 else (),
    )


def _spoken(body: Mapping[str, Any]) -> str:
    """All that the model reads, in its order. What only marks it for other providers' caches is no part of it."""
    parts = [json.dumps(body.get("tools"))]
    for message in body["messages"]:
        parts += [
            message["role"],
            *(str(part.get("text") or json.dumps(part)) for part in _parts(message.get("content"))),
        ]
        parts.append(json.dumps(message.get("tool_calls")))
    return "\n".join(parts)


def _cap(asked: Asked) -> int | None:
    new, old = asked.body.get("max_completion_tokens"), asked.body.get("max_tokens")
    return old if strictness.ignores_new_cap(asked.provider) else new or old


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content or []


def _text(content: Any) -> str:
    return " ".join(part.get("text") or "" for part in _parts(content) if part.get("type") == "text")


def _tool_results(messages: list[dict[str, Any]]) -> str | None:
    found: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        found.append(_text(message.get("content")))
    return "; ".join(reversed(found)) if found else None


# --- answering -----------------------------------------------------------------------------------


def headers() -> dict[str, str]:
    return {
        "x-request-id": fresh_id("req_", 32),
        "openai-organization": "simulated-org",
        "openai-processing-ms": "7",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-limit-tokens": "30000000",
        "x-ratelimit-remaining-requests": "9999",
        "x-ratelimit-remaining-tokens": "29999980",
        "x-ratelimit-reset-requests": "6ms",
        "x-ratelimit-reset-tokens": "0s",
    }


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": fresh_id("chatcmpl-", 29),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": prompt.model,
        "choices": [_whole_choice(prompt, answer, i) for i in range(len(answer.choices))],
    }
    if answer.usage:
        found["usage"] = _usage(answer.usage)
    return found | {"service_tier": answer.service_tier or "default", "system_fingerprint": "fp_50906f2aac"}


def _whole_choice(prompt: Prompt, answer: Answer, index: int) -> dict[str, Any]:
    choice = answer.choices[index]
    content = None if choice.tool_calls and not choice.tokens else choice.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if answer.reasoning_scripted:
        message["reasoning_content"] = "".join(answer.reasoning)
    if choice.tool_calls:
        message["tool_calls"] = [
            {
                "id": _call_id(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.tool_calls
        ]
    logprobs = None
    if prompt.logprobs:
        logprobs = {"content": [_logprob(t, prompt.top_logprobs) for t in choice.tokens], "refusal": None}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish}


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    head = {
        "id": fresh_id("chatcmpl-", 29),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": prompt.model,
        "service_tier": answer.service_tier or "default",
        "system_fingerprint": "fp_50906f2aac",
    }
    # With include_usage every chunk has the field, null until the last one.
    tail: dict[str, Any] = {"usage": None} if prompt.include_usage else {}

    def event(
        index: int,
        delta: dict[str, Any],
        token: bool = False,
        finish: str | None = None,
        logprobs: Any = None,
    ) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return Event(_data(head | {"choices": [choice]} | tail), token)

    for index, choice in enumerate(answer.choices):
        content = None if choice.tool_calls and not choice.tokens else ""
        yield event(index, {"role": "assistant", "content": content, "refusal": None})
    if answer.reasoning_scripted:
        for token in answer.reasoning:
            yield event(0, {"reasoning_content": token}, True)
    for index, choice in enumerate(answer.choices):
        yield from _choice_events(prompt, index, choice, event)
    for index, choice in enumerate(answer.choices):
        yield event(index, {}, finish=choice.finish)
    if prompt.include_usage and answer.usage:
        yield Event(_data(head | {"choices": [], "usage": _usage(answer.usage)}))
    yield Event(b"data: [DONE]\n\n", last=True)


def _choice_events(prompt: Prompt, index: int, choice: Choice, event: Any) -> Iterator[Event]:
    for token in choice.tokens:
        logprobs = None
        if prompt.logprobs:
            logprobs = {"content": [_logprob(token, prompt.top_logprobs)], "refusal": None}
        yield event(index, {"content": token}, True, logprobs=logprobs)
    for number, call in enumerate(choice.tool_calls):
        first = {"name": call.name, "arguments": ""}
        yield event(
            index,
            {"tool_calls": [{"index": number, "id": _call_id(call.id), "type": "function", "function": first}]},
        )
        for part in pieces(call.arguments):
            yield event(index, {"tool_calls": [{"index": number, "function": {"arguments": part}}]}, True)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


def _call_id(given: str) -> str:
    return given if given.startswith("call_") else f"call_{given}"


def _logprob(token: str, top: int) -> dict[str, Any]:
    entry = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    others = [
        {"token": f"{token}~{i}" if i else token, "logprob": -0.25 - i, "bytes": list(token.encode())}
        for i in range(top)
    ]
    return entry | {"top_logprobs": others}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "audio_tokens": usage.audio_input_tokens,
        }
        | ({"cache_write_tokens": usage.cache_write_tokens} if usage.cache_write_tokens else {}),
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# --- failing -------------------------------------------------------------------------------------


def not_json() -> Failure:
    return invalid(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP "
        "library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you "
        "have trouble figuring out how to fix this, please contact us through our help center at "
        "help.openai.com.)"
    )


def failure(  # noqa: C901, PLR0912 - one case a problem reads best in one place
    problem: Problem, prompt: Prompt, behaviour: Behaviour
) -> Failure:
    model = prompt.model
    match problem:
        case "rate_limited":
            wait_s = behaviour.retry_after_s if behaviour.retry_after_s is not None else 1.0
            extra = retry_after(behaviour)
            if behaviour.retry_after_s is not None:
                extra["retry-after-ms"] = str(math.ceil(behaviour.retry_after_s * 1000))
            return _error(
                429,
                f"Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 500, "
                f"Used 500, Requested 1. Please try again in {wait_s:g}s. Visit "
                "https://platform.openai.com/account/rate-limits to learn more.",
                "requests",
                code="rate_limit_exceeded",
                headers=extra,
            )
        case "insufficient_quota":
            return _error(
                429,
                "You exceeded your current quota, please check your plan and billing details. For more information on "
                "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
                "insufficient_quota",
                code="insufficient_quota",
            )
        case "server_error":
            return _error(
                500,
                "The server had an error while processing your request. Sorry about that! You can retry your request, "
                "or contact us through our help center at help.openai.com if the error persists.",
                "server_error",
            )
        case "unavailable" | "overloaded":
            return _error(
                503,
                "That model is currently overloaded with other requests. You can retry your request, or contact us "
                "through our help center at help.openai.com if the error persists.",
                "server_error",
                headers=retry_after(behaviour),
            )
        case "bad_gateway":
            return html_page(502, "Bad Gateway")
        case "gateway_timeout":
            return html_page(504, "Gateway Time-out")
        case "context_length_exceeded":
            return invalid(
                "This model's maximum context length is 128000 tokens. However, your messages resulted in "
                f"{128000 + prompt.input_tokens} tokens. Please reduce the length of the messages.",
                "messages",
                "context_length_exceeded",
            )
        case "content_filtered":
            return invalid(
                "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting",
                code="invalid_prompt",
            )
        case "invalid_key":
            return _error(
                401,
                "Incorrect API key provided: sk-simul**********ated. You can find your API key at "
                "https://platform.openai.com/account/api-keys.",
                code="invalid_api_key",
            )
        case "permission_denied":
            return _error(
                403,
                f"Project `proj_simulated` does not have access to model `{model}`",
                code="model_not_found",
            )
        case "model_not_found":
            return _error(
                404,
                f"The model `{model}` does not exist or you do not have access to it.",
                code="model_not_found",
            )
        case "request_too_large":
            return _error(413, "Maximum content size limit (26214400) exceeded.", code="request_too_large")
        case "prefill_refused":
            return invalid(
                "This model does not support assistant message prefill. The conversation must end with a user message.",
                "messages",
                "invalid_value",
            )


def failure_event(failure: Failure) -> bytes:
    return b"data: " + compact(failure.body) + b"\n\n"


def invalid(message: str, param: str | None = None, code: str | None = None) -> Failure:
    return _error(400, message, param=param, code=code)


def _error(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Failure:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Failure(status, body, headers or {})
