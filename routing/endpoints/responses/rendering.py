"""Answers in the format of OpenAI's Responses, whole and as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accounting.usage import Usage
from routing.endpoints.responses.events import ResponseFrames
from routing.endpoints.responses.items import (
    begun,
    call_id_prefix,
    call_item,
    counts,
    ended,
    message_item,
    reasoning_item,
    refusal_part,
    shown,
    text_part,
)
from routing.endpoints.responses.request import ResponsesCall
from routing.upstreams.base import Json
from routing.upstreams.responses_dialect import fresh_id
from routing.upstreams.usage import usage_of


def whole(call: ResponsesCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer under the alias's name: as its provider wrote it, or made of a chat completion."""
    if "choices" not in body:
        keeper = body.pop("kept_by")
        response = shown(call, body, alias, keeper)
        if estimated is not None:
            response["usage"] = counts(estimated)
        return response
    choice = body["choices"][0]
    usage = estimated or usage_of(body.get("usage")) or Usage()
    return begun(call, alias) | ended(choice.get("finish_reason"), list(_items(call, choice)), usage)


def frames(call: ResponsesCall, alias: str) -> ResponseFrames:
    return ResponseFrames(call, alias)


def _items(call: ResponsesCall, choice: Mapping[str, Any]) -> Iterator[Json]:
    message = choice["message"]
    status = "incomplete" if choice.get("finish_reason") == "length" else "completed"
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thoughts, str) and thoughts:
        yield reasoning_item(fresh_id("rs"), [{"type": "summary_text", "text": thoughts}])
    parts: list[Json] = []
    if message.get("content") or not (message.get("refusal") or message.get("tool_calls")):
        parts.append(text_part(message.get("content") or "", (choice.get("logprobs") or {}).get("content")))
    if message.get("refusal"):
        parts.append(refusal_part(message["refusal"]))
    if parts:
        yield message_item(fresh_id("msg"), parts, status)
    for each in message.get("tool_calls") or ():
        function = each.get("function") or {}
        called = call.tools.called(str(function.get("name")))
        item_id = fresh_id(call_id_prefix(called))
        yield call_item(item_id, called, str(each.get("id")), function.get("arguments") or "", status)
