"""The events of a streamed response: https://platform.openai.com/docs/api-reference/responses-streaming"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from accounting import json_text
from accounting.money import plain_usd
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
from routing.endpoints.responses.tools import Called
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.responses_dialect import fresh_id

COMMENT: Final = b": keep-alive\n\n"  # no client takes it for an event
_OF_EVERY_EVENT: Final = frozenset({"type", "sequence_number"})
_as_json = json_text.dumps_line


@dataclass(slots=True)
class _Open:
    """The item that is being written."""

    kind: str  # message, refusal, reasoning, call; or the type of an item that only its provider can finish
    item_id: str
    index: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    place: Any = None  # of a call: its index among the chat's calls
    called: Called | None = None
    call_id: str = ""
    parts: list[Json] = field(default_factory=list)  # of it, before the one that is being written
    has_part: bool = True  # one is being written
    item: Json = field(default_factory=dict)  # as its provider began it

    @property
    def text(self) -> str:
        return "".join(self.texts)


class ResponseFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`.

    A native event is sent as its provider wrote it, but for the ids of the response. A chunk of a chat completion is
    made an event, and goes on in the item that is open, whoever opened it: so another provider continues a broken
    answer inside the same response."""

    def __init__(self, call: ResponsesCall, alias: str) -> None:
        self._call = call
        self._alias = alias
        self._response = begun(call, alias)
        self._number = 0
        self._output: list[Json] = []
        self._open: _Open | None = None
        self._is_begun = False
        self._finish_reason: str | None = None
        self._final: Json | None = None  # the provider's response, when it came to its end

    def event(self, event: Json) -> bytes | None:
        native = event.get("native")
        written = self._chunk(event) if native is None else self._native(native, event)
        return written or None

    def _chunk(self, event: Json) -> bytes:
        choices = event.get("choices")
        if not choices:
            return b""
        choice = choices[0]
        written = self._begin()
        delta = choice.get("delta") or {}
        thoughts = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thoughts, str) and thoughts:
            written += self._text("reasoning", thoughts)
        if isinstance(delta.get("content"), str) and delta["content"]:
            written += self._text("message", delta["content"], (choice.get("logprobs") or {}).get("content"))
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            written += self._text("refusal", delta["refusal"])
        for call in delta.get("tool_calls") or ():
            written += self._tool(call)
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        return written

    def end(self, consumed: Consumed) -> bytes:
        written = b""
        if self._final is None:
            written = self._begin() + self._close()
            response = self._response | ended(self._finish_reason, self._output, consumed.usage)
        else:
            response = dict(self._final)
            if not (consumed.is_counted and isinstance(response.get("usage"), dict)):
                response["usage"] = counts(consumed.usage)
        kind = "response.incomplete" if response["status"] == "incomplete" else "response.completed"
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        usage = _as_json(response.pop("usage"))[:-1] + b',"cost_usd":' + cost_usd + b"}"
        event = _as_json({"type": kind, "sequence_number": self._next()})[:-1]
        return written + _event(kind, event + b',"response":' + _as_json(response)[:-1] + b',"usage":' + usage + b"}}")

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return self._begin() + self._failure(f"{error.message} ({error.code})")

    def interrupted(self, error: UpstreamError) -> bytes:
        why = "stalled" if error.kind is FailureKind.TIMEOUT else "broke off"
        return self._failure(
            f"The provider's stream {why} before its end; what was received is incomplete. (stream_interrupted)"
        )

    def _failure(self, message: str) -> bytes:
        """The response as it is, failed. Clients know no other codes than OpenAI's, so ours stands in the message."""
        open_ = [] if self._open is None else [self._item(self._open, "incomplete")]
        response = self._response | {
            "status": "failed",
            "error": {"code": "server_error", "message": message},
            "output": [*self._output, *open_],
        }
        return self._frame("response.failed", {"response": response})

    # --- items ------------------------------------------------------------------------------------------------

    def _begin(self) -> bytes:
        if self._is_begun:
            return b""
        self._is_begun = True
        return self._frame("response.created", {"response": self._response}) + self._frame(
            "response.in_progress", {"response": self._response}
        )

    def _text(self, kind: str, text: str, logprobs: Any = None) -> bytes:
        written = b""
        if self._open is None or self._open.kind != kind:
            written = self._close() + self._opened(kind)
        assert self._open is not None
        if not self._open.has_part:
            written += self._part_opened(self._open)
        self._open.texts.append(text)
        said: Json = {"item_id": self._open.item_id, "output_index": self._open.index, "delta": text}
        if kind == "reasoning":
            said["summary_index"] = len(self._open.parts)
            return written + self._frame("response.reasoning_summary_text.delta", said)
        said["content_index"] = len(self._open.parts)
        if kind == "refusal":
            return written + self._frame("response.refusal.delta", said)
        self._open.logprobs += logprobs or ()
        return written + self._frame("response.output_text.delta", said | {"logprobs": logprobs or []})

    def _opened(self, kind: str) -> bytes:
        prefix = "rs" if kind == "reasoning" else "msg"
        open_ = self._open = _Open(kind, fresh_id(prefix), len(self._output))
        if kind == "reasoning":
            return self._added(reasoning_item(open_.item_id, [])) + self._part_opened(open_)
        return self._added(message_item(open_.item_id, [], "in_progress")) + self._part_opened(open_)

    def _part_opened(self, open_: _Open) -> bytes:
        open_.has_part = True
        where: Json = {"item_id": open_.item_id, "output_index": open_.index}
        if open_.kind == "reasoning":
            where["summary_index"] = len(open_.parts)
            return self._frame(
                "response.reasoning_summary_part.added", where | {"part": {"type": "summary_text", "text": ""}}
            )
        part = refusal_part("") if open_.kind == "refusal" else text_part("")
        return self._frame("response.content_part.added", where | {"content_index": len(open_.parts), "part": part})

    def _tool(self, call: Mapping[str, Any]) -> bytes:
        function = call.get("function") or {}
        written = b""
        if self._open is None or self._open.kind != "call" or self._open.place != call.get("index"):
            written = self._close()
            called = self._call.tools.called(str(function.get("name")))
            self._open = _Open(
                "call", fresh_id(call_id_prefix(called)), len(self._output), place=call.get("index"), called=called
            )
            self._open.call_id = str(call.get("id"))
            written += self._added(self._item(self._open, "in_progress"))
        open_ = self._open
        if arguments := function.get("arguments"):
            open_.texts.append(arguments)
            if open_.called is not None and not open_.called.is_custom:  # free text is known once it is whole
                said = {"item_id": open_.item_id, "output_index": open_.index, "delta": arguments}
                written += self._frame("response.function_call_arguments.delta", said)
        return written

    def _added(self, item: Json) -> bytes:
        return self._frame("response.output_item.added", {"output_index": len(self._output), "item": item})

    def _close(self) -> bytes:
        open_ = self._open
        if open_ is None:
            return b""
        self._open = None
        item = self._item(open_, "incomplete" if self._finish_reason == "length" else "completed")
        written = self._done(open_, item)
        self._output.append(item)
        return written + self._frame("response.output_item.done", {"output_index": open_.index, "item": item})

    def _done(self, open_: _Open, item: Json) -> bytes:
        """What an item says as a whole, before the item itself."""
        where: Json = {"item_id": open_.item_id, "output_index": open_.index}
        match open_.kind:
            case "call" if "input" in item:
                return self._frame(
                    "response.custom_tool_call_input.delta", where | {"delta": item["input"]}
                ) + self._frame("response.custom_tool_call_input.done", where | {"input": item["input"]})
            case "call":
                said = {"name": item["name"], "arguments": item["arguments"]}
                return self._frame("response.function_call_arguments.done", where | said)
            case "reasoning" | "message" | "refusal" if open_.has_part:
                return self._part_done(open_, where)
        return b""

    def _part_done(self, open_: _Open, where: Json) -> bytes:
        place, part = len(open_.parts), _part(open_)
        if open_.kind == "reasoning":
            where["summary_index"] = place
            return self._frame("response.reasoning_summary_text.done", where | {"text": open_.text}) + self._frame(
                "response.reasoning_summary_part.done", where | {"part": part}
            )
        where["content_index"] = place
        if open_.kind == "refusal":
            written = self._frame("response.refusal.done", where | {"refusal": open_.text})
        else:
            written = self._frame("response.output_text.done", where | {"text": open_.text, "logprobs": open_.logprobs})
        return written + self._frame("response.content_part.done", where | {"part": part})

    def _item(self, open_: _Open, status: str) -> Json:
        match open_.kind:
            case "call":
                assert open_.called is not None
                return call_item(open_.item_id, open_.called, open_.call_id, open_.text, status)
            case "reasoning":
                return reasoning_item(open_.item_id, _parts_of(open_))
            case "message" | "refusal":
                return message_item(open_.item_id, _parts_of(open_), status)
        return open_.item

    # --- a provider's own events --------------------------------------------------------------------------------

    def _native(self, native: Json, event: Json) -> bytes:
        """The event as its client sees it. What it opens and closes is noted, for whoever goes on from there."""
        kind = native.get("type")
        if not isinstance(kind, str) or not kind.replace(".", "").replace("_", "").isalnum() or not kind.isascii():
            return b""  # an event without a plain name is none of OpenAI's
        response = native.get("response")
        if isinstance(response, dict):
            response = shown(self._call, response, self._alias, event["kept_by"])
            self._response = {**self._response, **response}
            self._is_begun = True
            if kind in ("response.completed", "response.incomplete"):
                self._final = self._response  # it is sent at the end, with the cost
                return b""
            return self._frame(kind, {"response": response})
        self._note(kind, native)
        if native.get("sequence_number") == self._number and (raw := event.get("raw")) and b"\n" not in raw:
            self._number += 1
            return _event(kind, raw)
        return self._frame(kind, {name: value for name, value in native.items() if name not in _OF_EVERY_EVENT})

    def _note(self, kind: str, native: Json) -> None:
        item, open_ = native.get("item"), self._open
        if kind == "response.output_item.added" and isinstance(item, dict):
            type_ = str(item.get("type"))
            self._open = _Open(type_, str(item.get("id")), len(self._output), item=item, has_part=False)
        elif kind == "response.output_item.done" and isinstance(item, dict):
            self._output.append(item)
            self._open = None
        if open_ is None:
            return
        part = native.get("part")
        match kind:
            case "response.content_part.added" if isinstance(part, dict) and open_.kind in ("message", "refusal"):
                open_.kind = "refusal" if part.get("type") == "refusal" else "message"
                open_.has_part = True
            case "response.reasoning_summary_part.added":
                open_.has_part = True
            case "response.content_part.done" | "response.reasoning_summary_part.done" if isinstance(part, dict):
                open_.parts.append(part)
                open_.texts.clear()
                open_.logprobs.clear()
                open_.has_part = False
            case "response.output_text.delta" | "response.refusal.delta" | "response.reasoning_summary_text.delta":
                open_.texts.append(str(native.get("delta") or ""))
                logprobs = native.get("logprobs")
                open_.logprobs += logprobs if isinstance(logprobs, list) else ()

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _frame(self, kind: str, fields: Json) -> bytes:
        return _event(kind, _as_json({"type": kind, "sequence_number": self._next(), **fields}))


def _part(open_: _Open) -> Json:
    """The part that is being written."""
    match open_.kind:
        case "reasoning":
            return {"type": "summary_text", "text": open_.text}
        case "refusal":
            return refusal_part(open_.text)
    return text_part(open_.text, list(open_.logprobs))


def _parts_of(open_: _Open) -> list[Json]:
    return [*open_.parts, *([_part(open_)] if open_.has_part else [])]


def _event(kind: str, data: bytes) -> bytes:
    return b"".join((b"event: ", kind.encode(), b"\ndata: ", data, b"\n\n"))
