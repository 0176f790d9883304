"""The object that a response is, and its items: https://platform.openai.com/docs/api-reference/responses/object"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from accounting.usage import Usage
from routing.endpoints.responses.kept import Kept, sealed
from routing.endpoints.responses.request import ResponsesCall
from routing.endpoints.responses.tools import Called, free_text
from routing.upstreams.base import Json
from routing.upstreams.responses_dialect import Keeper, fresh_id

#: What of a request the response repeats, and what stands there when the client did not say.
_REPEATED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
#: Finish reasons of a chat with which a response is not complete.
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}


def begun(call: ResponsesCall, alias: str) -> Json:
    """A response of which nothing has been said."""
    asked = call.body
    text = asked.get("text") or {}
    reasoning = asked.get("reasoning") or {}
    return {
        "id": fresh_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": alias,
        "output": [],
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "store": False,
        "text": {"format": {"type": "text"}, **text},
        **{name: default if asked.get(name) is None else asked[name] for name, default in _REPEATED.items()},
    }


def shown(call: ResponsesCall, response: Json, alias: str, keeper: Keeper) -> Json:
    """A provider's response as its client sees it: under the alias's name, with an id that leads back to its keeper."""
    seen = {**response, "model": alias}
    if isinstance(response.get("id"), str):
        seen["id"] = sealed(Kept(alias, keeper, response["id"]), call.owner)
    if response.get("previous_response_id") is not None:
        seen["previous_response_id"] = call.body.get("previous_response_id")
    return seen


def ended(finish_reason: object, output: list[Json], usage: Usage) -> Json:
    """What is new in a response that is over."""
    why = _INCOMPLETE.get(str(finish_reason))
    return {
        "status": "incomplete" if why else "completed",
        "incomplete_details": {"reason": why} if why else None,
        "completed_at": None if why else int(time.time()),
        "output": output,
        "usage": counts(usage),
    }


def counts(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def text_part(text: str, logprobs: Any = None) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def refusal_part(refusal: str) -> Json:
    return {"type": "refusal", "refusal": refusal}


def message_item(item_id: str, parts: list[Json], status: str) -> Json:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}


def reasoning_item(item_id: str, summary: list[Json]) -> Json:
    return {"id": item_id, "type": "reasoning", "summary": summary}


def call_id_prefix(called: Called) -> str:
    return "ctc" if called.is_custom else "fc"


def call_item(item_id: str, called: Called, call_id: str, arguments: str, status: str) -> Json:
    """``arguments`` are those of the function that the model was offered."""
    item: Json = {"id": item_id, "type": called.kind, "status": status, "call_id": call_id, "name": called.name}
    if called.namespace is not None:
        item["namespace"] = called.namespace
    if called.is_custom:
        item["input"] = free_text(arguments)
    else:
        item["arguments"] = arguments
    return item
