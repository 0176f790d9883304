# ruff: noqa: E501 - the provider's own sentences are kept whole
"""OpenAI's Responses, as documented in its API reference and typed in its official client, with its store.

Whoever is told to "search 3" with the tool `web_search` searches three times. A provider called `chatonly-…` has no
such path, as many servers of the chat format have not.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.model import Answer, Choice, fresh_id
from tests.simulator.openai_format import invalid
from tests.simulator.prompt import Prompt, Tool, count, pieces
from tests.simulator.wire_format import Asked, Event, Failure, compact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.simulator.behaviour import Usage

NAME = "responses"
STREAM_TYPE = openai_format.STREAM_TYPE
headers = openai_format.headers
failure = openai_format.failure
not_json = openai_format.not_json

#: The paths of what is kept: of one response, or a count.
KEPT = re.compile(r"/responses/(?P<id>[^/]+)(?:/(?P<more>cancel|input_items))?$")
_PARAMETERS = frozenset(
    {
        "background", "client_metadata", "context_management", "conversation", "include", "input", "instructions",
        "max_output_tokens", "max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls",
        "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "reasoning", "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "text",
        "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
    }
)  # fmt: skip
_COUNTED = frozenset(
    {"conversation", "input", "instructions", "model", "parallel_tool_calls", "previous_response_id", "reasoning", "text",
     "tool_choice", "tools", "truncation"}
)  # fmt: skip
_ROLES = ("assistant", "system", "developer", "user")
_ITEMS = frozenset(
    {
        "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction", "computer_call",
        "computer_call_output", "custom_tool_call", "custom_tool_call_output", "file_search_call", "function_call",
        "function_call_output", "image_generation_call", "item_reference", "local_shell_call",
        "local_shell_call_output", "mcp_approval_request", "mcp_approval_response", "mcp_call", "mcp_list_tools",
        "message", "reasoning", "shell_call", "shell_call_output", "tool_search_call", "tool_search_output",
        "web_search_call",
    }
)  # fmt: skip
_ITEM_FIELDS = {
    "message": {"id", "type", "role", "content", "status", "phase"},
    "reasoning": {"id", "type", "summary", "content", "encrypted_content", "status"},
    "function_call": {"id", "type", "call_id", "name", "arguments", "namespace", "status", "caller"},
    "custom_tool_call": {"id", "type", "call_id", "name", "input", "namespace", "status", "caller"},
    "function_call_output": {"id", "type", "call_id", "output", "status", "caller"},
    "custom_tool_call_output": {"id", "type", "call_id", "output", "status", "caller"},
}
_ID_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_TOOLS = frozenset(
    {
        "apply_patch", "code_interpreter", "computer", "computer_use_preview", "custom", "file_search", "function",
        "image_generation", "local_shell", "mcp", "namespace", "shell", "tool_search", "web_search",
        "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11",
    }
)  # fmt: skip
#: What an item has in it when it begins.
_EMPTY: dict[str, dict[str, Any]] = {
    "message": {"content": []},
    "reasoning": {"summary": []},
    "function_call": {"arguments": ""},
    "custom_tool_call": {"input": ""},
}
_TIERS = ("auto", "default", "flex", "scale", "priority")

_kept: dict[str, dict[str, Any]] = {}  # by the response's id, in all providers
_lock = threading.Lock()


# --- reading -------------------------------------------------------------------------------------------------


def refuse(asked: Asked) -> Failure | None:
    if asked.provider.startswith("chatonly"):
        return Failure(404, {"detail": "Not Found"})
    if refusal := openai_format.refuse_key(asked.headers):
        return refusal
    body = asked.body
    if not body.get("model"):
        return invalid("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    return _refuse_parameters(body) or _refuse_previous(asked) or _refuse_input(asked) or _refuse_tools(body)


def _refuse_parameters(body: Mapping[str, Any]) -> Failure | None:
    for name in body:
        if name not in _PARAMETERS:
            return invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if body.get("input") is None and body.get("previous_response_id") is None:
        return invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    cap = body.get("max_output_tokens")
    if cap is not None and cap < 16:
        return invalid(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got {cap} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )
    if body.get("service_tier") not in (None, *_TIERS):
        return invalid(f"Invalid value: '{body['service_tier']}'.", "service_tier", "invalid_value")
    for name, value in (body.get("metadata") or {}).items():
        if not isinstance(value, str):
            return invalid(
                f"Invalid type for 'metadata.{name}': expected a string.", f"metadata.{name}", "invalid_type"
            )
    if re.match(r"o\d|gpt-5", str(body["model"])):
        if body.get("temperature") not in (None, 1):
            return invalid(
                "Unsupported parameter: 'temperature' is not supported with this model.",
                "temperature",
                "unsupported_parameter",
            )
    elif (body.get("reasoning") or {}).get("effort") is not None:
        return invalid(
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
            "reasoning.effort",
            "unsupported_parameter",
        )
    elif "reasoning.encrypted_content" in (body.get("include") or ()):
        return invalid("Encrypted content is not supported with this model.", "include", "unsupported_parameter")
    return None


def _refuse_previous(asked: Asked) -> Failure | None:
    named = asked.body.get("previous_response_id")
    if named is None or _found(asked, named) is not None:
        return None
    return invalid(
        f"Previous response with id '{named}' not found.", "previous_response_id", "previous_response_not_found"
    )


def _refuse_input(asked: Asked) -> Failure | None:  # noqa: C901, PLR0912 - one rule after the other
    given = asked.body.get("input")
    if given is None or isinstance(given, str):
        return None
    if not isinstance(given, list):
        return invalid(
            "Invalid type for 'input': expected one of an array of objects or string.", "input", "invalid_type"
        )
    before = (_found(asked, asked.body.get("previous_response_id")) or {}).get("all", [])
    calls = {item["call_id"] for item in before if item["type"] in ("function_call", "custom_tool_call")}
    outputs: set[str] = set()
    for index, item in enumerate(given):
        where = f"input[{index}]"
        kind = item.get("type") or "message"
        if kind not in _ITEMS:
            return invalid(f"Invalid value: '{kind}'.", where, "invalid_value")
        for name in item:
            if name not in _ITEM_FIELDS.get(kind, item):
                return invalid(f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}", "unknown_parameter")
        prefix = _ID_PREFIXES.get(kind)
        if prefix and item.get("id") is not None and not item["id"].startswith(f"{prefix}_"):
            return invalid(
                f"Invalid '{where}.id': '{item['id']}'. Expected an ID that begins with '{prefix}'.",
                f"{where}.id",
                "invalid_value",
            )
        match kind:
            case "message":
                if refusal := _refuse_message(item, where):
                    return refusal
            case "function_call" | "custom_tool_call":
                calls.add(item["call_id"])
            case "function_call_output" | "custom_tool_call_output":
                if item["call_id"] not in calls:
                    return invalid(
                        f"No tool call found for function call output with call_id {item['call_id']}.", "input"
                    )
                outputs.add(item["call_id"])
            case "reasoning":
                if refusal := _refuse_reasoning(asked, given, index):
                    return refusal
    if missing := sorted(calls - outputs - {item["call_id"] for item in before if "output" in item}):
        return invalid(f"No tool output found for function call {missing[0]}.", "input")
    return None


def _refuse_message(item: Mapping[str, Any], where: str) -> Failure | None:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        return invalid(
            f"Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.",
            f"{where}.role",
            "invalid_value",
        )
    taken = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image", "input_file")
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if part.get("type") not in taken:
            named = ", ".join(f"'{kind}'" for kind in taken)
            path = f"{where}.content[{number}]"
            return invalid(
                f"Invalid value: '{part.get('type')}'. Supported values are: {named}.", path, "invalid_value"
            )
    return None


def _refuse_reasoning(asked: Asked, given: list[Any], index: int) -> Failure | None:
    item = given[index]
    shown = item.get("id") or "rs_unknown"
    if item.get("encrypted_content"):
        if not str(item["encrypted_content"]).startswith(_seal(asked.provider, "")):
            return invalid(
                f"The encrypted content for item {shown} could not be verified. Reason: Encrypted content could not be "
                "decrypted or parsed.",
                code="invalid_encrypted_content",
            )
    elif item.get("id") is None or not any(
        item["id"] == each.get("id") for kept in _kept.values() for each in kept["all"]
    ):
        return invalid(
            f"Item with id '{shown}' not found. Items are not persisted when `store` is set to false. Try again with "
            "`store` set to true, or remove this item from your input.",
            "input",
        )
    following = given[index + 1] if index + 1 < len(given) else {}
    if (
        following.get("type") in (None, "function_call_output", "custom_tool_call_output")
        and following.get("role") != "assistant"
    ):
        return invalid(f"Item '{shown}' of type 'reasoning' was provided without its required following item.", "input")
    return None


def _refuse_tools(body: Mapping[str, Any]) -> Failure | None:
    for index, tool in enumerate(body.get("tools") or ()):
        if tool.get("type") not in _TOOLS:
            return invalid(f"Invalid value: '{tool.get('type')}'.", f"tools[{index}].type", "invalid_value")
        if tool["type"] in ("function", "custom", "namespace") and not tool.get("name"):
            return invalid(
                f"Missing required parameter: 'tools[{index}].name'.",
                f"tools[{index}].name",
                "missing_required_parameter",
            )
    shape = (body.get("text") or {}).get("format") or {}
    if shape.get("type") == "json_schema" and not shape.get("name"):
        return invalid(
            "Missing required parameter: 'text.format.name'.", "text.format.name", "missing_required_parameter"
        )
    return None


def read(asked: Asked) -> Prompt:
    body = asked.body
    items = _items(body)
    before = _found(asked, body.get("previous_response_id")) or {"all": [], "tokens": 0}
    tokens, images = 3 + count(body.get("instructions")) + before["tokens"], 0
    for item in items:
        tokens += 3
        for part in _parts(item.get("content")) + _parts(item.get("output")):
            if part.get("type") == "input_image":
                images += 1
            else:
                tokens += count(part.get("text"))
        tokens += sum(count(item.get(name)) for name in ("arguments", "input", "encrypted_content"))
    tools = tuple(_read_tools(body.get("tools") or ()))
    tokens += sum(count(tool.name) + count(dict(tool.parameters)) for tool in tools)
    choice = body.get("tool_choice")
    forced = "" if choice == "required" else None
    if isinstance(choice, dict):
        forced = choice.get("name", "")
    shape = (body.get("text") or {}).get("format") or {}
    schema = shape.get("schema") if shape.get("type") == "json_schema" else None
    if shape.get("type") == "json_object":
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    results = _results(items)
    last = items[-1] if items else {}
    return Prompt(
        model=asked.model,
        streamed=asked.streamed,
        input_tokens=tokens + 765 * images,
        user_text=next((_text(item["content"]) for item in reversed(items) if item.get("role") == "user"), ""),
        prefill=_text(last.get("content")) if last.get("role") == "assistant" else None,
        tool_result=results,
        tools=tools,
        forced_tool=None if results is not None and forced == "" else forced,
        tools_allowed=choice != "none",
        parallel_tools=body.get("parallel_tool_calls") is not False,
        max_tokens=body.get("max_output_tokens"),
        json_schema=schema,
        reasons=(body.get("reasoning") or {}).get("effort") not in (None, "none"),
        images=images,
        image_tokens=765 * images,
        request={**body, "provider": asked.provider, "before": before},
    )


def _items(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = body.get("input")
    return [{"role": "user", "content": given or ""}] if not isinstance(given, list) else given


def _read_tools(tools: Any, space: str = "") -> Iterator[Tool]:
    for tool in tools:
        if tool["type"] == "namespace":
            yield from _read_tools(tool["tools"], f"{tool['name']}__")
        elif tool["type"] in ("function", "custom"):
            yield Tool(space + tool["name"], tool.get("parameters") or {})


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else []


def _text(content: Any) -> str:
    return " ".join(part.get("text") or "" for part in _parts(content))


def _results(items: list[dict[str, Any]]) -> str | None:
    found: list[str] = []
    for item in reversed(items):
        if item.get("type") not in ("function_call_output", "custom_tool_call_output"):
            break
        found.append(_text(item.get("output")))
    return "; ".join(reversed(found)) if found else None


# --- answering -----------------------------------------------------------------------------------------------


def _seal(provider: str, text: str) -> str:
    """What only this provider can read back."""
    head = base64.urlsafe_b64encode(provider.encode()).decode().rstrip("=")
    return f"gAAAAA{head}." + (base64.urlsafe_b64encode(text.encode()).decode() if text else "")


def _id(prefix: str) -> str:
    return fresh_id(f"{prefix}_", 48)


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    response = _begun(prompt, answer)
    return _ended(prompt, answer, response, list(_output(prompt, answer)))


def _begun(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    body = prompt.request or {}
    reasoning = body.get("reasoning") or {}
    return {
        "id": _id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "model": prompt.model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": answer.service_tier or "default",
        "store": body.get("store") is not False,
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | (body.get("text") or {}),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": body.get("truncation") or "disabled",
        **({"user": body["user"]} if body.get("user") else {}),
    }


def _ended(prompt: Prompt, answer: Answer, response: dict[str, Any], output: list[Any]) -> dict[str, Any]:
    finish = answer.choices[0].finish
    why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish)
    response = response | {
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "completed_at": None if why else int(time.time()),
        "output": output,
    }
    if answer.usage:
        response["usage"] = _usage(answer.usage)
    body = prompt.request or {}
    if response["store"]:
        items = _items(body)
        kept = {
            "provider": body["provider"],
            "response": response,
            "items": items,
            "all": [*body["before"]["all"], *({"type": "message", **item} for item in items), *output],
            "tokens": prompt.input_tokens + (answer.usage.output_tokens if answer.usage else 0),
        }
        with _lock:
            _kept[response["id"]] = kept
            while len(_kept) > 1_000:
                del _kept[next(iter(_kept))]
    return response


def _output(prompt: Prompt, answer: Answer) -> Iterator[dict[str, Any]]:
    body, choice = prompt.request or {}, answer.choices[0]
    if answer.reasoning:
        yield _reasoning(prompt, answer)
    for _ in range(_searches(prompt)):
        action = {"type": "search", "query": prompt.user_text, "queries": [prompt.user_text]}
        yield {"id": _id("ws"), "type": "web_search_call", "status": "completed", "action": action}
    status = "incomplete" if choice.finish == "length" else "completed"
    if choice.tokens:
        yield {"id": _id("msg"), "type": "message", "status": status, "role": "assistant", "content": [_part(choice)]}
    names = {tool["name"] for tool in body.get("tools") or () if tool["type"] == "custom"}
    for call in choice.tool_calls:
        space, _, name = call.name.rpartition("__")
        common = {"status": status, "call_id": openai_format._call_id(call.id), "name": name or call.name}
        if space:
            common["namespace"] = space
        if call.name in names:
            yield {"id": _id("ctc"), "type": "custom_tool_call", **common, "input": _input(call.arguments)}
        else:
            yield {"id": _id("fc"), "type": "function_call", **common, "arguments": call.arguments}


def _input(arguments: str) -> str:
    try:
        read = json.loads(arguments)
    except ValueError:
        return arguments
    return str(read.get("input", arguments)) if isinstance(read, dict) else arguments


def _searches(prompt: Prompt) -> int:
    body = prompt.request or {}
    asked = re.search(r"\bsearch (\d+)", prompt.user_text)
    if asked is None or not any(str(tool["type"]).startswith("web_search") for tool in body.get("tools") or ()):
        return 0
    return min(int(asked[1]), body.get("max_tool_calls") or 100)


def _reasoning(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    body, text = prompt.request or {}, "".join(answer.reasoning)
    shows = answer.reasoning_scripted or (body.get("reasoning") or {}).get("summary")
    item: dict[str, Any] = {"id": _id("rs"), "type": "reasoning", "summary": []}
    if shows:
        item["summary"] = [{"type": "summary_text", "text": text}]
    if "reasoning.encrypted_content" in (body.get("include") or ()):
        item["encrypted_content"] = _seal(body["provider"], text)
    return item


def _part(choice: Choice) -> dict[str, Any]:
    if choice.finish == "content_filter":
        return {"type": "refusal", "refusal": choice.text}
    return {"type": "output_text", "text": choice.text, "annotations": [], "logprobs": []}


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    response, number = _begun(prompt, answer), 0

    def event(kind: str, token: bool = False, last: bool = False, **fields: Any) -> Event:
        nonlocal number
        data = compact({"type": kind, "sequence_number": number, **fields})
        number += 1
        return Event(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n", token, last)

    yield event("response.created", response=response)
    yield event("response.in_progress", response=response)
    output = list(_output(prompt, answer))
    for index, item in enumerate(output):
        begun = item | _EMPTY.get(item["type"], {}) | ({"status": "in_progress"} if "status" in item else {})
        yield event("response.output_item.added", output_index=index, item=begun)
        yield from _item_events(event, index, item, answer)
        yield event("response.output_item.done", output_index=index, item=item)
    response = _ended(prompt, answer, response, output)
    yield event(f"response.{response['status']}", last=True, response=response)


def _item_events(event: Any, index: int, item: dict[str, Any], answer: Answer) -> Iterator[Event]:
    where = {"item_id": item["id"], "output_index": index}
    match item["type"]:
        case "reasoning":
            for place, part in enumerate(item["summary"]):
                at = where | {"summary_index": place}
                yield event("response.reasoning_summary_part.added", **at, part=part | {"text": ""})
                for token in answer.reasoning:
                    yield event("response.reasoning_summary_text.delta", True, **at, delta=token)
                yield event("response.reasoning_summary_text.done", **at, text=part["text"])
                yield event("response.reasoning_summary_part.done", **at, part=part)
        case "web_search_call":
            for state in ("in_progress", "searching", "completed"):
                yield event(f"response.web_search_call.{state}", **where)
        case "message":
            (part,) = item["content"]
            name, at = ("refusal" if "refusal" in part else "output_text"), where | {"content_index": 0}
            said = "refusal" if name == "refusal" else "text"
            more: dict[str, Any] = {} if name == "refusal" else {"logprobs": []}
            yield event("response.content_part.added", **at, part=part | {said: ""})
            for token in answer.choices[0].tokens:
                yield event(f"response.{name}.delta", True, **at, delta=token, **more)
            yield event(f"response.{name}.done", **at, **{said: part[said]}, **more)
            yield event("response.content_part.done", **at, part=part)
        case "function_call":
            for piece in pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", True, **where, delta=piece)
            yield event(
                "response.function_call_arguments.done", **where, name=item["name"], arguments=item["arguments"]
            )
        case "custom_tool_call":
            for piece in pieces(item["input"]):
                yield event("response.custom_tool_call_input.delta", True, **where, delta=piece)
            yield event("response.custom_tool_call_input.done", **where, input=item["input"])


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def failure_event(failure: Failure) -> bytes:
    assert not isinstance(failure.body, str)
    error = failure.body["error"]
    said = {"type": "error", "sequence_number": 99, "code": error["code"] or error["type"],
            "message": error["message"], "param": error["param"]}  # fmt: skip
    return b"event: error\ndata: " + compact(said) + b"\n\n"


# --- what is kept --------------------------------------------------------------------------------------------


def _found(asked: Asked, response_id: Any) -> dict[str, Any] | None:
    found = _kept.get(response_id)
    return found if found is not None and found["provider"] == asked.provider else None


def answer_kept(method: str, response_id: str, more: str | None, asked: Asked) -> tuple[int, dict[str, Any]]:
    """The status and the body for one of the paths of :data:`KEPT`."""
    refusal = openai_format.refuse_key(asked.headers)
    if response_id == "input_tokens" and method == "POST" and refusal is None:
        for name in asked.body:
            if name not in _COUNTED:
                refusal = invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        refusal = refusal or _refuse_previous(asked) or _refuse_input(asked) or _refuse_tools(asked.body)
        if refusal is None:
            return 200, {"object": "response.input_tokens", "input_tokens": read(asked).input_tokens}
    if refusal is not None:
        assert not isinstance(refusal.body, str)
        return refusal.status, dict(refusal.body)
    found = _found(asked, response_id)
    if found is None:
        words = f"Response with id '{response_id}' not found."
        return 404, {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}
    if more == "cancel" and method == "POST":
        words = "Cannot cancel a synchronous response."
        return 400, {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}
    if more == "input_items" and method == "GET":
        data = [
            {"id": _id("msg"), "type": "message", "status": "completed", **item,
             "content": [{"type": "input_text", "text": _text(item.get("content"))}]}
            for item in reversed(found["items"])
        ]  # fmt: skip
        return 200, {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"],
            "last_id": data[-1]["id"],
            "has_more": False,
        }
    if method == "DELETE":
        with _lock:
            _kept.pop(response_id, None)
        return 200, {"id": response_id, "object": "response", "deleted": True}
    return 200, found["response"]
