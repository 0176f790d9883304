"""Answers and errors in the format of Anthropic's Messages, whole and as server-sent events.

https://docs.anthropic.com/en/api/messages · https://docs.anthropic.com/en/docs/build-with-claude/streaming ·
https://docs.anthropic.com/en/api/errors
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeGuard

from accounting import json_text
from accounting.money import plain_usd
from accounting.usage import Usage, UsageSource
from routing.endpoints.messages.request import MessagesCall
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.usage import usage_of

#: The parts of the last event but one that are written anew.
_OF_THE_END = frozenset({"type", "delta", "usage"})
COMMENT = b": keep-alive\n\n"  # no client takes it for an event
_STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_as_json = json_text.dumps_line


def envelope(error: GatewayError, request_id: str) -> Json:
    """The error as Anthropic writes errors. What ours says beyond that stands beside the message."""
    more = {name: value for name, value in (("code", error.code), ("param", error.param)) if value is not None}
    return {
        "type": "error",
        "error": {"type": _error_type(error.status), "message": error.message, **more, **error.extra},
        "request_id": request_id,
    }


def _error_type(status: int) -> str:
    return _ERROR_TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def whole(call: MessagesCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer under the alias's name: as its provider wrote it, or made of a chat completion."""
    if "choices" not in body:
        body["model"] = alias
        if estimated is not None:
            body["usage"] = counts(estimated)
        return body
    choice = body["choices"][0]
    usage = estimated or usage_of(body.get("usage")) or Usage()
    return {
        "id": _id(),
        "type": "message",
        "role": "assistant",
        "model": alias,
        "content": list(_blocks(choice["message"])),
        "stop_reason": _STOP_REASONS.get(choice.get("finish_reason"), "end_turn"),
        "stop_sequence": None,
        "usage": counts(usage),
    }


def counts(usage: Usage) -> Json:
    """Anthropic counts what was read from its cache, and what was written into it, beside the input."""
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }


def _id() -> str:
    return f"msg_{uuid.uuid4().hex[:24]}"


def _blocks(message: Mapping[str, Any]) -> Iterator[Json]:
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thoughts, str) and thoughts:
        # Without a signature: it is not handed to Anthropic, which takes no thoughts of others.
        yield {"type": "thinking", "thinking": thoughts, "signature": ""}
    text = message.get("content") or message.get("refusal")
    if text:
        yield {"type": "text", "text": text}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield {
            "type": "tool_use",
            "id": call.get("id"),
            "name": function.get("name"),
            "input": _arguments(function.get("arguments")),
        }


def _arguments(written: Any) -> Any:
    """A call's arguments; an empty object when the model wrote no JSON object."""
    try:
        read = json.loads(written or "{}")
    except (TypeError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def frames(call: MessagesCall, alias: str) -> MessagesFrames:
    return MessagesFrames(alias)


class MessagesFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`.

    A native event is sent as its provider wrote it. A chunk of a chat completion is made an event, and goes on in the
    block that is open, whoever opened it: so another provider continues a broken answer inside the same message.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias  # the model of the message, even when several deployments answer
        self._is_begun = False
        self._open: str | None = None  # the type of the block that is open
        self._index = -1  # of the last block
        self._call: Any = None  # the place of the tool call whose block is open
        self._end: Json = {"stop_reason": "end_turn", "stop_sequence": None}
        self._reported: Json = {}  # the provider's own count, which says more than ours
        self._beside: Json = {}  # what else the provider says at the end: `context_management`

    def event(self, event: Json) -> bytes | None:
        native = event.get("native")
        written = self._native(native, event["raw"]) if native is not None else self._chunk(event)
        return written or None

    def end(self, consumed: Consumed) -> bytes:
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        counted = counts(consumed.usage)
        if consumed.is_counted:
            counted |= {name: value for name, value in self._reported.items() if value or name not in counted}
        usage = _as_json(counted)[:-1] + b',"cost_usd":' + cost_usd + b"}"
        end = _as_json({"type": "message_delta", **self._beside, "delta": self._end})
        delta = end[:-1] + b',"usage":' + usage + b"}"
        return (
            self._begin()
            + self._close()
            + b"event: message_delta\ndata: "
            + delta
            + b"\n\n"
            + _frame("message_stop", {})
        )

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return b"event: error\ndata: " + _as_json(envelope(error, "")) + b"\n\n"

    def interrupted(self, error: UpstreamError) -> bytes:
        kind = "timeout_error" if error.kind is FailureKind.TIMEOUT else "api_error"
        said = {"type": kind, "message": f"The answer broke off: {error.message}", "code": "stream_interrupted"}
        return b"event: error\ndata: " + _as_json({"type": "error", "error": said}) + b"\n\n"

    def _native(self, event: Json, raw: bytes) -> bytes:
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                if isinstance(message, dict):
                    self._is_begun = True
                    return _frame("message_start", {"message": {**message, "model": self._alias}})
                return b""
            case "content_block_start":
                block = event.get("content_block")
                self._open = block.get("type") if isinstance(block, dict) else None
                index = event.get("index")
                self._index = index if isinstance(index, int) else self._index + 1
            case "content_block_stop":
                self._open = None
            case "message_delta":
                # It is sent at the end, with the cost.
                delta = event.get("delta")
                self._end = {**self._end, **(delta if isinstance(delta, dict) else {})}
                usage = event.get("usage")
                self._reported |= usage if isinstance(usage, dict) else {}
                self._beside |= {name: value for name, value in event.items() if name not in _OF_THE_END}
                return b""
            case "message_stop":
                return b""
        name = event.get("type")
        # An event without a plain name is none of Anthropic's.
        return b"event: " + name.encode() + b"\ndata: " + raw + b"\n\n" if _is_plain(name) else b""

    def _chunk(self, chunk: Json) -> bytes:
        choices = chunk.get("choices")
        if not choices:
            return b""
        choice = choices[0]
        written = self._begin()
        delta = choice.get("delta") or {}
        thoughts = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thoughts, str) and thoughts:
            written += self._in("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            written += self._delta({"type": "thinking_delta", "thinking": thoughts})
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            written += self._in("text", {"type": "text", "text": ""})
            written += self._delta({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            written += self._tool(call)
        if reason := choice.get("finish_reason"):
            self._end["stop_reason"] = _STOP_REASONS.get(reason, "end_turn")
        return written

    def _tool(self, call: Mapping[str, Any]) -> bytes:
        function = call.get("function") or {}
        written = b""
        if self._open != "tool_use" or call.get("index") != self._call:
            self._call = call.get("index")
            block: Json = {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": {}}
            written = self._close() + self._opened("tool_use", block)
        if arguments := function.get("arguments"):
            written += self._delta({"type": "input_json_delta", "partial_json": arguments})
        return written

    def _begin(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        message: Json = {
            "id": _id(),
            "type": "message",
            "role": "assistant",
            "model": self._alias,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": counts(Usage(source=UsageSource.NONE)),  # it is counted at the end
        }
        return _frame("message_start", {"message": message})

    def _in(self, kind: str, block: Json) -> bytes:
        return b"" if self._open == kind else self._close() + self._opened(kind, block)

    def _opened(self, kind: str, block: Json) -> bytes:
        self._open = kind
        self._index += 1
        return _frame("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, delta: Json) -> bytes:
        return _frame("content_block_delta", {"index": self._index, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _frame("content_block_stop", {"index": self._index})


def _frame(kind: str, fields: Json) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _as_json({"type": kind, **fields}) + b"\n\n"


def _is_plain(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and name.isascii() and name.isidentifier()
