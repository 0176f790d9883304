"""Pictures in OpenAI's format, whole and as server-sent events.

https://platform.openai.com/docs/api-reference/images · https://platform.openai.com/docs/api-reference/images-streaming
"""

from __future__ import annotations

from accounting import json_text
from accounting.money import plain_usd
from accounting.usage import Meter, Usage
from routing.endpoints.images.request import ImagesCall
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.images import is_completed

COMMENT = b": keep-alive\n\n"  # no client takes it for an event
_as_json = json_text.dumps_line


def whole(call: ImagesCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The provider's answer. It has a count of tokens where pictures are counted in tokens."""
    if estimated is not None and estimated.input_tokens:
        body["usage"] = counts(estimated)
    return body


def counts(usage: Usage) -> Json:
    looked_at, made = int(usage.of(Meter.IMAGE_INPUT)), int(usage.of(Meter.IMAGE_OUTPUT))
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"text_tokens": usage.input_tokens - looked_at, "image_tokens": looked_at},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"text_tokens": usage.output_tokens - made, "image_tokens": made},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def frames(call: ImagesCall, alias: str) -> ImageFrames:
    return ImageFrames()


class ImageFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`. The last picture is sent at the end, with the
    cost."""

    def __init__(self) -> None:
        self._last: Json | None = None

    def event(self, event: Json) -> bytes | None:
        native = event.get("native")
        if native is None:
            return None
        if not is_completed(native):
            return _frame(native)
        before, self._last = self._last, native
        return None if before is None else _frame(before)

    def end(self, consumed: Consumed) -> bytes:
        if self._last is None:
            return b""
        last = {name: value for name, value in self._last.items() if name != "usage"}
        usage = self._last.get("usage") if consumed.is_counted else None
        usage = usage if isinstance(usage, dict) else counts(consumed.usage)
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        data = _as_json(last)[:-1] + b',"usage":' + _as_json(usage)[:-1] + b',"cost_usd":' + cost_usd + b"}}"
        return _head(self._last) + b"data: " + data + b"\n\n"

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return b"event: error\ndata: " + _as_json(error.envelope()) + b"\n\n"

    def interrupted(self, error: UpstreamError) -> bytes:
        why = "stalled" if error.kind is FailureKind.TIMEOUT else "broke off"
        said = f"The provider's stream {why} before its end; what was received is incomplete."
        body = {"error": {"message": said, "type": "upstream_error", "param": None, "code": "stream_interrupted"}}
        return b"event: error\ndata: " + _as_json(body) + b"\n\n"


def _frame(event: Json) -> bytes:
    return _head(event) + b"data: " + _as_json(event) + b"\n\n"


def _head(event: Json) -> bytes:
    """The event's name, when it is a plain one."""
    name = event.get("type")
    is_plain = isinstance(name, str) and name.isascii() and name.replace("_", "").replace(".", "").isalnum()
    return f"event: {name}\n".encode() if is_plain else b""
