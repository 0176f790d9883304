"""What comes in OpenAI's format leaves in OpenAI's shape, whole and streamed alike, whatever a provider makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from accounting.usage import Usage
from routing.upstreams.answers import whole_answer
from routing.upstreams.base import FailureKind, UpstreamError, WholeAnswer
from routing.upstreams.http.events import replayed
from routing.upstreams.http.transport import Whole
from routing.upstreams.relay import Chunks, Relay
from routing.upstreams.streams import LiveStream, Progress
from tests.wire.upstream_calls import HELLO, SSE_HEAD, Raw, call, read, text_of

COUNTED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


def sse(*chunks: Any, done: bool = True) -> bytes:
    lines = [
        chunk if isinstance(chunk, bytes) else b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks
    ]
    return b"".join([*lines, b"data: [DONE]\n\n" if done else b""])


def streamed(*body: bytes, n: int = 1, head: bytes = SSE_HEAD) -> tuple[list[dict[str, Any]], Any]:
    with Raw(head, *body) as server:
        stream = Relay().stream(call(server.url.removesuffix("/chat/completions"), {**HELLO, "n": n}))
        chunks = read(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate({**chunk, "model": "alias"}, strict=True)
    return chunks, stream


def whole(body: object, head: bytes = JSON_HEAD) -> WholeAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with Raw(head, raw) as server:
        answer = Relay().whole(call(server.url.removesuffix("/chat/completions")))
    ChatCompletion.model_validate({**answer.body, "model": "alias"}, strict=True)
    return answer


def test_the_last_word_of_a_stream_is_the_tier_that_served_it() -> None:
    _, stream = streamed(
        sse(
            {"choices": [{"delta": {"content": "a"}, "finish_reason": None}], "service_tier": "auto"},
            {"choices": [{"delta": {}, "finish_reason": "stop"}], "service_tier": "priority"},
            {"choices": [], "usage": COUNTED},
        )
    )
    assert stream.service_tier == "priority"


WHOLE_CALL = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("delta", "reason", "expected"),
    [
        ({"content": "a"}, None, "stop"),
        ({"content": "a"}, "", "stop"),
        ({"tool_calls": [WHOLE_CALL]}, None, "tool_calls"),
    ],
)
def test_a_stream_that_says_that_it_is_complete_has_its_reason(
    delta: dict[str, Any], reason: str | None, expected: str
) -> None:
    unsaid: dict[str, Any] = {"choices": [{"delta": {}, "finish_reason": reason}]}
    chunks, stream = streamed(sse({"choices": [{"delta": delta}]}, unsaid, {"choices": [], "usage": COUNTED}))
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]] == [expected]
    assert chunks[-1]["usage"] == COUNTED
    assert stream.usage == Usage(10, output_tokens=5)


def test_a_stream_that_only_stops_is_broken() -> None:
    with pytest.raises(UpstreamError) as raised:
        streamed(sse({"choices": [{"delta": {"content": "a"}}]}, done=False))
    assert raised.value.kind is FailureKind.INTERRUPTED


def test_the_reason_of_an_answer_with_calls_is_that_it_calls() -> None:
    called, _ = said({"content": "Let me see.", "tool_calls": [WHOLE_CALL]}, "stop")
    assert called["tool_calls"]
    body = {"choices": [{"message": {"tool_calls": [WHOLE_CALL]}, "finish_reason": "stop"}], "usage": COUNTED}
    assert whole(body).body["choices"][0]["finish_reason"] == "tool_calls"
    chunks, _ = streamed(
        sse(
            {"choices": [{"delta": {"tool_calls": [WHOLE_CALL]}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        )
    )
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_calls_of_a_whole_answer_are_each_whole() -> None:
    given = [
        {"id": "call_1", "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "call_1", "function": {"name": "g", "arguments": None}},
        {"function": {"name": "h", "arguments": ""}},
    ]
    body = {"choices": [{"message": {"tool_calls": given}, "finish_reason": "stop"}], "usage": COUNTED}
    calls = whole(body).body["choices"][0]["message"]["tool_calls"]
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in calls] == [
        ("f", '{"a":1}'), ("g", "{}"), ("h", "{}"),
    ]  # fmt: skip
    assert len({call["id"] for call in calls}) == 3


def test_a_name_that_is_null_in_a_further_part_is_left_out() -> None:
    parts = [
        {"index": 0, "id": "call_1", "function": {"name": "f"}},
        {"index": 0, "function": {"name": None, "arguments": "{}"}},
    ]
    chunks, _ = streamed(
        sse(
            *({"choices": [{"delta": {"tool_calls": [part]}}]} for part in parts),
            {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        )
    )
    told = [c["delta"]["tool_calls"][0]["function"] for chunk in chunks for c in chunk["choices"] if c["delta"]]
    assert told == [{"name": "f", "arguments": ""}, {"arguments": "{}"}]


def said(said: dict[str, Any], reason: object = "stop", **choice: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client gets of a choice that says so: as a message, and the deltas of the same, put together."""
    answer = whole({"choices": [{"message": said, "finish_reason": reason, **choice}], "usage": COUNTED})
    chunks, _ = streamed(
        sse(
            {"choices": [{"delta": said, "finish_reason": None, **choice}]},
            {"choices": [{"delta": {}, "finish_reason": reason}], "usage": COUNTED},
        )
    )
    delta = next(c["choices"][0]["delta"] for c in chunks if c["choices"] and c["choices"][0]["delta"])
    return answer.body["choices"][0]["message"], delta


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (  # Mistral's parts
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
            {"content": None, "reasoning_content": "hm"},
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "Hel"},
                    {"type": "reference", "reference_ids": [1]},
                    "lo",
                ]
            },
            {"content": "Hello", "reasoning_content": "hm"},
        ),
        ({"content": {"type": "text", "text": "a"}}, {"content": "a"}),
        ({"content": 5}, {"content": "5"}),
        ({"content": "a", "role": "model"}, {"content": "a", "role": "assistant"}),
        ({"content": "a", "reasoning_content": ["b"]}, {"content": "a", "reasoning_content": "b"}),
        ({"content": "a", "tool_calls": []}, {"content": "a"}),
        ({"content": "a", "tool_calls": {}}, {"content": "a"}),
    ],
)
def test_what_is_said_is_put_into_openais_shape(given: dict[str, Any], expected: dict[str, Any]) -> None:
    for message in said(given):
        assert message | expected == message
        assert "tool_calls" not in message


def calls_of(chunks: Iterable[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """The tool calls as a client puts them together: by their index."""
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for part in choice["delta"].get("tool_calls") or ():
                call = calls.setdefault(part["index"], ["", "", ""])
                call[0] += part.get("id") or ""
                call[1] += part["function"].get("name") or ""
                call[2] += part["function"].get("arguments") or ""
    return [(call[0], call[1], call[2]) for _, call in sorted(calls.items())]


def part(arguments: object = None, name: str | None = None, **call: Any) -> dict[str, Any]:
    function = {n: v for n, v in (("name", name), ("arguments", arguments)) if v is not None}
    return {**call, "function": function}


TWO_CALLS = [("c1", "f", '{"a":1}'), ("c2", "g", '{"b":2}')]


@pytest.mark.parametrize(
    "deltas",
    [
        [[part('{"a":1}', "f", id="c1", index=0)], [part('{"b":2}', "g", id="c2", index=1)]],
        [[part('{"a":1}', "f", id="c1")], [part('{"b":2}', "g", id="c2")]],  # no index
        [[part('{"a":1}', "f", id="c1"), part('{"b":2}', "g", id="c2")]],  # no index, both at once
        [[part('{"a":1}', "f", id="c1", index=0)], [part('{"b":2}', "g", id="c2", index=0)]],  # Gemini's
        [  # arguments in pieces, that belong to the call before them, or to the one whose id they bear
            [part("", "f", id="c1")],
            [part('{"a"')],
            [part(":1}")],
            [part("", "g", id="c2")],
            [part('{"b":2}', "g", id="c2")],
        ],
        [
            [part('{"a"', "f", id="c1", index=0)],
            [part(":1}", index=0, id=None)],
            [part('{"b"', "g", id="c2", index=0)],
            [part(":2}", index=0)],
        ],
        [[part({"a": 1}, "f", id="c1", index=0)], [part({"b": 2}, "g", id="c2", index=1)]],  # objects as arguments
    ],
)
def test_every_part_of_a_tool_call_has_its_place(deltas: list[list[dict[str, Any]]]) -> None:
    chunks, _ = streamed(
        sse(
            *({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}]} for calls in deltas),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        )
    )
    assert calls_of(chunks) == TWO_CALLS


def test_a_tool_call_gets_what_it_lacks() -> None:
    message, delta = said({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]})
    for made in (message["tool_calls"][0], delta["tool_calls"][0]):
        assert (made["type"], made["function"]) == ("function", {"name": "f", "arguments": '{"a":1}'})
        assert made["id"].startswith("call_")


CUSTOM_CALL = [
    {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "patch", "input": ""}},
    {"index": 0, "custom": {"input": "*** Add "}},
    {"index": 0, "custom": {"input": "File"}},
]


def test_a_custom_tool_s_call_comes_as_it_was_said() -> None:
    body = sse(
        *({"choices": [{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": None}]} for part in CUSTOM_CALL),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    )
    # openai's types know such a call in whole answers alone, so the chunks are not held against them.
    parts = [chunk["choices"][0]["delta"]["tool_calls"] for chunk in played(body) if chunk["choices"][0]["delta"]]
    assert parts == [[part] for part in CUSTOM_CALL]
    whole_call = {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": "*** Add File"}}
    assert whole(body, SSE_HEAD).body["choices"][0]["message"]["tool_calls"] == [whole_call]


@pytest.mark.parametrize("call", [{"type": None, "function": None}, {"type": "other"}, {"custom": {"name": 1}}])
def test_every_call_has_an_index_an_id_and_a_type(call: dict[str, Any]) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    (made,) = played(sse(chunk))[0]["choices"][0]["delta"]["tool_calls"]
    assert (made["index"], made["id"][:5]) == (0, "call_")
    assert made["type"] in ("function", "other", "custom")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("eos_token", "stop"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("tool-calls", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("whatever", "stop"),
        (7, "stop"),
    ],
)
def test_every_end_is_one_of_openais_five(reason: object, expected: str) -> None:
    assert (
        whole({"choices": [{"message": {"content": "a"}, "finish_reason": reason}]}).body["choices"][0]["finish_reason"]
        == expected
    )
    chunks, _ = streamed(sse({"choices": [{"delta": {"content": "a"}, "finish_reason": reason}]}))
    assert chunks[-1]["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "network_error", "abort"])
def test_an_answer_that_ends_in_an_error_is_none(reason: str) -> None:
    choice = {"finish_reason": reason, "error": {"message": "Upstream gone", "code": 502}}
    with pytest.raises(UpstreamError) as raised:
        whole({"choices": [{"message": {"content": "half"}, **choice}], "usage": COUNTED})
    assert (raised.value.kind, raised.value.message) == (FailureKind.OVERLOADED, "Upstream gone")
    assert raised.value.usage == Usage(10, output_tokens=5)
    with pytest.raises(UpstreamError) as raised:
        streamed(sse({"choices": [{"delta": {"content": "half"}}]}, {"choices": [{"delta": {}, **choice}]}))
    assert (raised.value.kind, raised.value.message) == (FailureKind.OVERLOADED, "Upstream gone")
    assert raised.value.consumed


def test_numbers_that_json_has_not_do_not_leave_us() -> None:
    likely = '{"token": "a", "logprob": -Infinity, "bytes": null, "top_logprobs": [{"token": "b", "logprob": NaN}]}'
    choice = '"finish_reason": "stop", "logprobs": {"content": [' + likely + '], "refusal": null}, "x": 1e999'
    answer = whole(b'{"choices": [{"message": {"content": "a"}, ' + choice.encode() + b"}]}").body["choices"][0]
    chunks, _ = streamed(b'data: {"choices": [{"delta": {"content": "a"}, ' + choice.encode() + b"}]}\n\n")
    for got in (answer, chunks[0]["choices"][0]):
        json.dumps(got, allow_nan=False)
        token = got["logprobs"]["content"][0]
        assert (token["logprob"], token["top_logprobs"][0]["logprob"], got["x"]) == (-9999.0, -9999.0, None)


def test_one_choice_where_several_were_asked_for_is_an_answer() -> None:
    body = sse(
        {"choices": [{"index": 0, "delta": {"content": "a"}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    )
    chunks, _ = streamed(body, n=2)
    assert text_of(chunks) == "a"


def test_a_choice_that_has_begun_must_finish() -> None:
    body = sse(
        {"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    with pytest.raises(UpstreamError) as raised:
        streamed(body, n=2)
    assert raised.value.kind is FailureKind.INTERRUPTED


@pytest.mark.parametrize(
    "reported",
    [
        [{"usage": COUNTED}],
        [{"usage": {**COUNTED, "prompt_tokens": "10"}}],
        [{"x_groq": {"id": "r", "usage": COUNTED}}],  # Groq
        [{"usage": COUNTED}, {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}],
        [{"usage": {**COUNTED, "completion_tokens": 0}}, {"usage": {**COUNTED, "prompt_tokens": None}}],
        [{"usage": COUNTED}, {"usage": {"prompt_tokens": -1, "completion_tokens": -1}}],
    ],
)
def test_a_count_is_found_wherever_it_stands_and_a_zero_behind_it_says_nothing(reported: list[Any]) -> None:
    text = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    for chunks in (
        [text, end, *({"choices": [], **usage} for usage in reported)],
        [*({**text, **usage} for usage in reported), end],
    ):
        got, stream = streamed(sse(*chunks))
        assert stream.usage == Usage(10, output_tokens=5)
        assert [chunk["usage"] for chunk in got if chunk.get("usage")] == [got[-1]["usage"]]
        assert got[-1]["usage"] | COUNTED == got[-1]["usage"]


def test_moonshots_count_is_in_the_last_choice() -> None:
    last = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "usage": COUNTED}]}
    chunks, stream = streamed(sse(last))
    assert (stream.usage, chunks[-1]["usage"]) == (Usage(10, output_tokens=5), COUNTED)


def test_an_absurd_count_is_none() -> None:
    absurd = {"prompt_tokens": 10**13, "completion_tokens": 5}
    answer = whole({"choices": [{"message": {"content": "a"}}], "usage": absurd})
    chunks, stream = streamed(sse({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}], "usage": absurd}))
    assert (answer.usage, "usage" in answer.body) == (None, False)
    assert (stream.usage, [chunk for chunk in chunks if chunk.get("usage")]) == (None, [])


def test_the_tier_that_served_is_told() -> None:
    body = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "service_tier": "priority"}
    assert whole(body).service_tier == "priority"
    assert streamed(sse(body))[1].service_tier == "priority"


# --- events that are not as the standard has them ---------------------------------------------------------------


EVENTS = [
    json.dumps(event).encode()
    for event in (
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": COUNTED},
    )
]


@pytest.mark.parametrize("step", [1, 7, 100_000], ids=["byte by byte", "in pieces", "at once"])
@pytest.mark.parametrize(
    "body",
    [
        b"".join(b"data: %b\n\n" % event for event in EVENTS),
        b"\xef\xbb\xbf" + b"".join(b"data: %b\n\n" % event for event in EVENTS),
        b"".join(b"data: %b\n" % event for event in [*EVENTS, b"[DONE]"]),
        b"".join(b"data: %b\r" % event for event in [*EVENTS, b"[DONE]"]),
        b"".join(b"data: %b\r\r" % event for event in EVENTS),
        b"".join(b"data: %b\r\n\r\n" % event for event in EVENTS),
        b"".join(b"%b\n\n" % event for event in EVENTS),
        b": ping\n\n" + b"".join(b"event: x\ndata:%b\n\n" % event for event in EVENTS),
    ],
    ids=["plain", "mark", "one LF", "one CR", "CR CR", "CRLF", "without data:", "comments"],
)
def test_events_are_found_however_they_are_separated(body: bytes, step: int) -> None:
    chunks, stream = streamed(*(body[i : i + step] for i in range(0, len(body), step)))
    assert (text_of(chunks), stream.usage) == ("Hello", Usage(10, output_tokens=5))


def test_an_error_without_data_before_it_is_the_providers() -> None:
    with pytest.raises(UpstreamError) as raised:
        streamed(b"data: %b\n\n" % EVENTS[0], b'{"error": {"message": "prompt is too long"}}\n')
    assert raised.value.kind is FailureKind.CONTEXT_WINDOW


def test_a_picture_of_many_megabytes_is_one_event() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9 * 1024 * 1024}}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    chunks, _ = streamed(sse({"choices": [{"index": 0, "delta": {"images": [picture]}}]}, end))
    assert chunks[0]["choices"][0]["delta"]["images"] == [picture]


# --- the other form than was asked for ---------------------------------------------------------------------------


def test_an_answer_in_the_place_of_a_stream_is_streamed() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": "Hello", "tool_calls": calls}
    body = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}], "usage": COUNTED}
    for head in (JSON_HEAD, SSE_HEAD):
        chunks, stream = streamed(json.dumps(body).encode(), head=head)
        assert (text_of(chunks), calls_of(chunks)) == ("Hello", [("c1", "f", "{}")])
        assert (stream.usage, chunks[-1]["usage"]) == (Usage(10, output_tokens=5), COUNTED)


def test_an_error_in_the_place_of_a_stream_is_the_error() -> None:
    with pytest.raises(UpstreamError) as raised:
        streamed(b'{"error": {"message": "Provider returned error", "code": 429}}', head=JSON_HEAD)
    assert raised.value.kind is FailureKind.RATE_LIMITED


@pytest.mark.parametrize("odd", [True, 5, "x", {"token": "a"}])
def test_likelihoods_that_are_no_list_are_none(odd: Any) -> None:
    """Whoever writes them anew, as Responses, would fail over them."""
    likely = {"content": odd, "refusal": odd}
    said = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop", "logprobs": likely}
    choice = whole(json.dumps({"choices": [said], "usage": COUNTED}).encode()).body["choices"][0]
    assert choice["logprobs"] == {"content": None, "refusal": None}
    part = {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "logprobs": dict(likely)}
    chunks, _ = streamed(sse({"choices": [part]}, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    assert chunks[0]["choices"][0]["logprobs"] == {"content": None, "refusal": None}


@pytest.mark.parametrize("head", [SSE_HEAD, JSON_HEAD], ids=["as a stream", "as JSON"])
def test_a_stream_in_the_place_of_an_answer_is_put_together(head: bytes) -> None:
    likely: dict[str, Any] = {
        "content": [{"token": "Hel", "logprob": -0.5, "bytes": None, "top_logprobs": []}],
        "refusal": None,
    }
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"content": "Hel"},
        {"content": "lo"},
        {"tool_calls": [part("", "f", id="c1", index=0, type="function")]},
        {"tool_calls": [part('{"a":', index=0)]},
        {"tool_calls": [part("1}", index=0)]},
    ]
    answer = whole(
        sse(
            *(
                {"id": "1", "choices": [{"index": 0, "delta": d, "logprobs": likely if "content" in d else None}]}
                for d in deltas
            ),
            {"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
            {"id": "1", "choices": [], "usage": COUNTED},
        ),
        head,
    )
    choice = answer.body["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "hm",
        "refusal": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    }
    assert (choice["finish_reason"], len(choice["logprobs"]["content"])) == ("tool_calls", 3)
    assert (answer.usage, answer.body["usage"]) == (Usage(10, output_tokens=5), COUNTED)


def test_json_that_is_called_a_stream_is_json() -> None:
    body = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": COUNTED}
    assert whole(json.dumps(body, indent=2).encode(), SSE_HEAD).body["choices"][0]["message"]["content"] == "Hello"


def test_half_a_stream_in_the_place_of_an_answer_is_none() -> None:
    with pytest.raises(UpstreamError) as raised:
        whole(b"data: %b\n\n" % EVENTS[0], SSE_HEAD)
    assert (raised.value.kind, raised.value.consumed) == (FailureKind.INTERRUPTED, True)


@pytest.mark.parametrize("body", [{"choices": [1]}, {"choices": [{}]}, {"choices": None}, {"choices": {}}])
def test_what_is_thrown_away_keeps_its_count(body: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError) as raised:
        whole({**body, "usage": COUNTED})
    error = raised.value
    assert (error.kind, error.usage, error.consumed) == (FailureKind.MALFORMED, Usage(10, output_tokens=5), True)


# --- anything ------------------------------------------------------------------------------------------------------


class Surprising:
    """A source whose reader meets what nobody thought of."""

    http_status = 200
    provider_request_id: str | None = "req_1"
    usage = Usage(7)
    service_tier = None
    dropped_params: tuple[str, ...] = ()
    has_event = False

    def __init__(self) -> None:
        self.progress = Progress(spoken=True)
        self.is_closed = False

    def chunks(self) -> Iterator[dict[str, Any]]:
        yield {"choices": []}
        raise KeyError("delta")

    def beat(self, every_s: float) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def test_a_surprise_in_a_stream_is_the_providers_failure_and_stays_one() -> None:
    source = Surprising()
    stream = LiveStream(source)
    next(stream)
    for _ in range(2):
        with pytest.raises(UpstreamError) as raised:
            next(stream)
        error = raised.value
        assert (error.kind, error.usage, error.consumed) == (FailureKind.MALFORMED, Usage(7), True)
    assert source.is_closed


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def mixed(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields, each as it should be or as anything at all."""
    return st.fixed_dictionaries({}, optional={name: JUNK | value for name, value in fields.items()})


SAID = mixed(
    role=st.just("assistant"),
    content=st.just("a"),
    reasoning_content=st.just("b"),
    tool_calls=st.lists(
        mixed(
            index=st.integers(0, 1),
            id=st.just("c"),
            type=st.sampled_from(("function", "custom")),
            function=mixed(name=st.just("f")),
            custom=mixed(name=st.just("f"), input=st.just("x")),
        ),
        max_size=2,
    ),
)
CHOICE = mixed(
    index=st.integers(0, 1),
    message=SAID,
    delta=SAID,
    finish_reason=st.sampled_from(["stop", "error", "x"]),
    logprobs=mixed(content=st.lists(mixed(token=st.just("a"), logprob=st.just(-1.0)), max_size=1)),
    usage=JUNK,
)
ANSWER = mixed(
    id=st.just("1"),
    created=st.just(1),
    choices=st.lists(JUNK | CHOICE, max_size=2),
    usage=mixed(prompt_tokens=st.integers(), completion_tokens=st.just("5"), prompt_tokens_details=JUNK),
    x_groq=JUNK,
    error=JUNK,
)


@settings(max_examples=300, deadline=None)
@given(answers=st.lists(JUNK | ANSWER, min_size=1, max_size=3))
def test_whatever_a_provider_sends_is_an_answer_or_its_failure(answers: list[Any]) -> None:
    """And what is an answer is JSON, with text where text belongs."""
    for body in (sse(*answers), json.dumps(answers[0]).encode()):
        for chunk in played(body):
            json.dumps(chunk, allow_nan=False)
            for choice in chunk["choices"]:
                assert isinstance(choice["delta"].get("content"), str | None)
                assert all(isinstance(c["index"], int) for c in choice["delta"].get("tool_calls") or ())
        with suppress(UpstreamError):
            json.dumps(whole_answer(json.loads(json.dumps(answers[0])), 200, None).body, allow_nan=False)


def played(body: bytes) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = []
    with suppress(UpstreamError):
        chunks.extend(LiveStream(Chunks(replayed(Whole(200, {}, body)), "", 1)))
    return chunks
