"""Answers and errors in Google's format, whole, as server-sent events, and as one array of JSON.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse ·
https://cloud.google.com/apis/design/errors
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from accounting import json_text
from accounting.money import plain_usd
from accounting.usage import Usage
from routing.endpoints.gemini.request import GeminiCall
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.usage import usage_of

#: Google's clients read each line that is not empty as JSON, also one that is a comment. An empty line they skip.
COMMENT: Final = b"\n"
_FINISH_REASONS: Final = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_TYPES: Final = "type.googleapis.com/google.rpc"
_as_json = json_text.dumps_line


def envelope(error: GatewayError, request_id: str) -> Json:
    """The error as Google writes errors. What ours says beyond that is among the details."""
    said = _error(error.status, error.message, error.code, {"param": error.param, **error.extra})
    details = said["error"]["details"]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPES}.BadRequest", "fieldViolations": [violation]})
    if wait_s := error.headers.get("Retry-After"):
        details.append({"@type": f"{_TYPES}.RetryInfo", "retryDelay": f"{wait_s}s"})
    if request_id:
        details.append({"@type": f"{_TYPES}.RequestInfo", "requestId": request_id})
    return said


def _error(status: int, message: str, code: str | None, more: Mapping[str, Any]) -> Json:
    """Google's clients know an event of an error by its first name, and the values of its metadata are texts."""
    word = code or "error"
    metadata = {"code": word} | {name: _as_text(value) for name, value in more.items() if value is not None}
    info = {"@type": f"{_TYPES}.ErrorInfo", "reason": word.upper(), "domain": "llm-gateway", "metadata": metadata}
    return {"error": {"code": status, "message": message, "status": status_name(status), "details": [info]}}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def status_name(status: int) -> str:
    return _STATUSES.get(status) or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL")


def whole(call: GeminiCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer under the alias's name: as its provider wrote it, or made of a chat completion."""
    if "choices" not in body:
        body["modelVersion"] = alias
        if estimated is not None:
            body["usageMetadata"] = counts(estimated)
        return body
    usage = estimated or usage_of(body.get("usage")) or Usage()
    return {
        "candidates": [
            _candidate(
                place,
                list(_parts(choice["message"], shows_thoughts=call.shows_thoughts)),
                choice.get("finish_reason") or "stop",
            )
            for place, choice in enumerate(body["choices"])
        ],
        "usageMetadata": counts(usage),
        "modelVersion": alias,
        "responseId": _id(),
    }


def counts(usage: Usage) -> Json:
    """Google counts thoughts beside the answer."""
    counted: Json = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_input_tokens:
        counted["cachedContentTokenCount"] = usage.cached_input_tokens
    if usage.reasoning_tokens:
        counted["thoughtsTokenCount"] = usage.reasoning_tokens
    return counted


def _id() -> str:
    return uuid.uuid4().hex[:22]


def _candidate(index: int, parts: list[Json], reason: str | None = None) -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": index}
    if reason is not None:
        candidate["finishReason"] = _FINISH_REASONS.get(reason, "STOP")
    return candidate


def _parts(message: Mapping[str, Any], *, shows_thoughts: bool) -> Iterator[Json]:
    """Of a message, or of a delta without calls."""
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if shows_thoughts and isinstance(thoughts, str) and thoughts:
        yield {"text": thoughts, "thought": True}
    text = message.get("content") or message.get("refusal")
    if isinstance(text, str) and text:
        yield {"text": text}
    images = message.get("images")
    for image in images if isinstance(images, list) else ():
        shown = image.get("image_url") if isinstance(image, dict) else None
        url = shown.get("url") if isinstance(shown, dict) else None
        kind, is_inline, data = str(url or "").removeprefix("data:").partition(";base64,")
        if is_inline:
            yield {"inlineData": {"mimeType": kind, "data": data}}
    for call in message.get("tool_calls") or ():
        yield _call(call)


def _call(call: Mapping[str, Any]) -> Json:
    function = call.get("function") or {}
    said: Json = {"name": function.get("name"), "args": _arguments(function.get("arguments"))}
    if call.get("id"):
        said["id"] = call["id"]
    return {"functionCall": said}


def _arguments(written: Any) -> Json:
    """A call's arguments; an empty object when the model wrote no JSON object."""
    try:
        read = json.loads(written or "{}")
    except (TypeError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _has_end(event: Json) -> bool:
    """Of an event that may be a provider's, with anything in it."""
    candidates = event.get("candidates")
    return isinstance(candidates, list) and any(
        isinstance(candidate, dict) and candidate.get("finishReason") for candidate in candidates
    )


def frames(call: GeminiCall, alias: str) -> GeminiFrames:
    return GeminiFrames(alias, is_sse=call.is_sse, shows_thoughts=call.shows_thoughts)


class GeminiFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`.

    A native event is sent as its provider wrote it, under the alias's name. A chunk of a chat completion is made an
    event. A call of a function is sent when it is whole: Google has no half calls. The last event waits for the books,
    because it has the count and the cost.
    """

    def __init__(self, alias: str, *, is_sse: bool, shows_thoughts: bool) -> None:
        self.stream_type = "text/event-stream" if is_sse else "application/json"
        self._alias = alias  # the model of all events, even when several deployments answer
        self._is_sse = is_sse
        self._shows_thoughts = shows_thoughts
        self._is_begun = False
        self._id = _id()
        self._calls: dict[int, dict[int, Json]] = {}  # those that are not whole, by candidate and place
        self._last: Json | None = None  # the event with an end, which waits

    def event(self, event: Json) -> bytes | None:
        native = event.get("native")
        said = self._native(native) if native is not None else self._chunk(event)
        if said is None:
            return None
        if self._last is not None and not said.get("candidates"):
            self._last |= {name: value for name, value in said.items() if name != "candidates"}
            return None  # the count alone
        written = self._waiting()
        if _has_end(said):
            self._last = said
        else:
            written += self._frame(_as_json(said))
        return written or None

    def end(self, consumed: Consumed) -> bytes:
        last = self._last or self._event([_candidate(0, [{"text": ""}], "stop")])
        counted = last.pop("usageMetadata", None)
        if not consumed.is_counted or not isinstance(counted, dict):
            counted = counts(consumed.usage)
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        usage = _as_json(counted)[:-1] + b',"cost_usd":' + cost_usd + b"}"
        return self._frame(_as_json(last)[:-1] + b',"usageMetadata":' + usage + b"}") + self._close()

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return self._frame(_as_json(envelope(error, ""))) + self._close()

    def interrupted(self, error: UpstreamError) -> bytes:
        status = 504 if error.kind is FailureKind.TIMEOUT else 500
        said = _error(status, f"The answer broke off: {error.message}", "stream_interrupted", {})
        return self._waiting() + self._frame(_as_json(said)) + self._close()

    def _native(self, event: Json) -> Json:
        if isinstance(event.get("responseId"), str):
            self._id = event["responseId"]
        return {**event, "modelVersion": self._alias}

    def _chunk(self, chunk: Json) -> Json | None:
        candidates = []
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            delta, reason = choice.get("delta") or {}, choice.get("finish_reason")
            without_calls = {name: value for name, value in delta.items() if name != "tool_calls"}
            parts = list(_parts(without_calls, shows_thoughts=self._shows_thoughts))
            for call in delta.get("tool_calls") or ():
                self._add_call(index, call)
            if reason is not None:
                parts += [_call(call) for _, call in sorted(self._calls.pop(index, {}).items())]
                candidates.append(_candidate(index, parts or [{"text": ""}], reason))
            elif parts:
                candidates.append(_candidate(index, parts))
        return self._event(candidates) if candidates else None

    def _add_call(self, index: int, part: Mapping[str, Any]) -> None:
        calls = self._calls.setdefault(index, {})
        call = calls.setdefault(part.get("index") or 0, {"id": None, "function": {"name": None, "arguments": ""}})
        function = part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""

    def _event(self, candidates: list[Json]) -> Json:
        return {"candidates": candidates, "modelVersion": self._alias, "responseId": self._id}

    def _waiting(self) -> bytes:
        """The event that has waited and is not the last one."""
        last, self._last = self._last, None
        return b"" if last is None else self._frame(_as_json(last))

    def _frame(self, event: bytes) -> bytes:
        if self._is_sse:
            return b"data: " + event + b"\r\n\r\n"
        before = b",\r\n" if self._is_begun else b"["
        self._is_begun = True
        return before + event

    def _close(self) -> bytes:
        return b"" if self._is_sse else b"]"
