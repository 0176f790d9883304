"""OpenAI's own words on Responses: its published document, and the types of its client. Both are read strictly."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.conformance.documents import assert_openai

_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)


def assert_is_a_response(answer: dict[str, Any]) -> None:
    assert_openai("Response", answer)
    Response.model_validate(answer, strict=True)


def assert_are_events(lines: list[str]) -> list[dict[str, Any]]:
    """The events of a stream, which is one of OpenAI's: each valid, numbered without a gap, its items in order."""
    events = []
    for before, line in itertools.pairwise(lines):
        if line.startswith("data: "):
            events.append(json.loads(line[6:]))
            assert before == f"event: {events[-1]['type']}"
    for event in events:
        assert_openai("ResponseStreamEvent", event)
        _EVENT.validate_python(event, strict=True)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    _assert_items_are_whole(events)
    return events


def _assert_items_are_whole(events: list[dict[str, Any]]) -> None:
    """What the deltas say is what the items say, and the items are the response's output."""
    opened: dict[int, dict[str, Any]] = {}
    done: list[dict[str, Any]] = []
    texts: dict[int, str] = {}
    for event in events:
        place: int = event.get("output_index", 0)
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert place == len(done)
                opened[place] = event["item"]
            case "output_item.done":
                assert event["item"]["id"] == opened.pop(place)["id"]
                done.append(event["item"])
            case (
                "output_text.delta" | "refusal.delta" | "function_call_arguments.delta" | "custom_tool_call_input.delta"
            ):
                assert event["item_id"] == opened[place]["id"]
                texts[place] = texts.get(place, "") + event["delta"]
    last = events[-1]
    if last["type"] in ("response.completed", "response.incomplete"):
        assert not opened
        assert last["response"]["output"] == done
        for place, text in texts.items():
            item = done[place]
            said = (
                item.get("arguments")
                or item.get("input")
                or "".join(part.get("text") or part.get("refusal") or "" for part in item.get("content") or ())
            )
            assert said == text
