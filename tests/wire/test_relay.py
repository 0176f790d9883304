"""Providers that speak OpenAI's format: what reaches them, what comes back, and when a stream is over."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from accounting.usage import Usage
from routing.upstreams.answers import has_content
from routing.upstreams.base import FailureKind, Timeouts, UpstreamError
from routing.upstreams.relay import Relay
from routing.upstreams.usage import usage_of
from tests.clocks import within
from tests.simulator import Behaviour, Simulator, ToolCall, faults
from tests.simulator import Usage as Counted
from tests.wire.upstream_calls import HELLO, KEY, SSE_HEAD, Raw, call, call_to, read, text_of


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def refused(sim: Simulator, *, streamed: bool, **options: Any) -> UpstreamError:
    request = call_to(sim, "openai", **options)
    with pytest.raises(UpstreamError) as raised:
        read(Relay().stream(request)) if streamed else Relay().whole(request)
    return raised.value


# --- requests ---------------------------------------------------------------------------------------------


def test_the_request_goes_out_as_it_came_but_for_the_model(sim: Simulator) -> None:
    body = {**HELLO, "frobnicate": {"deep": [1, None]}, "seed": 7, "metadata": {"a": "b"}, "store": True}
    before = copy.deepcopy(body)
    Relay().whole(call_to(sim, "openai", body))
    assert sim.requests[0].body == {**body, "model": "gpt-4o"}
    assert sim.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert sim.requests[0].path == "/openai/v1/chat/completions"
    assert body == before


def test_a_streamed_request_always_asks_for_the_usage(sim: Simulator) -> None:
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": False, "other": 1}}
    read(Relay().stream(call_to(sim, "openai", body)))
    sent = sim.requests[0].body
    assert sent is not None
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True, "other": 1})


def test_a_whole_request_is_never_streamed(sim: Simulator) -> None:
    Relay().whole(call_to(sim, "openai", {**HELLO, "stream": True, "stream_options": {"include_usage": True}}))
    assert set(sim.requests[0].body or {}) == {"model", "messages", "max_tokens"}


def test_mistral_is_not_sent_the_stream_options_that_it_refuses(sim: Simulator) -> None:
    read(Relay().stream(call(sim.base_url("openai"), provider="mistral")))
    assert "stream_options" not in (sim.requests[0].body or {})


def test_an_organization_of_openais_is_named(sim: Simulator) -> None:
    request = call_to(sim, "openai")
    Relay().whole(replace(request, deployment=replace(request.deployment, parameters=(("organization", "org-1"),))))
    assert sim.requests[0].headers["openai-organization"] == "org-1"


def test_ollamas_own_address_is_completed(sim: Simulator) -> None:
    Relay().whole(call(sim.url + "/", provider="ollama"))
    assert [request.path for request in sim.requests] == ["/v1/chat/completions"]


def test_a_local_server_needs_no_key(sim: Simulator) -> None:
    with pytest.raises(UpstreamError):
        Relay().whole(call_to(sim, "openai", api_key=""))
    assert "authorization" not in sim.requests[0].headers


def test_a_key_that_no_header_can_carry_is_ours_to_mend(sim: Simulator) -> None:
    error = refused(sim, streamed=False, api_key="sk-test\r\nX-Evil: 1")
    assert error.kind is FailureKind.AUTHENTICATION
    assert sim.requests == []


def test_a_provider_without_an_address_is_not_found() -> None:
    with pytest.raises(UpstreamError) as raised:
        Relay().whole(call(None, provider="hosted_vllm"))
    assert raised.value.kind is FailureKind.NOT_FOUND


# --- whole answers ------------------------------------------------------------------------------------------


def test_a_whole_answer_comes_back_with_its_usage_and_the_providers_id(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(text="Hi", usage=Counted(100, 20, cached_tokens=64, reasoning_tokens=12)))
    answer = Relay().whole(call_to(sim, "openai"))
    assert answer.body["choices"][0]["message"]["content"] == "Hi"
    assert answer.usage == Usage(input_tokens=100, cached_input_tokens=64, output_tokens=20, reasoning_tokens=12)
    assert answer.http_status == 200
    assert (answer.provider_request_id or "").startswith("req_")
    ChatCompletion.model_validate(answer.body, strict=True)


def test_what_other_providers_leave_out_is_filled_in(sim: Simulator) -> None:
    bare = {"choices": [{"message": {"content": "Hi"}}]}
    sim.behave("openai", Behaviour(status=200, body=bare))
    answer = Relay().whole(call_to(sim, "openai"))
    ChatCompletion.model_validate({**answer.body, "model": "alias"}, strict=True)
    assert answer.body["choices"][0] == {
        "index": 0,
        "finish_reason": "stop",
        "logprobs": None,
        "message": {"role": "assistant", "content": "Hi", "refusal": None},
    }
    assert answer.usage is None


@pytest.mark.parametrize(
    "message",
    [
        {
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"content": None, "refusal": "No."},
        {"content": "", "reasoning_content": "hm"},
        {"content": None, "audio": {"id": "a"}},
    ],
)
def test_an_answer_without_text_may_still_be_one(sim: Simulator, message: dict[str, Any]) -> None:
    sim.behave("openai", Behaviour(status=200, body={"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert Relay().whole(call_to(sim, "openai")).http_status == 200


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_empty_answer_that_says_why_is_an_answer(sim: Simulator, reason: str) -> None:
    body = {"choices": [{"message": {"content": ""}, "finish_reason": reason}]}
    sim.behave("openai", Behaviour(status=200, body=body))
    assert Relay().whole(call_to(sim, "openai")).body["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("choices", [[], [{"message": {"content": ""}, "finish_reason": "stop"}]])
def test_an_answer_with_nothing_in_it_fails_with_what_it_cost(sim: Simulator, choices: list[Any]) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
    sim.behave("openai", Behaviour(status=200, body={"choices": choices, "usage": usage}))
    error = refused(sim, streamed=False)
    assert (error.kind, error.usage) == (FailureKind.EMPTY, Usage(input_tokens=9))


@pytest.mark.parametrize(
    "body",
    ["<html>Welcome</html>", "", "null", "[]", '"hi"', '{"choices": null}', '{"choices": [1]}', "[" * 100_000],
)
def test_a_200_that_is_no_completion_is_malformed(sim: Simulator, body: str) -> None:
    sim.behave("openai", Behaviour(status=200, body=body or " "))
    assert refused(sim, streamed=False).kind is FailureKind.MALFORMED


def test_a_broken_body_is_malformed_and_a_cut_one_a_connection_failure(sim: Simulator) -> None:
    sim.behave("openai", faults.malformed_body(), faults.cut_after(1))
    assert refused(sim, streamed=False).kind is FailureKind.MALFORMED
    assert refused(sim, streamed=False).kind is FailureKind.CONNECTION


def test_an_error_with_status_200_is_an_error(sim: Simulator) -> None:
    body = {"error": {"message": "Provider returned error", "code": 429}}
    sim.behave("openai", Behaviour(status=200, body=body))
    error = refused(sim, streamed=False)
    assert (error.kind, error.message) == (FailureKind.RATE_LIMITED, "Provider returned error")


# --- streams ------------------------------------------------------------------------------------------------


def test_a_stream_is_passed_on_chunk_by_chunk_with_the_usage_last(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(tokens=("One ", "two"), usage=Counted(8, 2)))
    stream = Relay().stream(call_to(sim, "openai"))
    chunks = read(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert text_of(chunks) == "One two"
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, None, "stop"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 10)
    assert stream.usage == Usage(input_tokens=8, output_tokens=2)
    assert [has_content(chunk) for chunk in chunks] == [False, True, True, True, False]
    assert (stream.http_status, (stream.provider_request_id or "")[:4]) == (200, "req_")


def test_tool_calls_are_passed_on(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(tool_calls=(ToolCall("f", '{"a": 1}', "1"),)))
    body = {**HELLO, "tools": [{"type": "function", "function": {"name": "f"}}]}
    chunks = read(Relay().stream(call_to(sim, "openai", body)))
    calls = [c["delta"]["tool_calls"][0] for chunk in chunks for c in chunk["choices"] if c["delta"].get("tool_calls")]
    assert "".join(part["function"]["arguments"] for part in calls) == '{"a": 1}'
    assert [has_content(chunk) for chunk in chunks][1]


def test_every_choice_must_finish(sim: Simulator) -> None:
    chunks = read(Relay().stream(call_to(sim, "openai", {**HELLO, "n": 3})))
    finished = [c["index"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert finished == [0, 1, 2]


def test_a_malformed_event_is_skipped(sim: Simulator) -> None:
    sim.behave("openai", faults.malformed_event_at(1).but(tokens=("a", "b", "c")))
    assert text_of(read(Relay().stream(call_to(sim, "openai")))) == "abc"


@pytest.mark.parametrize("open_s", [0.0, 30.0])
def test_a_missing_end_marker_costs_no_time_and_no_usage(sim: Simulator, open_s: float) -> None:
    sim.behave("openai", faults.without_done(open_s))
    started = time.monotonic()
    stream = Relay().stream(call_to(sim, "openai"))
    chunks = read(stream)
    assert within(time.monotonic() - started, 1)
    assert chunks[-1]["usage"] == {**chunks[-1]["usage"], "total_tokens": 12}
    assert stream.usage == Usage(input_tokens=8, output_tokens=4)


def test_a_stream_without_usage_has_none(sim: Simulator) -> None:
    sim.behave("openai", faults.without_usage())
    stream = Relay().stream(call_to(sim, "openai"))
    assert read(stream)[-1]["choices"][0]["finish_reason"] == "stop"
    assert stream.usage is None


@pytest.mark.parametrize("how", ["close", "reset", "clean"])
def test_a_cut_stream_never_looks_complete(sim: Simulator, how: Any) -> None:
    sim.behave("openai", faults.cut_after(2, how).but(tokens=("a", "b", "c")))
    stream = Relay().stream(call_to(sim, "openai"))
    received = [next(stream), next(stream), next(stream)]
    with pytest.raises(UpstreamError) as raised:
        next(stream)
    assert text_of(received) == "ab"
    assert raised.value.kind is FailureKind.INTERRUPTED
    with pytest.raises(UpstreamError):
        next(stream)


def test_a_stream_that_breaks_before_its_first_content_is_a_connection_failure(sim: Simulator) -> None:
    sim.behave("openai", faults.reset_before_headers())
    assert refused(sim, streamed=True).kind is FailureKind.CONNECTION


def test_an_empty_stream_fails_before_anything_was_said_and_knows_its_cost(sim: Simulator) -> None:
    sim.behave("openai", faults.empty_answer())
    stream = Relay().stream(call_to(sim, "openai"))
    assert not has_content(next(stream))
    with pytest.raises(UpstreamError) as raised:
        read(stream)
    assert (raised.value.kind, raised.value.usage) == (FailureKind.EMPTY, Usage(input_tokens=8))


def test_a_filtered_stream_is_an_answer(sim: Simulator) -> None:
    sim.behave("openai", faults.stopped_by_filter())
    chunks = read(Relay().stream(call_to(sim, "openai")))
    assert chunks[-2]["choices"][0]["finish_reason"] == "content_filter"


def test_an_error_event_is_the_providers_error(sim: Simulator) -> None:
    sim.behave("openai", faults.error_after(1, "rate_limited").but(tokens=("a", "b")))
    stream = Relay().stream(call_to(sim, "openai"))
    assert text_of([next(stream), next(stream)]) == "a"
    with pytest.raises(UpstreamError) as raised:
        next(stream)
    assert raised.value.kind is FailureKind.RATE_LIMITED


@pytest.mark.parametrize(
    ("fault", "within_s"), [(faults.slow_first_token(9), 0.4), (faults.stall_after(1), 0.3), (faults.silent(), 0.4)]
)
def test_a_late_stream_is_left_in_time(sim: Simulator, fault: Behaviour, within_s: float) -> None:
    sim.behave("openai", fault)
    started = time.monotonic()
    error = refused(sim, streamed=True, timeouts=Timeouts(1, 0.4, 0.3, 5))
    assert error.kind is FailureKind.TIMEOUT
    assert within_s - 0.05 < time.monotonic() - started < within_s + 0.3
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at, timeout_s=1)


def test_a_stream_that_never_ends_ends_with_the_total(sim: Simulator) -> None:
    sim.behave("openai", faults.endless(token_s=0.02))
    started = time.monotonic()
    error = refused(sim, streamed=True, timeouts=Timeouts(1, 0.5, 0.5, 0.8))
    assert error.kind is FailureKind.TIMEOUT
    assert within(time.monotonic() - started, 1.1, least_s=0.7)


def test_usage_beside_the_last_choice_is_moved_to_a_chunk_of_its_own() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    first = {"id": "1", "choices": [{"delta": {"content": "a"}}]}
    last = {"id": "1", "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage}
    events = [f"data: {json.dumps(event)}\n\n".encode() for event in (first, last)]
    with Raw(SSE_HEAD, *events, b"data: [DONE]\n\n") as server:
        chunks = read(Relay().stream(call(server.url.removesuffix("/chat/completions"))))
    assert [chunk.get("usage") for chunk in chunks] == [None, None, usage]
    assert chunks[-1]["choices"] == []
    for chunk in chunks:
        ChatCompletionChunk.model_validate({**chunk, "model": "alias"}, strict=True)


# --- usage ----------------------------------------------------------------------------------------------------


ABSURD: list[Any] = [-1, 10**8 + 1, 10**14, 10**30, True, 1.5, float("nan"), float("inf"), "many", "-7", [], {}]


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (None, None),
        ({}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ("many", None),
        ({"prompt_tokens": 5, "completion_tokens": 7}, Usage(input_tokens=5, output_tokens=7)),
        ({"prompt_tokens": "1000", "completion_tokens": 7.0}, Usage(input_tokens=1000, output_tokens=7)),
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(input_tokens=5)),
        *(({"prompt_tokens": 5, "completion_tokens": absurd}, None) for absurd in ABSURD),
        (
            {
                "prompt_tokens": 50,
                "completion_tokens": 30,
                "total_tokens": 80,
                "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 4},
            },
            Usage(50, 20, 0, 0, 6, 30, 10, 4),
        ),
        *(  # DeepSeek, Moonshot and Together, Mistral
            ({"prompt_tokens": 9, "completion_tokens": 1, name: "8"}, Usage(9, 8, output_tokens=1))
            for name in ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")
        ),
        (  # a part that is absurd is left out, one that is more than its whole was counted beside it
            {"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": -1, "prompt_cache_hit_tokens": 100},
            Usage(109, 100, output_tokens=1),
        ),
        (  # Perplexity's deep research: reasoning and citations are beside its totals
            {
                "prompt_tokens": 33,
                "completion_tokens": 11395,
                "total_tokens": 11428,
                "citation_tokens": 19028,
                "num_search_queries": 21,
                "reasoning_tokens": 193947,
            },
            Usage(
                33 + 19028,
                output_tokens=11395 + 193947,
                reasoning_tokens=193947,
                quantities={"search": Decimal(21)},
            ),
        ),
        (  # the same of a short research, whose thoughts are fewer than its words
            {
                "prompt_tokens": 9,
                "completion_tokens": 4000,
                "total_tokens": 4009,
                "citation_tokens": 0,
                "reasoning_tokens": 3000,
                "num_search_queries": 2,
                "search_context_size": "high",
            },
            Usage(9, output_tokens=7000, reasoning_tokens=3000, quantities={"search:high": Decimal(2)}),
        ),
        (  # xAI: reasoning is beside the completion, not in it
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            Usage(10, output_tokens=105, reasoning_tokens=100),
        ),
        (  # a picture's tokens have a price of their own, as litellm reads Gemini's details by modality
            {"prompt_tokens": 10, "completion_tokens": 1300, "completion_tokens_details": {"image_tokens": 1290}},
            Usage(10, output_tokens=1300, quantities={"image_output": Decimal(1290)}),
        ),
    ],
)
def test_usage_is_read_as_reported(reported: object, usage: Usage | None) -> None:
    assert usage_of(reported) == usage
