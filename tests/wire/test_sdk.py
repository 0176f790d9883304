"""litellm's other providers through its SDK, against a provider that litellm reaches with its own client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from accounting.usage import Usage
from routing.upstreams.base import FailureKind as Kind
from routing.upstreams.base import Timeouts, UpstreamError, UpstreamRequest
from routing.upstreams.sdk import Sdk
from tests.clocks import within
from tests.simulator import Behaviour, Simulator, ToolCall, faults
from tests.simulator import Usage as Counted
from tests.wire.corpus import WEATHER, asks
from tests.wire.upstream_calls import HELLO, KEY, Raw, call, read, text_of


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def request_to(sim: Simulator, body: dict[str, Any] = HELLO, **options: Any) -> UpstreamRequest:
    return call(sim.base_url("openai"), body, provider=options.pop("provider", "groq"), **options)


def test_a_whole_answer_comes_back_with_its_usage(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(text="Hi", usage=Counted(30, 5, cached_tokens=10)))
    answer = Sdk().whole(request_to(sim))
    ChatCompletion.model_validate(answer.body, strict=True)
    assert answer.body["choices"][0]["message"]["content"] == "Hi"
    assert answer.usage == Usage(30, 10, output_tokens=5)
    assert (sim.requests[0].body or {})["model"] == "some-model"
    assert sim.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_stream_comes_back_chunk_by_chunk_with_the_usage_last(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(tokens=("One ", "two"), usage=Counted(30, 5)))
    stream = Sdk().stream(request_to(sim))
    chunks = read(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert text_of(chunks) == "One two"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 35)
    assert stream.usage == Usage(30, output_tokens=5)


def test_tools_are_passed_on(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(tool_calls=(ToolCall("get_weather", '{"city":"Rome"}', "1"),)))
    answer = Sdk().whole(request_to(sim, asks("Rome?", tools=[WEATHER])))
    assert answer.body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":"Rome"}'
    assert answer.body["choices"][0]["finish_reason"] == "tool_calls"


def test_what_a_client_may_not_reach_of_litellm_is_not_passed_on(sim: Simulator) -> None:
    body = {**HELLO, "api_base": "http://127.0.0.1:1", "mock_response": "not asked", "api_key": "stolen"}
    assert Sdk().whole(request_to(sim, body)).body["choices"][0]["message"]["content"] != "not asked"
    assert len(sim.requests) == 1


def at(request: UpstreamRequest, *parameters: tuple[str, str]) -> UpstreamRequest:
    return replace(request, deployment=replace(request.deployment, parameters=parameters))


def test_a_deployments_parameters_are_litellms_with_their_variables_as_they_are_now(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAST_WORD", "END")
    Sdk().whole(at(request_to(sim), ("stop", "os.environ/AWS_LAST_WORD")))
    assert (sim.requests[0].body or {})["stop"] == "END"


def test_a_parameter_that_is_not_there_asks_nobody(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VERTEX_NOWHERE", raising=False)
    with pytest.raises(UpstreamError, match=r"the provider's vertex_project \(VERTEX_NOWHERE\) is not there") as raised:
        Sdk().whole(at(request_to(sim), ("vertex_project", "os.environ/VERTEX_NOWHERE")))
    assert raised.value.kind is Kind.NO_KEY
    assert sim.requests == []


def test_usage_that_litellm_only_guessed_is_none(sim: Simulator) -> None:
    sim.behave("openai", faults.without_usage(), faults.without_usage())
    stream = Sdk().stream(request_to(sim))
    assert text_of(read(stream)) == "You said: Say hello"
    assert stream.usage is None


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("fault", "kind", "status"),
    [
        (faults.rate_limited(), Kind.RATE_LIMITED, 429),
        (faults.unavailable(), Kind.OVERLOADED, 503),
        (faults.bad_gateway(), Kind.OVERLOADED, 502),
        (faults.invalid_key(), Kind.AUTHENTICATION, 401),
        (faults.model_not_found(), Kind.NOT_FOUND, 404),
        (faults.context_length_exceeded(), Kind.CONTEXT_WINDOW, 400),
        (faults.content_filtered(), Kind.CONTENT_POLICY, 400),
        (faults.reset_before_headers(), Kind.CONNECTION, None),
        (faults.silent(), Kind.TIMEOUT, None),
        (faults.empty_answer(), Kind.EMPTY, 200),
    ],
)
def test_each_failure_is_understood_and_never_tried_again(
    sim: Simulator, fault: Behaviour, kind: Kind, status: int | None, streamed: bool
) -> None:
    sim.behave("openai", fault)
    request = request_to(sim, timeouts=Timeouts(1, 0.5, 0.5, 0.5), provider="mistral")
    with pytest.raises(UpstreamError) as raised:
        read(Sdk().stream(request)) if streamed else Sdk().whole(request)
    assert (raised.value.kind, raised.value.http_status) == (kind, status)
    assert "litellm" not in raised.value.message.lower()
    assert sim.url not in raised.value.message
    assert len(sim.requests) == 1


@pytest.mark.parametrize("how", ["close", "reset", "clean"])
def test_a_cut_stream_never_looks_complete(sim: Simulator, how: Any) -> None:
    sim.behave("openai", faults.cut_after(2, how).but(tokens=("a", "b", "c")))
    with pytest.raises(UpstreamError) as raised:
        read(Sdk().stream(request_to(sim, provider="mistral")))
    assert raised.value.kind is Kind.INTERRUPTED


def test_a_stalled_stream_is_left(sim: Simulator) -> None:
    sim.behave("openai", faults.stall_after(1))
    started = time.monotonic()
    with pytest.raises(UpstreamError) as raised:
        read(Sdk().stream(request_to(sim, timeouts=Timeouts(1, 0.5, 0.5, 5), provider="mistral")))
    assert raised.value.kind is Kind.TIMEOUT
    assert within(time.monotonic() - started, 1.5)


def test_close_ends_the_providers_connection(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(length=200, token_s=0.05))
    stream = Sdk().stream(request_to(sim, provider="mistral"))
    next(stream)
    stream.close()
    stream.close()
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at, timeout_s=2)
    with pytest.raises(UpstreamError):
        next(stream)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_no_loop_of_asyncio_runs_in_the_callers_thread(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    """All greenlets of a worker share a thread, and would seem to be in the loop."""
    ran: list[object] = []

    def run_forever(loop: object) -> None:
        ran.append(loop)

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.run_forever", run_forever)
    request = request_to(sim, provider="github")
    assert read(Sdk().stream(request)) if streamed else Sdk().whole(request).body
    assert ran == []


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", ["github", "cohere_chat", "databricks", "zai"])
def test_a_redirect_is_not_followed(provider: str, streamed: bool) -> None:
    """The key would go with it."""
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as elsewhere:
        head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
        with Raw(head.encode()) as server:
            request = call(server.url.removesuffix("/chat/completions"), provider=provider)
            with pytest.raises(UpstreamError):
                read(Sdk().stream(request)) if streamed else Sdk().whole(request)
            assert server.connections == 1
        assert elsewhere.connections == 0


def test_a_cloud_is_sent_pictures_and_never_an_address_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm would fetch it, of any size."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as inside:
        parts = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": inside.url}}]
        body = {**HELLO, "messages": [{"role": "user", "content": parts}]}
        request = call("http://127.0.0.1:1", body, provider="bedrock", model="anthropic.claude-3-haiku-20240307-v1:0")
        with pytest.raises(UpstreamError, match="its address is not a public one") as raised:
            Sdk().whole(request)
        assert raised.value.kind is Kind.BAD_REQUEST
        assert inside.connections == 0
