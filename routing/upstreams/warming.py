"""What the first translated request would otherwise pay for: imports, price map look-ups, compiled schemas."""

from __future__ import annotations

import json
from typing import Any, Final

from routing.upstreams.base import Deployment, Timeouts, UpstreamRequest
from routing.upstreams.estimate import estimated_usage
from routing.upstreams.formats import FORMATS
from routing.upstreams.formats.wire import WireFormat
from routing.upstreams.http.transport import Whole
from routing.upstreams.litellm_fit import LitellmMisfit, check

_REQUEST: Final[dict[str, Any]] = {
    "model": "warm",
    "messages": [{"role": "system", "content": "-"}, {"role": "user", "content": "-"}],
    "max_tokens": 1,
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
}
_MODELS: Final = {"anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-pro"}
_ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "anthropic": {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "-"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "gemini": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "-"}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    },
}
_EVENTS: Final[dict[str, dict[str, Any]]] = {
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "-"}},
    "gemini": _ANSWERS["gemini"],
}


def warm_translation() -> None:
    """Translates one request and one answer in each format, whole and streamed, without a network.
    Raises LitellmMisfit when the installed litellm cannot do it."""
    check()
    for name, wire in FORMATS.items():
        try:
            _warm(name, wire)
        except Exception as error:
            reason = f"it cannot translate for {name} ({type(error).__name__}: {error})"
            raise LitellmMisfit([reason]) from error
    for model in ("gpt-4o", "claude-sonnet-4-6"):  # the tokenizers: loading one would hold all requests up for a second
        estimated_usage(_REQUEST, "-", model)


def _warm(name: str, wire: WireFormat) -> None:
    deployment = Deployment("warm", name, _MODELS[name], None, Timeouts())
    request = UpstreamRequest(deployment, "warm", _REQUEST, Timeouts())
    prepared = wire.prepare(request, streamed=True)
    wire.read(prepared, Whole(200, {}, json.dumps(_ANSWERS[name]).encode())).model_dump()
    wire.parser(prepared, {}).chunk_parser(dict(_EVENTS[name]))
