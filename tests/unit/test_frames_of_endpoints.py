"""The events of Messages and of Responses carry whatever a model says, and no reader sees a line's end in them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from accounting.usage import Usage
from routing.endpoints.messages import rendering as messages
from routing.endpoints.messages.request import parse_messages
from routing.endpoints.responses import rendering as responses
from routing.endpoints.responses.request import parse_responses
from routing.serving.call import Consumed

CONSUMED = Consumed(Usage(input_tokens=3, output_tokens=2), Decimal("0.000000000012"), is_counted=True)
ODD = ["a lone \ud800", "a line\u2028end", "\x85", 'quotes " and \\']


def frames_of(endpoint: str) -> Any:
    if endpoint == "messages":
        asked = {"model": "a", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        return messages.frames(parse_messages(asked), "a")
    return responses.frames(parse_responses({"model": "a", "input": "hi", "stream": True}), "a")


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
@pytest.mark.parametrize("said", ODD)
def test_odd_text_comes_whole(endpoint: str, said: str) -> None:
    frames = frames_of(endpoint)
    written = (frames.event(chunk({"content": said})) or b"") + (frames.event(chunk({}, "stop")) or b"")
    events = [
        json.loads(line[6:]) for line in (written + frames.end(CONSUMED)).decode().splitlines() if line[:6] == "data: "
    ]
    deltas = [event["delta"] for event in events if event["type"].endswith("delta") and event.get("delta")]
    texts = [delta if isinstance(delta, str) else delta.get("text") for delta in deltas]
    assert said in texts


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
def test_the_cost_has_all_its_digits(endpoint: str) -> None:
    assert b'"cost_usd":0.000000000012}' in frames_of(endpoint).end(CONSUMED)


def test_an_event_without_a_plain_name_is_not_handed_on() -> None:
    frames = frames_of("messages")
    assert frames.event({"choices": [], "native": {"type": "a\nb"}, "raw": b"{}"}) is None
    assert frames.event({"choices": [], "native": {"type": 5}, "raw": b"{}"}) is None
    assert frames.event({"choices": [], "native": {"type": "new_event"}, "raw": b"{}"}) == (
        b"event: new_event\ndata: {}\n\n"
    )
