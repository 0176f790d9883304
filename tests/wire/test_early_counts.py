"""Counts that come before the answer has ended: of what follows them, nobody has said how much it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from accounting.usage import Usage, UsageSource
from routing.upstreams.base import AnswerStream, UpstreamRequest
from routing.upstreams.relay import Relay
from routing.upstreams.translate import Translate
from tests.wire.upstream_calls import HELLO, SSE_HEAD, Raw, call, read

Event = dict[str, Any]
CONTENTS: Final = {"model": "alias", "contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}


def chat(text: str = "", end: str | None = None, *, output: int | None = None) -> Event:
    delta = {"role": "assistant", "content": text} if text else {}
    usage = None if output is None else {"prompt_tokens": 8, "completion_tokens": output, "total_tokens": 8 + output}
    return {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": end}], "usage": usage}


def moonshot(text: str = "", end: str | None = None, *, output: int | None = None) -> Event:
    event = chat(text, end, output=output)
    event["choices"][0]["usage"] = event.pop("usage")
    return event


def gemini(text: str = "", end: str | None = None, *, output: int | None = None) -> Event:
    event: Event = {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}]}
    if end is not None:
        event["candidates"][0]["finishReason"] = "STOP"
    if output is not None:
        event["usageMetadata"] = {"promptTokenCount": 8, "candidatesTokenCount": output, "totalTokenCount": 8 + output}
    return event


def claude(output: int, *texts: str, last: int | None, end: str = "end_turn") -> list[Event]:
    message: Event = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "stop_reason": None,
    }
    ended = {"type": "message_delta", "delta": {"stop_reason": end, "stop_sequence": None}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    said = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}} for text in texts
    ]
    return [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 8, "output_tokens": output}}},
        block,
        *said,
        {"type": "content_block_stop", "index": 0},
        ended if last is None else {**ended, "usage": {"output_tokens": last}},
        {"type": "message_stop"},
    ]


Asks = Callable[[UpstreamRequest], AnswerStream]
#: By the way to the provider: its litellm name, how it is asked, a stream that goes on behind its count, and another.
WAYS: Final[dict[str, tuple[str, Asks, list[Event], list[Event]]]] = {
    "chat": (
        "openai",
        Relay().stream,
        [chat("One", output=2), chat(" two"), chat(end="stop")],
        [chat("One", output=1), chat(" two", output=2), chat(end="stop")],
    ),
    "chat, in one event": ("openai", Relay().stream, [chat("One", output=2), chat(" two", "stop")],
                           [chat("One two", "stop", output=2)]),
    "chat, before anything is said": (
        "openai", Relay().stream, [chat(output=2), chat("One"), chat(end="length")],
        [chat("One"), chat(output=2), chat(end="length")],
    ),
    "chat, in the choice": (
        "openai", Relay().stream, [moonshot("One", output=2), moonshot(" two"), moonshot(end="stop")],
        [moonshot("One"), moonshot(" two", "stop", output=2)],
    ),
    "Messages": (
        "anthropic", lambda request: Translate().messages_stream(request, {}), claude(2, "One", " two", last=None),
        claude(1, "One", " two", last=2),
    ),
    "Messages, said by its end": (
        "anthropic", lambda request: Translate().messages_stream(request, {}), claude(2, "One", last=None),
        claude(2, last=None, end="max_tokens"),
    ),
    "chat at Anthropic": (
        "anthropic", Translate().stream, claude(2, "One", " two", last=None), claude(1, "One", " two", last=2),
    ),
    "Google's": (
        "gemini", Translate().contents_stream, [gemini("One", output=2), gemini(" two"), gemini(" three", "STOP")],
        [gemini("One", output=1), gemini(" two"), gemini(" three", "STOP", output=2)],
    ),
    "chat at Google": (
        "gemini", Translate().stream, [gemini("One", output=2), gemini(" two"), gemini(" three", "STOP")],
        [gemini("One", output=1), gemini(" two"), gemini(" three", "STOP", output=2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("is_last", [False, True], ids=["not the last", "the last"])
@pytest.mark.parametrize("way", WAYS)
def test_a_count_is_an_estimate_when_the_answer_goes_on_behind_it(way: str, *, is_last: bool) -> None:
    provider, ask, early, whole = WAYS[way]
    events = [
        f"event: {event.get('type', 'message')}\ndata: {json.dumps(event)}\n\n".encode()
        for event in (whole if is_last else early)
    ]
    body = CONTENTS if way == "Google's" else HELLO
    with Raw(SSE_HEAD, *events, b"data: [DONE]\n\n" if provider == "openai" else b"") as server:
        url = server.url.removesuffix("/chat/completions")
        stream = ask(call(url, body, provider=provider))
        read(stream)
    source = UsageSource.PROVIDER if is_last else UsageSource.ESTIMATED
    assert stream.usage == Usage(8, output_tokens=2, source=source)
