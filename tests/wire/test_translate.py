"""Anthropic and Gemini in OpenAI's format: what clients and the ledger rely on. The rest is test_equivalence.py."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from accounting.usage import Usage
from routing.upstreams.answers import has_content
from routing.upstreams.base import FailureKind, Timeouts, UpstreamError
from routing.upstreams.registry import upstream_for
from routing.upstreams.relay import Relay
from routing.upstreams.sdk import Sdk
from routing.upstreams.translate import Translate
from tests.clocks import within
from tests.simulator import Behaviour, Simulator, ToolCall, faults
from tests.simulator import Usage as Counted
from tests.wire.corpus import CORPUS, PIXEL, WEATHER, asks, image, text
from tests.wire.upstream_calls import HELLO, SSE_HEAD, Raw, call, call_to, read, text_of

WIRES = pytest.mark.parametrize("wire", ["anthropic", "gemini"])


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(simulator: Simulator) -> Simulator:
    simulator.reset()
    return simulator


def refused(sim: Simulator, wire: str, body: dict[str, Any] = HELLO, **options: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        Translate().whole(call_to(sim, wire, body, **options))
    return raised.value


# --- usage, against what the provider really sent ---------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("wire", "counted", "usage"),
    [
        ("anthropic", Counted(50, 7), Usage(input_tokens=50, output_tokens=7)),
        (
            "anthropic",
            Counted(1000, 9, cached_tokens=600, cache_write_5m_tokens=200, cache_write_1h_tokens=100),
            Usage(1000, 600, 300, 100, output_tokens=9),
        ),
        ("anthropic", Counted(1000, 9, cache_write_5m_tokens=200), Usage(1000, 0, 200, output_tokens=9)),
        ("gemini", Counted(50, 7), Usage(input_tokens=50, output_tokens=7)),
        ("gemini", Counted(900, 40, cached_tokens=512), Usage(900, 512, output_tokens=40)),
        (
            "gemini",
            Counted(90, 140, reasoning_tokens=100),
            Usage(90, output_tokens=140, reasoning_tokens=100),
        ),
        (
            "gemini",
            Counted(90, 40, audio_input_tokens=30),
            Usage(90, audio_input_tokens=30, output_tokens=40),
        ),
    ],
)
def test_the_ledger_counts_what_the_provider_counted(
    sim: Simulator, wire: str, counted: Counted, usage: Usage, streamed: bool
) -> None:
    sim.behave(wire, Behaviour(text="Hi", usage=counted))
    if streamed:
        stream = Translate().stream(call_to(sim, wire))
        chunks = read(stream)
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] == usage.input_tokens + usage.output_tokens
        assert stream.usage == usage
    else:
        assert Translate().whole(call_to(sim, wire)).usage == usage


EMPTY_COUNTS = {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 9}


@pytest.mark.parametrize(
    "block", [{"type": "text", "text": ""}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}]
)
@pytest.mark.parametrize("is_native", [True, False])
def test_a_zero_behind_a_count_says_nothing(block: dict[str, Any], is_native: bool) -> None:
    """As servers that copy Anthropic's format end their streams; litellm's parser and our own read the count."""
    counted = {
        "input_tokens": 10,
        "cache_read_input_tokens": 500,
        "cache_creation_input_tokens": 40,
        "output_tokens": 1,
    }
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": counted}
    said = (
        {"type": "text_delta", "text": "Hi"}
        if block["type"] == "text"
        else {"type": "input_json_delta", "partial_json": "{}"}
    )
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": said},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": EMPTY_COUNTS},
        {"type": "message_stop"},
    ]
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    with Raw(SSE_HEAD, *lines) as server:
        asked = call(server.url.removesuffix("/v1/chat/completions"), provider="anthropic")
        stream = Translate().messages_stream(asked, {}) if is_native else Translate().stream(asked)
        read(stream)
    assert stream.usage == Usage(550, cached_input_tokens=500, cache_write_tokens=40, output_tokens=9)


@WIRES
def test_usage_that_was_not_reported_is_none_and_not_zero(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.without_usage(), faults.without_usage())
    answer = Translate().whole(call_to(sim, wire))
    assert (answer.usage, "usage" in answer.body) == (None, False)
    stream = Translate().stream(call_to(sim, wire))
    assert read(stream)[-1]["choices"][0]["finish_reason"] == "stop"
    assert stream.usage is None


@WIRES
def test_a_cut_stream_knows_what_its_input_cost(sim: Simulator, wire: str) -> None:
    """Anthropic counts it in the first event, Gemini in each; of the latter only the last that came is read."""
    sim.behave(wire, faults.cut_after(2).but(tokens=("a", "b", "c"), usage=Counted(77, 9)))
    stream = Translate().stream(call_to(sim, wire))
    with pytest.raises(UpstreamError) as raised:
        read(stream)
    assert raised.value.kind is FailureKind.INTERRUPTED
    assert raised.value.usage is not None
    assert raised.value.usage.input_tokens == 77


# --- the other form than was asked for, and what cannot be read ---------------

ANSWERS: dict[str, dict[str, Any]] = {
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5, "service_tier": "priority"},
    },
    "gemini": {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "totalTokenCount": 15,
            "serviceTier": "priority",
        },
    },
}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "anthropic": [
        {
            "type": "message_start",
            "message": {**ANSWERS["anthropic"], "content": [], "stop_reason": None},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"}]}, "index": 0}]},
        {
            **ANSWERS["gemini"],
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": "lo"}]}, "finishReason": "STOP", "index": 0}
            ],
        },
    ],
}


@WIRES
def test_an_answer_in_the_place_of_a_stream_is_streamed(wire: str) -> None:
    with Raw(SSE_HEAD.replace(b"text/event-stream", b"application/json"), json.dumps(ANSWERS[wire]).encode()) as server:
        stream = Translate().stream(call(server.url.removesuffix("/chat/completions"), provider=wire))
        chunks = read(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert text_of(chunks) == "Hello"
    assert (stream.usage, chunks[-1]["usage"]["total_tokens"]) == (Usage(10, output_tokens=5), 15)


@WIRES
def test_a_stream_in_the_place_of_an_answer_is_put_together(wire: str) -> None:
    events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in STREAMS[wire]]
    with Raw(SSE_HEAD, *events) as server:
        answer = Translate().whole(call(server.url.removesuffix("/chat/completions"), provider=wire))
    ChatCompletion.model_validate(answer.body, strict=True)
    choice = answer.body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")
    assert (answer.usage, answer.service_tier) == (Usage(10, output_tokens=5), "priority")


@pytest.mark.parametrize("is_native", [True, False], ids=["Messages", "chat"])
def test_anthropics_fast_mode_is_told_as_a_tier(is_native: bool) -> None:
    """https://platform.claude.com/docs/en/build-with-claude/fast-mode"""
    counted = {"input_tokens": 10, "output_tokens": 5, "service_tier": "standard", "speed": "fast"}
    body = json.dumps({**ANSWERS["anthropic"], "usage": counted}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Raw(head, body) as server:
        asked = call(server.url.removesuffix("/v1/chat/completions"), provider="anthropic")
        whole = Translate().messages(asked, {}) if is_native else Translate().whole(asked)
    assert whole.service_tier == "ultrafast"
    start, *rest = STREAMS["anthropic"]
    start = {**start, "message": {**start["message"], "usage": counted}}
    events = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in (start, *rest)]
    with Raw(SSE_HEAD, *events) as server:
        asked = call(server.url.removesuffix("/v1/chat/completions"), provider="anthropic")
        stream = Translate().messages_stream(asked, {}) if is_native else Translate().stream(asked)
        read(stream)
    assert stream.service_tier == "ultrafast"


@WIRES
def test_the_tier_that_served_is_told(sim: Simulator, wire: str) -> None:
    sim.behave(wire, Behaviour(status=200, body=ANSWERS[wire]))
    assert Translate().whole(call_to(sim, wire)).service_tier == "priority"
    events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in STREAMS[wire]]
    with Raw(SSE_HEAD, *events) as server:
        stream = Translate().stream(call(server.url.removesuffix("/chat/completions"), provider=wire))
        read(stream)
    assert stream.service_tier == "priority"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "part", [7, {"functionCall": {"name": ["f"], "args": {}}}], ids=["a number", "a list as a name"]
)
def test_what_litellm_cannot_read_is_malformed_and_keeps_its_count(sim: Simulator, part: Any, streamed: bool) -> None:
    """Gemini's only: litellm's reader of Anthropic takes anything."""
    body = {**ANSWERS["gemini"], "candidates": [{"content": {"parts": [part]}, "finishReason": "STOP", "index": 0}]}
    if streamed:
        with Raw(SSE_HEAD, b"data: " + json.dumps(body).encode() + b"\n\n") as server:
            stream = Translate().stream(call(server.url.removesuffix("/chat/completions"), provider="gemini"))
            with pytest.raises(UpstreamError) as raised:
                read(stream)
        error = raised.value
    else:
        sim.behave("gemini", Behaviour(status=200, body=body))
        error = refused(sim, "gemini")
    assert (error.kind, error.usage, error.consumed) == (FailureKind.MALFORMED, Usage(10, output_tokens=5), True)


# --- OpenAI's types ---------------------------------------------


#: Requests that neither litellm nor the provider can make anything of: in our words or the provider's, a 400.
_REFUSED = {
    ("bad role", "*"),
    ("bad arguments", "*"),
    ("assistant first", "anthropic"),
    ("picture by URL", "gemini"),  # its host does not exist
    ("empty user", "*"),
    ("spaces only", "anthropic"),
    ("sound", "anthropic"),
}


@WIRES
@pytest.mark.parametrize("name", CORPUS)
def test_every_answer_is_one_of_openais(sim: Simulator, name: str, wire: str) -> None:
    body, behaviour = CORPUS[name]
    if behaviour is not None:
        sim.behave(wire, behaviour, behaviour)
    model = "claude-sonnet-4-5" if (name, wire) == ("prefill", "anthropic") else None  # newer ones go on with nothing
    request = call_to(sim, wire, {**body, "model": "alias"}, model=model)
    if (name, wire) in _REFUSED or (name, "*") in _REFUSED:
        refusal = refused(sim, wire, dict(request.body))
        assert refusal.http_status == 400
        assert refusal.kind in (FailureKind.CAPABILITY, FailureKind.BAD_REQUEST)
        return
    answer = Translate().whole(request)
    ChatCompletion.model_validate(answer.body, strict=True)
    message = answer.body["choices"][0]["message"]
    assert "refusal" in message
    assert "content" in message
    chunks = read(Translate().stream(request))
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert [c["delta"].get("role") for c in chunks[0]["choices"]] == ["assistant"]
    assert not any("role" in c["delta"] for chunk in chunks[1:] for c in chunk["choices"] if c["index"] == 0)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[-1]["choices"] == []


@WIRES
def test_a_streamed_tool_call_is_whole_when_put_together(sim: Simulator, wire: str) -> None:
    calls = (ToolCall("get_weather", '{"city": "Rome"}', "1"), ToolCall("get_weather", '{"city": "Oslo"}', "2"))
    sim.behave(wire, Behaviour(tool_calls=calls))
    chunks = read(Translate().stream(call_to(sim, wire, asks("Weather?", tools=[WEATHER]))))
    put_together: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for part in choice["delta"].get("tool_calls", ()):
                known = put_together.setdefault(part["index"], {"name": "", "arguments": "", "ids": ""})
                known["name"] += part["function"].get("name") or ""
                known["arguments"] += part["function"].get("arguments") or ""
                known["ids"] += "x" if part.get("id") else ""
    assert {i: (c["name"], c["arguments"].replace(" ", ""), c["ids"]) for i, c in put_together.items()} == {
        0: ("get_weather", '{"city":"Rome"}', "x"),
        1: ("get_weather", '{"city":"Oslo"}', "x"),
    }
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert has_content(chunks[0])


# --- requests ---------------------------------------------------


@WIRES
def test_what_a_client_may_not_reach_of_litellm_is_not_translated(sim: Simulator, wire: str) -> None:
    body = {
        **HELLO,
        "api_base": "http://127.0.0.1:1",
        "api_key": "stolen",
        "base_url": "http://127.0.0.1:1",
        "custom_llm_provider": "openai",
        "extra_headers": {"x-evil": "1"},
        "extra_body": {"evil": 1},
        "fallbacks": ["gpt-4o"],
        "mock_response": "not asked",
        "model_list": [],
        "vertex_credentials": "x",
    }
    assert Translate().whole(call_to(sim, wire, body)).body["choices"][0]["message"]["content"] != "not asked"
    assert len(sim.requests) == 1
    assert "evil" not in sim.requests[0].raw.decode()
    assert "x-evil" not in sim.requests[0].headers
    assert "stolen" not in str(sim.requests[0].headers)


@WIRES
@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "robot", "content": "Hi"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "not a url"}}]}],
        ["hello"],
        None,
    ],
)
def test_what_cannot_be_translated_is_the_clients_error(sim: Simulator, wire: str, messages: Any) -> None:
    error = refused(sim, wire, {**HELLO, "messages": messages})
    assert (error.kind, error.http_status, error.error_type) == (
        FailureKind.CAPABILITY,
        400,
        "invalid_request_error",
    )


@WIRES
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]"])
def test_a_picture_inside_our_network_is_not_fetched(sim: Simulator, wire: str, host: str) -> None:
    body = asks([text("?"), image(f"http://{host}:{sim.url.rsplit(':', 1)[1]}/cat.png")])
    error = refused(sim, wire, body)
    assert (error.kind, error.param, error.code) == (FailureKind.BAD_REQUEST, "messages", "invalid_image_url")
    assert sim.requests == []


def test_a_picture_that_the_provider_fetches_itself_stays_an_address(sim: Simulator) -> None:
    Translate().whole(call_to(sim, "anthropic", asks([text("?"), image("https://example.com/cat")])))
    body = sim.requests[0].body or {}
    assert body["messages"][0]["content"][1]["source"] == {"type": "url", "url": "https://example.com/cat"}


@WIRES
def test_a_picture_in_the_request_arrives(sim: Simulator, wire: str) -> None:
    Translate().whole(call_to(sim, wire, asks([text("?"), image(f"data:image/png;base64,{PIXEL}")])))
    assert PIXEL in sim.requests[0].raw.decode()


@WIRES
def test_no_key_is_looked_for_in_the_environment(sim: Simulator, wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "sk-from-the-environment")
    assert refused(sim, wire, api_key="").kind is FailureKind.NO_KEY
    assert sim.requests == []


@pytest.mark.parametrize("base", ["", "/v1", "/v1/messages", "/"])
def test_anthropics_address_may_be_given_in_any_length(sim: Simulator, base: str) -> None:
    request = call_to(sim, "anthropic")
    deployment = request.deployment.__class__(
        "a", "anthropic", "claude-sonnet-4-6", sim.base_url("anthropic") + base, request.timeouts
    )
    Translate().whole(request.__class__(deployment, "k", HELLO, request.timeouts))
    assert sim.requests[0].path == "/anthropic/v1/messages"


# --- streams that go wrong --------------------------------------


@WIRES
@pytest.mark.parametrize("how", ["close", "reset", "clean"])
def test_a_cut_stream_never_looks_complete(sim: Simulator, wire: str, how: Any) -> None:
    sim.behave(wire, faults.cut_after(2, how).but(tokens=("a", "b", "c")))
    stream = Translate().stream(call_to(sim, wire))
    received = [next(stream), next(stream)]
    with pytest.raises(UpstreamError) as raised:
        next(stream)
    assert text_of(received) == "ab"
    assert raised.value.kind is FailureKind.INTERRUPTED
    with pytest.raises(UpstreamError):
        next(stream)


@WIRES
def test_a_malformed_event_is_skipped(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.malformed_event_at(1).but(tokens=("a", "b", "c")))
    assert text_of(read(Translate().stream(call_to(sim, wire)))) == "abc"


@WIRES
def test_a_missing_end_costs_no_time_and_no_usage(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.without_done(30).but(text="Hi", usage=Counted(5, 2)))
    started = time.monotonic()
    stream = Translate().stream(call_to(sim, wire))
    assert read(stream)[-1]["usage"]["total_tokens"] == 7
    assert within(time.monotonic() - started, 1)
    assert stream.usage == Usage(input_tokens=5, output_tokens=2)


@WIRES
def test_an_empty_answer_fails_before_anything_was_said(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.empty_answer(), faults.empty_answer())
    assert refused(sim, wire).kind is FailureKind.EMPTY
    with pytest.raises(UpstreamError) as raised:
        next(Translate().stream(call_to(sim, wire)))
    assert raised.value.kind is FailureKind.EMPTY
    assert raised.value.usage is not None


@WIRES
@pytest.mark.parametrize(
    ("fault", "within_s"), [(faults.slow_first_token(9), 0.4), (faults.stall_after(1), 0.3), (faults.silent(), 0.4)]
)
def test_a_late_stream_is_left_in_time(sim: Simulator, wire: str, fault: Behaviour, within_s: float) -> None:
    sim.behave(wire, fault)
    started = time.monotonic()
    with pytest.raises(UpstreamError) as raised:
        read(Translate().stream(call_to(sim, wire, timeouts=Timeouts(1, 0.4, 0.3, 5))))
    assert raised.value.kind is FailureKind.TIMEOUT
    assert within_s - 0.05 < time.monotonic() - started < within_s + 0.3
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at, timeout_s=1)


@WIRES
def test_an_error_event_is_the_providers_error(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.error_after(1, "overloaded").but(tokens=("a", "b")))
    stream = Translate().stream(call_to(sim, wire))
    assert text_of([next(stream)]) == "a"
    with pytest.raises(UpstreamError) as raised:
        next(stream)
    assert raised.value.kind is FailureKind.OVERLOADED


def test_a_prompt_that_gemini_blocks_is_refused_by_policy(sim: Simulator) -> None:
    """litellm makes an empty answer of it; the cascade has a chain for it and the client a reason."""
    sim.behave("gemini", faults.content_filtered(), faults.content_filtered())
    error = refused(sim, "gemini")
    assert (error.kind, error.http_status, error.code) == (
        FailureKind.CONTENT_POLICY,
        400,
        "content_policy_violation",
    )
    with pytest.raises(UpstreamError) as raised:
        read(Translate().stream(call_to(sim, "gemini")))
    assert raised.value.kind is FailureKind.CONTENT_POLICY
    assert raised.value.usage == error.usage, "Gemini counts the prompt that it blocks"
    assert error.usage is not None
    assert error.usage.input_tokens > 0


# --- which upstream, and what it costs to load ------------------


def test_each_provider_has_its_kind_of_upstream() -> None:
    assert [type(upstream_for(name)) for name in ("openai", "groq", "ollama", "hosted_vllm")] == [Relay] * 4
    assert [type(upstream_for(name)) for name in ("anthropic", "gemini")] == [Translate] * 2
    assert [type(upstream_for(name)) for name in ("bedrock", "azure", "vertex_ai")] == [Sdk] * 3
    assert upstream_for("openai") is upstream_for("openai")


def test_litellm_is_not_imported_until_it_is_needed_and_makes_no_connection() -> None:
    script = (
        "import socket, sys\n"
        "import routing.upstreams.registry as registry, routing.upstreams.relay, routing.upstreams.errors\n"
        "registry.upstream_for('openai')\n"
        "print('litellm' in sys.modules)\n"
        "def refuse(*_):\n"
        "    raise AssertionError('a connection')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import threading\n"
        "registry.warm()\n"
        "print('litellm' in sys.modules, threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["False", "True 1"], done.stderr
