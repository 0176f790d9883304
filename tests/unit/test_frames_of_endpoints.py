"""The events of each dialect carry whatever a model says, and no reader sees a line's end in them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from accounting.usage import Usage
from routing.endpoints.gemini import rendering as gemini
from routing.endpoints.gemini.request import parse_gemini
from routing.endpoints.messages import rendering as messages
from routing.endpoints.messages.request import parse_messages
from routing.endpoints.responses import rendering as responses
from routing.endpoints.responses.request import parse_responses, text_of
from routing.exceptions import LedgerUnavailable
from routing.serving.call import Consumed

CONSUMED = Consumed(Usage(input_tokens=3, output_tokens=2), Decimal("0.000000000012"), is_counted=True)
ODD = ["a lone \ud800", "a line\u2028end", "\x85", 'quotes " and \\']


def frames_of(endpoint: str) -> Any:
    if endpoint == "messages":
        asked = {"model": "a", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        return messages.frames(parse_messages(asked), "a")
    if endpoint == "gemini":
        return gemini.frames(parse_gemini({"contents": [{"parts": [{"text": "hi"}]}]}, "a", streamed=True), "a")
    return responses.frames(parse_responses({"model": "a", "input": "hi", "stream": True}), "a")


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@pytest.mark.parametrize("endpoint", ["messages", "responses", "gemini"])
@pytest.mark.parametrize("said", ODD)
def test_odd_text_comes_whole(endpoint: str, said: str) -> None:
    frames = frames_of(endpoint)
    written = (frames.event(chunk({"content": said})) or b"") + (frames.event(chunk({}, "stop")) or b"")
    events = [
        json.loads(line[6:]) for line in (written + frames.end(CONSUMED)).decode().splitlines() if line[:6] == "data: "
    ]
    deltas = [event["delta"] for event in events if event.get("type", "").endswith("delta") and event.get("delta")]
    texts = [delta if isinstance(delta, str) else delta.get("text") for delta in deltas]
    contents = [candidate["content"] for event in events for candidate in event.get("candidates", ())]
    texts += [part["text"] for content in contents for part in content["parts"]]
    assert said in texts


@pytest.mark.parametrize("endpoint", ["messages", "responses", "gemini"])
def test_the_cost_has_all_its_digits(endpoint: str) -> None:
    assert b'"cost_usd":0.000000000012}' in frames_of(endpoint).end(CONSUMED)


def test_an_event_without_a_plain_name_is_not_handed_on() -> None:
    frames = frames_of("messages")
    assert frames.event({"choices": [], "native": {"type": "a\nb"}, "raw": b"{}"}) is None
    assert frames.event({"choices": [], "native": {"type": 5}, "raw": b"{}"}) is None
    assert frames.event({"choices": [], "native": {"type": "new_event"}, "raw": b"{}"}) == (
        b"event: new_event\ndata: {}\n\n"
    )


def googles(*chunks: dict[str, Any], **asked: Any) -> list[Any]:
    """What is sent for these chunks, as one array."""
    config = {"thinkingConfig": {"includeThoughts": True}}
    body = {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": config, **asked}
    frames = gemini.frames(parse_gemini(body, "a", streamed=True, is_sse=False), "a")
    written = [frames.comment(), *(frames.event(each) for each in chunks), frames.end(CONSUMED)]
    sent: list[Any] = json.loads(b"".join(each or b"" for each in written), parse_float=Decimal)
    return sent


def parts_of(events: list[Any]) -> list[Any]:
    return [part for event in events for each in event["candidates"] for part in each["content"]["parts"]]


def test_thoughts_are_shown_to_who_asks_for_them() -> None:
    thought = chunk({"reasoning_content": "Hm"})
    assert parts_of(googles(thought, chunk({"content": "a"}), chunk({}, "stop"))) == [
        {"text": "Hm", "thought": True}, {"text": "a"}, {"text": ""},
    ]  # fmt: skip
    assert parts_of(googles(thought, chunk({"content": "a"}, "stop"), generationConfig={})) == [{"text": "a"}]


def test_the_pieces_of_calls_are_sent_as_whole_calls_with_the_end() -> None:
    pieces: list[Any] = [
        {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "id": "c2", "function": {"name": "g", "arguments": "no json"}},
    ]
    sent = googles(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls"))
    (last,) = sent
    assert parts_of(sent) == [
        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c1"}},
        {"functionCall": {"name": "g", "args": {}, "id": "c2"}},
    ]
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"] == {
        "promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5,
        "cost_usd": Decimal("0.000000000012"),
    }  # fmt: skip


def test_the_last_event_of_gemini_waits_for_the_cost_and_keeps_the_providers_count() -> None:
    def native(text: str, **fields: Any) -> dict[str, Any]:
        return {"choices": [], "native": {"candidates": [{"content": {"parts": [{"text": text}]}, **fields}]}}

    count = {"promptTokenCount": 3, "candidatesTokenCount": 2, "promptTokensDetails": []}
    alone = {"choices": [], "native": {"usageMetadata": count, "responseId": "r"}}
    first, last = googles(native("a"), native("b", finishReason="STOP"), alone)
    assert first == {"candidates": [{"content": {"parts": [{"text": "a"}]}}], "modelVersion": "a"}
    assert last["candidates"] == [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]
    assert last["usageMetadata"] == {**count, "cost_usd": Decimal("0.000000000012")}
    assert (last["responseId"], last["modelVersion"]) == ("r", "a")


def test_an_answer_that_nobody_gives_is_one_error_in_an_array() -> None:
    frames = gemini.frames(parse_gemini({"contents": [{"parts": [{"text": "hi"}]}]}, "a", is_sse=False), "a")
    (said,) = json.loads(frames.comment() + frames.failed(LedgerUnavailable()))
    assert next(iter(said)) == "error"  # by which the official client knows it
    assert (said["error"]["code"], said["error"]["status"]) == (503, "UNAVAILABLE")
    assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"} in said["error"]["details"]


@pytest.mark.parametrize("candidates", [5, [5], ["a"], [[]], {"a": 1}])
def test_an_odd_event_of_gemini_is_handed_on_as_it_is(candidates: Any) -> None:
    odd = {"choices": [], "native": {"candidates": candidates}}
    first, _ = googles(odd, chunk({"content": "a"}, "stop"))
    assert first == {"candidates": candidates, "modelVersion": "a"}


@pytest.mark.parametrize("odd", [5, "x", {"a": 1}])
def test_an_odd_event_of_responses_is_handed_on_as_it_is(odd: Any) -> None:
    frames = frames_of("responses")
    begun = {"type": "response.output_item.added", "item": {"type": "message", "id": "m"}}
    said = {"type": "response.output_text.delta", "delta": "hi", "logprobs": odd}
    for native in (begun, said):
        written = frames.event({"choices": [], "native": native})
    assert json.loads(written.decode().splitlines()[1][6:])["logprobs"] == odd


@pytest.mark.parametrize("odd", [5, "x", {"a": 1}, [5]])
def test_the_text_of_an_odd_response_is_what_can_be_read(odd: Any) -> None:
    said = {"content": [{"type": "output_text", "text": "hi"}], "summary": odd}
    assert text_of({"output": [said, {"content": odd}]}) == "hi"


def test_what_anthropic_says_at_the_end_is_handed_on_with_the_cost() -> None:
    said: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {
            "input_tokens": 0,  # a server that copies the format: it says nothing
            "output_tokens": 2,
            "server_tool_use": {"web_search_requests": 1},
            "iterations": [{"type": "message", "input_tokens": 3, "output_tokens": 2}],
        },
        "context_management": {"applied_edits": []},
    }
    frames = frames_of("messages")
    frames.event({"choices": [], "native": {"type": "message_start", "message": {}}, "raw": b""})
    assert frames.event({"choices": [], "native": said, "raw": b""}) is None
    lines = frames.end(CONSUMED).decode().splitlines()
    told = json.loads(next(line[6:] for line in lines if line.startswith("data: ")), parse_float=Decimal)
    assert told == {
        **said,
        "usage": {
            **said["usage"],
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cost_usd": CONSUMED.cost_usd,
        },
    }


def test_a_count_of_ours_takes_the_place_of_a_providers_that_is_not_all() -> None:
    frames = frames_of("messages")
    said = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    frames.event({"choices": [], "native": said, "raw": b""})
    consumed = Consumed(Usage(input_tokens=30, output_tokens=20), Decimal(1), is_counted=False)
    assert b'"input_tokens":30' in frames.end(consumed)


@pytest.mark.parametrize("odd", [5, "x", [5], [{}], [{"image_url": [{}]}], [{"image_url": {"url": 5}}]])
def test_pictures_in_no_known_shape_do_not_break_an_answer_that_is_paid_for(odd: Any) -> None:
    call = parse_gemini({"contents": [{"parts": [{"text": "hi"}]}]}, "a")
    message = {"role": "assistant", "content": "seen", "images": odd}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    (candidate,) = gemini.whole(call, body, "a", None)["candidates"]
    assert candidate["content"]["parts"] == [{"text": "seen"}]
    (line,) = (frames_of("gemini").event(chunk(message)) or b"").strip().splitlines()
    assert b'"parts":[{"text":"seen"}]' in line
