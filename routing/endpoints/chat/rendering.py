"""Answers in OpenAI's chat format, whole and as server-sent events.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from accounting import json_text
from accounting.money import plain_usd
from accounting.usage import Usage
from routing.endpoints.chat.request import ChatCall
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import FailureKind, Json, UpstreamError

_OF_EVERY_CHUNK = ("id", "object", "created", "system_fingerprint")
COMMENT = b": keep-alive\n\n"  # no client takes it for an event
DONE = b"data: [DONE]\n\n"
_as_json = json_text.dumps_line


def whole(call: ChatCall, body: Json, alias: str, estimated: Usage | None) -> Json:
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
        self._last: Json = {}
        self._reported: Json | None = None  # the provider's last chunk, with its count

    def event(self, event: Json) -> bytes | None:
        """The event as its client sees it: the alias as the model. The count comes at the end, with the cost."""
        if not event.get("choices") and event.get("usage"):
            self._reported = event
            return None
        event["model"] = self._alias
        if self._include_usage:
            event.setdefault("usage", None)  # as OpenAI does when a client asked for usage
        elif "usage" in event:
            del event["usage"]
        self._last = event
        return b"data: " + _as_json(event) + b"\n\n"

    def end(self, consumed: Consumed) -> bytes:
        return self._usage(consumed) + DONE if self._include_usage else DONE

    def _usage(self, consumed: Consumed) -> bytes:
        """The chunk that OpenAI sends last when it is asked for usage: the provider's own as long as it says all, else
        ours."""
        reported = self._reported if consumed.is_counted else None
        usage = _detailed(consumed.usage) if reported is None else reported["usage"]
        like = self._reported or {name: self._last[name] for name in _OF_EVERY_CHUNK if name in self._last}
        chunk = {**like, "choices": [], "model": self._alias}
        chunk.pop("usage", None)
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        parts = (b"data: ", _as_json(chunk)[:-1], b',"usage":', _as_json(usage)[:-1], b',"cost_usd":', cost_usd, b"}}")
        return b"".join(parts) + b"\n\n"

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return b"data: " + _as_json(error.envelope()) + b"\n\n"

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
        return b"data: " + _as_json(body) + b"\n\n"


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
