"""Answers in OpenAI's chat format, whole and as server-sent events.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from collections.abc import Callable

from accounting.usage import Usage
from routing.endpoints.chat.request import ChatCall
from routing.upstreams.base import FailureKind, Json, UpstreamError

DONE = b"data: [DONE]\n\n"
_as_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for every event


def whole(body: Json, alias: str, estimated: Usage | None) -> Json:
    """The provider's answer under the alias's name. Its usage is an estimate when the provider gave no count."""
    body["model"] = alias
    if estimated is not None:
        body["usage"] = _totals(estimated)
    return body


def frames(call: ChatCall, alias: str) -> ChatFrames:
    return ChatFrames(alias, include_usage=call.include_usage)


class ChatFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`."""

    def __init__(self, alias: str, *, include_usage: bool) -> None:
        self._alias = alias  # the model of every chunk, even when several deployments answer
        self._include_usage = include_usage
        self._usage_of_all: Callable[[], Usage] | None = None

    def event(self, event: Json) -> bytes | None:
        """The event as its client sees it: the alias as the model, usage only when asked for."""
        if not event.get("choices") and event.get("usage"):
            if not self._include_usage:
                return None
            if self._usage_of_all is not None:
                event["usage"] = _detailed(self._usage_of_all())
        event["model"] = self._alias
        if self._include_usage:
            event.setdefault("usage", None)  # as OpenAI does when a client asked for usage
        elif "usage" in event:
            del event["usage"]
        return b"data: " + _as_json(event).encode("ascii") + b"\n\n"

    def rescued(self, usage_of_all: Callable[[], Usage]) -> None:
        self._usage_of_all = usage_of_all

    def end(self) -> bytes:
        return DONE

    def interrupted(self, error: UpstreamError) -> bytes:
        why = "stalled" if error.kind == FailureKind.TIMEOUT else "broke off"
        body = {
            "error": {
                "message": f"The provider's stream {why} before its end; what was received is incomplete.",
                "type": "upstream_error",
                "param": None,
                "code": "stream_interrupted",
            }
        }
        return b"data: " + _as_json(body).encode("ascii") + b"\n\n"


def _totals(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _detailed(usage: Usage) -> Json:
    return {
        **_totals(usage),
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
