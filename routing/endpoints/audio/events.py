"""Server-sent events of the endpoints of sound, in OpenAI's format."""

from __future__ import annotations

import base64

from accounting import json_text
from accounting.money import plain_usd
from routing.endpoints.chat.rendering import COMMENT
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import Content, FailureKind, Json, UpstreamError

_as_json = json_text.dumps_line


class SoundFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`. The provider's events are sent as they are; the
    last, which has the count, waits for the books and says the cost, too."""

    def __init__(self, done: str, *, counts_seconds: bool = False) -> None:
        self._done = done  # the type of the last event
        self._counts_seconds = counts_seconds
        self._last: Json = {"type": done}

    def event(self, event: Json) -> bytes | None:
        native = event.get("native")
        if not isinstance(native, dict):
            return _of_bytes(event.get("content"))
        if native.get("type") == self._done:
            self._last = native
            return None
        raw = event.get("raw")
        return b"data: " + (raw if isinstance(raw, bytes) and b"\n" not in raw else _as_json(native)) + b"\n\n"

    def end(self, consumed: Consumed) -> bytes:
        reported = self._last.get("usage")
        usage = reported if isinstance(reported, dict) and reported else self._counted(consumed)
        last = {name: value for name, value in self._last.items() if name != "usage"}
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        return b"".join(
            (b"data: ", _as_json(last)[:-1], b',"usage":', _as_json(usage)[:-1], b',"cost_usd":', cost_usd, b"}}\n\n")
        )

    def _counted(self, consumed: Consumed) -> Json:
        usage = consumed.usage
        seconds = usage.quantities.get("input_second")
        if self._counts_seconds and seconds is not None:
            return {"type": "duration", "seconds": float(seconds)}
        return {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return b"data: " + _as_json(error.envelope()) + b"\n\n"

    def interrupted(self, error: UpstreamError) -> bytes:
        why = "stalled" if error.kind == FailureKind.TIMEOUT else "broke off"
        message = f"The provider's stream {why} before its end; what was received is incomplete."
        body = {"message": message, "type": "upstream_error", "param": None, "code": "stream_interrupted"}
        return b"data: " + _as_json({"error": body}) + b"\n\n"


def _of_bytes(content: object) -> bytes | None:
    """The event for a piece of sound, of a provider that sends bytes."""
    if not isinstance(content, Content):
        return None
    audio = base64.b64encode(content.data).decode("ascii")
    return b"data: " + _as_json({"type": "speech.audio.delta", "audio": audio}) + b"\n\n"
