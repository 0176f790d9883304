"""A request of Anthropic's Messages in OpenAI's chat format, for a provider that does not speak Messages.

What only Anthropic has is left out, when an answer without it is still an answer to what was asked: its own tools,
edits of the context, marks for its cache (which some providers take, and the others' rows leave out).

https://docs.anthropic.com/en/api/messages · https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from routing.upstreams.base import Json

#: A thinking budget of at most so many tokens, and the effort that OpenAI's models call by these words.
_EFFORTS: Final = ((2_048, "low"), (16_384, "medium"))
_EFFORT_WORDS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
#: Parameters that both formats have, under the same name and with the same meaning.
_SAME: Final = ("temperature", "top_p", "top_k")
#: Parameters that are told to a chat model in some way, as far as it can do what they ask.
_TOLD: Final = frozenset(
    {
        "max_tokens", "messages", "metadata", "model", "output_config", "output_format", "stop_sequences", "stream",
        "system", "thinking", "tool_choice", "tools", *_SAME,
    }
)  # fmt: skip


def as_chat(body: Mapping[str, Any]) -> Json:
    """``body`` is valid. Changes only a copy."""
    chat: Json = {"model": body["model"], "messages": list(_messages(body)), "max_tokens": body["max_tokens"]}
    chat |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if body.get("stream"):
        chat["stream"] = True
    tools = [_tool(tool) for tool in body.get("tools") or () if is_clients_tool(tool)]
    if tools:
        chat["tools"] = tools
        _add_choice(chat, body.get("tool_choice"))
    if effort := _effort(body):
        chat["reasoning_effort"] = effort
    config = body.get("output_config")
    shape = config.get("format") if isinstance(config, dict) else body.get("output_format")
    if isinstance(shape, dict) and shape.get("type") == "json_schema":
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": shape.get("schema"), "strict": True},
        }
    user = (body.get("metadata") or {}).get("user_id")
    if isinstance(user, str):
        chat["user"] = user
    return chat


def left_out(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the request a chat has no word for: parameters, and Anthropic's own tools by their places."""
    tools = [f"tools[{place}]" for place, tool in enumerate(body.get("tools") or ()) if not is_clients_tool(tool)]
    return (*sorted(name for name, value in body.items() if value is not None and name not in _TOLD), *tools)


def is_clients_tool(tool: Mapping[str, Any]) -> bool:
    """Whether the tool is described in the request, and not one that only Anthropic knows."""
    return tool.get("type") in (None, "custom")


# --- messages --------------------------------------------------------------------------------------------------


def _messages(body: Mapping[str, Any]) -> Iterator[Json]:
    if body.get("system"):
        yield {"role": "system", "content": _text_content(body["system"])}
    for message in body["messages"]:
        content = message["content"]
        if message["role"] == "assistant":
            yield _said(content)
        elif message["role"] == "system":
            yield {"role": "system", "content": _text_content(content)}
        else:
            yield from _asked(content)


def _text_content(content: Any) -> Any:
    """Text; or parts, when one of them has a mark for the cache."""
    if isinstance(content, str):
        return content
    parts = [_text_part(block) for block in content if block.get("type") == "text"]
    if any("cache_control" in part for part in parts):
        return parts
    return "\n\n".join(part["text"] for part in parts)


def _text_part(block: Mapping[str, Any]) -> Json:
    part: Json = {"type": "text", "text": block.get("text") or ""}
    if block.get("cache_control"):
        part["cache_control"] = block["cache_control"]
    return part


def _asked(content: Any) -> Iterator[Json]:
    """A user's turn: first the results of the tools, each a message of its own, then what the user says."""
    if isinstance(content, str):
        yield {"role": "user", "content": content}
        return
    parts: list[Json] = []
    for block in content:
        if block.get("type") == "tool_result":
            text, media = _result(block)
            yield {"role": "tool", "tool_call_id": str(block.get("tool_use_id") or ""), "content": text}
            parts += media  # no message of a tool may have a picture
        else:
            parts += _parts(block)
    if parts:
        is_text = len(parts) == 1 and parts[0].keys() == {"type", "text"}
        yield {"role": "user", "content": parts[0]["text"] if is_text else parts}


def _result(block: Mapping[str, Any]) -> tuple[str, list[Json]]:
    content = block.get("content") or ""
    if isinstance(content, str):
        return content, []
    parts = [part for inner in content for part in _parts(inner)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts), [part for part in parts if part["type"] != "text"]


def _parts(block: Mapping[str, Any]) -> list[Json]:
    """A block of a user's turn or of a tool's result as parts of a chat message."""
    given = block.get("source")
    source: Json = given if isinstance(given, dict) else {}
    match block.get("type"), source.get("type"):
        case "text", _:
            return [_text_part(block)]
        case "image", "base64":
            url = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return [{"type": "image_url", "image_url": {"url": url}}]
        case "image", "url":
            return [{"type": "image_url", "image_url": {"url": source.get("url")}}]
        case "document", "base64":
            data = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return [{"type": "file", "file": {"filename": block.get("title") or "document", "file_data": data}}]
        case "document", "text":
            return [{"type": "text", "text": str(source.get("data") or "")}]
        case "document", "content":
            inner = source.get("content")
            blocks = inner if isinstance(inner, list) else [{"type": "text", "text": str(inner or "")}]
            return [part for each in blocks if isinstance(each, dict) for part in _parts(each)]
        case "document", _:
            return [{"type": "file", "file": {"file_id": source.get("url") or source.get("file_id")}}]
        case _:
            # A result of a search, say. Its text is what a model can use of it.
            return [{"type": "text", "text": json.dumps(block, ensure_ascii=False)}]


def _said(content: Any) -> Json:
    """A turn of the assistant."""
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    texts = [block.get("text") or "" for block in content if block.get("type") == "text"]
    message: Json = {"role": "assistant", "content": "".join(texts) or None}
    thoughts = [block for block in content if block.get("type") in ("thinking", "redacted_thinking")]
    signed = [block for block in thoughts if block.get("signature") or block.get("data")]
    if signed:
        message["thinking_blocks"] = signed
    calls = [
        {
            "id": str(block.get("id") or ""),
            "type": "function",
            "function": {
                "name": str(block.get("name") or ""),
                "arguments": json.dumps(block.get("input") or {}, ensure_ascii=False),
            },
        }
        for block in content
        if block.get("type") == "tool_use"
    ]
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


# --- tools and parameters -----------------------------------------------------------------------------------------


def _tool(tool: Mapping[str, Any]) -> Json:
    function: Json = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    if tool.get("description"):
        function["description"] = tool["description"]
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    described: Json = {"type": "function", "function": function}
    if tool.get("cache_control"):
        described["cache_control"] = tool["cache_control"]
    return described


def _add_choice(chat: Json, choice: Any) -> None:
    if not isinstance(choice, dict):
        return
    match choice.get("type"):
        case "auto":
            chat["tool_choice"] = "auto"
        case "any":
            chat["tool_choice"] = "required"
        case "none":
            chat["tool_choice"] = "none"
        case "tool":
            chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


def _effort(body: Mapping[str, Any]) -> str | None:
    """How hard the model is to think, in OpenAI's words; None: as it does by itself."""
    config = body.get("output_config")
    word = config.get("effort") if isinstance(config, dict) else None
    if isinstance(word, str) and word in _EFFORT_WORDS:
        return _EFFORT_WORDS[word]
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")
