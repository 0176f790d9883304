"""A request of OpenAI's Responses in its chat format.

https://platform.openai.com/docs/api-reference/responses/create · https://platform.openai.com/docs/guides/migrate-to-responses
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from routing.endpoints.responses.tools import INPUT, Tools, choice_as_chat, joined
from routing.upstreams.base import Json

#: Parameters that both formats have, under the same name and with the same meaning.
_SAME: Final = (
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "temperature", "top_p", "user",
)  # fmt: skip
LOGPROBS: Final = "message.output_text.logprobs"
#: Parameters that are told to a chat model in some way, or that say what holds there anyway.
_TOLD: Final = frozenset(
    {
        "background", "client_metadata", "include", "input", "instructions", "max_output_tokens", "model", "reasoning",
        "store", "stream", "stream_options", "text", "tool_choice", "tools", "top_logprobs", "truncation", *_SAME,
    }
)  # fmt: skip


def as_chat(body: Mapping[str, Any], tools: Tools) -> Json:
    """``body`` is valid. Changes only a copy."""
    # A request that no chat can be made of is never sent as one, but is counted and parsed like all others.
    messages = list(_messages(body)) or [{"role": "user", "content": ""}]
    chat: Json = {"model": body["model"], "messages": messages}
    chat |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("stream"):
        chat["stream"] = True
    if tools.offered:
        chat["tools"] = list(tools.offered)
        choice = choice_as_chat(body.get("tool_choice"))
        if choice is not None:
            chat["tool_choice"] = choice
    else:
        chat.pop("parallel_tool_calls", None)
    effort = (body.get("reasoning") or {}).get("effort")
    if effort is not None:
        chat["reasoning_effort"] = effort
    text = body.get("text") or {}
    if text.get("verbosity") is not None:
        chat["verbosity"] = text["verbosity"]
    shape = text.get("format")
    if isinstance(shape, dict) and shape.get("type") == "json_schema":
        described = {name: value for name, value in shape.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": described}
    elif isinstance(shape, dict) and shape.get("type") == "json_object":
        chat["response_format"] = {"type": "json_object"}
    if LOGPROBS in (body.get("include") or ()):
        chat["logprobs"] = True
        if body.get("top_logprobs") is not None:
            chat["top_logprobs"] = body["top_logprobs"]
    return chat


def left_out(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the request a chat has no word for, by its places. ``body`` is valid."""
    names = {name for name, value in body.items() if value is not None and name not in _TOLD}
    names |= {name for name, asked in (("store", True), ("truncation", "auto")) if body.get(name) == asked}
    if any(each != LOGPROBS for each in body.get("include") or ()):
        names.add("include")
    given = body["input"]
    items = given if isinstance(given, list) else []
    thoughts = [f"input[{place}]" for place, item in enumerate(items) if item.get("encrypted_content")]
    return (*sorted(names), *thoughts)


def _messages(body: Mapping[str, Any]) -> Iterator[Json]:
    if body.get("instructions"):
        yield {"role": "developer", "content": body["instructions"]}
    given = body["input"]
    if isinstance(given, str):
        yield {"role": "user", "content": given}
        return
    turn: Json | None = None  # of the assistant: what it says and the calls that follow are one message in a chat
    for item in given:
        if call := _call(item):
            turn = turn or {"role": "assistant", "content": None}
            turn.setdefault("tool_calls", []).append(call)
            continue
        message = _message(item)
        if message is None:
            continue
        if turn is not None:
            yield turn
            turn = None
        if message["role"] == "assistant":
            turn = message
        else:
            yield message
    if turn is not None:
        yield turn


def _call(item: Mapping[str, Any]) -> Json | None:
    match item.get("type"):
        case "function_call":
            arguments = str(item.get("arguments") or "{}")
        case "custom_tool_call":
            arguments = json.dumps({INPUT: item.get("input") or ""}, ensure_ascii=False)
        case _:
            return None
    name = joined(item.get("namespace"), str(item.get("name") or ""))
    return {
        "id": str(item.get("call_id") or ""),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _message(item: Mapping[str, Any]) -> Json | None:
    """None for what a chat has no message for: thoughts, and the calls of the provider's own tools."""
    match item.get("type"):
        case "function_call_output" | "custom_tool_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _text_of(output)
            return {"role": "tool", "tool_call_id": str(item.get("call_id") or ""), "content": content}
        case None | "message":
            role, said = item["role"], item["content"]
            if not isinstance(said, str):
                parts = [part for given in said for part in _parts(given)]
                said = _plain(parts) if role != "user" else parts
            return {"role": role, "content": said}
    return None


def _plain(parts: list[Json]) -> Any:
    """Text where all parts are text: only a user's message may have others everywhere."""
    if all(part.get("type") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _text_of(output: Any) -> str:
    parts = [part for given in output or () if isinstance(given, dict) for part in _parts(given)]
    return "\n".join(part["text"] for part in parts if part.get("type") == "text")


def _parts(part: Mapping[str, Any]) -> list[Json]:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return [{"type": "text", "text": part.get("text") or ""}]
        case "refusal":
            return [{"type": "text", "text": part.get("refusal") or ""}]
        case "input_image":
            image: Json = {"url": part.get("image_url") or part.get("file_id")}
            if part.get("detail") is not None:
                image["detail"] = part["detail"]
            return [{"type": "image_url", "image_url": image}]
        case "input_file":
            named = {name: part[name] for name in ("filename", "file_data", "file_id") if part.get(name) is not None}
            return [{"type": "file", "file": named or {"file_id": part.get("file_url")}}]
        case "input_audio":
            return [{"type": "input_audio", "input_audio": part.get("input_audio")}]
        case _:
            return [dict(part)]  # unknown: the provider judges it
