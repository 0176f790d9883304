"""The simulator is only worth something if real clients understand it: the official OpenAI client, litellm's
translation of all three formats, and plain HTTP for what clients hide."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest
import urllib3

from tests.clocks import within

# litellm would wait for downloads.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"

from tests.simulator import Behaviour, Simulator, ToolCall, Usage, Where, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("openai", "anthropic", "gemini")
MODELS = {
    "openai": "openai/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-6",
    "gemini": "gemini/gemini-2.5-pro",
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "The time",
        "parameters": {"type": "object", "properties": {}},
    },
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
    "DUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def client(sim: Simulator) -> openai.OpenAI:
    return openai.OpenAI(base_url=sim.base_url("openai"), api_key="sk-test", max_retries=0, timeout=5)


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def litellm_answer(sim: Simulator, wire: str, text: str, **more: Any) -> Any:
    import litellm

    messages = more.pop("messages", user(text))
    # In any call with tools litellm looks for MCP servers, which needs a package that is not installed.
    more["_skip_mcp_handler"] = True
    base = sim.base_url(wire)
    return litellm.completion(
        model=MODELS[wire],
        messages=messages,
        api_base=base,
        api_key="k",
        num_retries=0,
        max_retries=0,
        **more,
    )


def ask(
    sim: Simulator,
    wire: str,
    text: str = "Hello there",
    *,
    stream: bool = False,
    provider: str | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> urllib3.HTTPResponse:
    """One request in the wire's own shape, by a client that hides nothing."""
    base = sim.base_url(wire, provider)
    if wire == "openai":
        url, body = f"{base}/chat/completions", {"model": "gpt-4o", "messages": user(text), "stream": stream}
        key = {"Authorization": "Bearer k"}
    elif wire == "anthropic":
        url = f"{base}/v1/messages"
        body = {"model": "claude-sonnet-4-6", "max_tokens": 100, "messages": user(text), "stream": stream}
        key = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    else:
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        url = f"{base}/models/gemini-2.5-pro:{method}"
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        key = {"x-goog-api-key": "k"}
    pool = urllib3.PoolManager(retries=False, timeout=5)
    return pool.request(  # type: ignore[return-value]
        "POST",
        url,
        json=body | more,
        headers=key if headers is None else headers,
        redirect=False,
        preload_content=False,
    )


def events(response: urllib3.HTTPResponse) -> list[str]:
    """The data of each event of a stream."""
    lines = response.read().decode().replace("\r\n", "\n").split("\n")
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def text_of(wire: str, data: list[str]) -> str:
    found = []
    for item in data:
        try:
            value = json.loads(item)
        except ValueError:
            continue  # [DONE], or a broken event
        if wire == "openai":
            found += [choice["delta"].get("content") or "" for choice in value.get("choices", ())]
        elif wire == "anthropic":
            found.append(value.get("delta", {}).get("text", ""))
        else:
            for candidate in value.get("candidates", ()):
                found += [part["text"] for part in candidate["content"].get("parts", ())]
    return "".join(found)


# --- the official OpenAI client ------------------------------------------------------------------


def test_the_openai_client_gets_a_whole_answer_with_its_counts(sim: Simulator, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o", messages=user("Hello there"))  # type: ignore[arg-type]

    assert answer.choices[0].message.content == "You said: Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        8,
        4,
        12,
    )
    (request,) = sim.requests
    assert (request.provider, request.format, request.model, request.streamed) == (
        "openai",
        "openai",
        "gpt-4o",
        False,
    )
    assert request.headers["authorization"] == "Bearer sk-test"
    assert request.body == {"model": "gpt-4o", "messages": user("Hello there")}
    assert json.loads(request.raw) == request.body


def test_the_openai_client_streams_with_usage_only_when_asked(client: openai.OpenAI) -> None:
    ask_for: dict[str, Any] = {"model": "gpt-4o", "messages": user("Hello there"), "stream": True}
    without = list(client.chat.completions.create(**ask_for))
    with_usage = list(client.chat.completions.create(**ask_for, stream_options={"include_usage": True}))

    assert [chunk.choices[0].delta.content for chunk in without] == [
        "",
        "You",
        " said:",
        " Hello",
        " there",
        None,
    ]
    assert without[0].choices[0].delta.role == "assistant"
    assert without[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in without)
    assert with_usage[-1].choices == []
    assert with_usage[-1].usage is not None
    assert with_usage[-1].usage.completion_tokens == 4
    assert len(with_usage) == len(without) + 1


def test_a_tool_loop_calls_both_tools_and_then_answers(client: openai.OpenAI) -> None:
    messages: list[Any] = user("call get_weather and get_time")
    first = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER, CLOCK])  # type: ignore[list-item]
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.function.name, call.function.arguments) for call in calls if call.type == "function"] == [
        ("get_weather", '{"city": "city"}'),
        ("get_time", "{}"),
    ]
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].message.content is None

    messages += [first.choices[0].message.to_dict()]
    messages += [{"role": "tool", "tool_call_id": call.id, "content": f"done {i}"} for i, call in enumerate(calls)]
    second = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER, CLOCK])  # type: ignore[list-item]
    assert second.choices[0].message.content == "The tool answered: done 0; done 1"


def test_every_openai_option_shows_in_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="o3",
        messages=[{"role": "user", "content": [{"type": "text", "text": "Look and STOP now"},
                                               {"type": "image_url", "image_url": {"url": PIXEL}}]}],
        n=2,
        stop="STOP",
        logprobs=True,
        top_logprobs=2,
        reasoning_effort="low",
    )  # fmt: skip
    assert [choice.message.content for choice in answer.choices] == [
        "You said: Look and ",
        "You said: Look and ",
    ]
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == ["You", " said:", " Look", " and", " "]
    assert len(logprobs.content[0].top_logprobs) == 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 9
    assert answer.usage.completion_tokens == 9 + 5 + 5
    assert answer.usage.prompt_tokens == 3 + 3 + 4 + 765


def test_structured_output_satisfies_the_schema(client: openai.OpenAI) -> None:
    from pydantic import BaseModel

    class Step(BaseModel):
        name: str
        minutes: int

    class Recipe(BaseModel):
        title: str
        steps: list[Step]
        vegan: bool | None

    answer = client.chat.completions.parse(model="gpt-4o", messages=user("A recipe"), response_format=Recipe)  # type: ignore[arg-type]

    assert answer.choices[0].message.parsed == Recipe(title="title", steps=[Step(name="name", minutes=1)], vegan=True)


@pytest.mark.parametrize(
    ("fault", "raises"),
    [
        (faults.rate_limited(retry_after_s=1), openai.RateLimitError),
        (faults.insufficient_quota(), openai.RateLimitError),
        (faults.server_error(), openai.InternalServerError),
        (faults.unavailable(), openai.InternalServerError),
        (faults.bad_gateway(), openai.InternalServerError),
        (faults.context_length_exceeded(), openai.BadRequestError),
        (faults.content_filtered(), openai.BadRequestError),
        (faults.invalid_key(), openai.AuthenticationError),
        (faults.permission_denied(), openai.PermissionDeniedError),
        (faults.model_not_found(), openai.NotFoundError),
        (faults.reset_before_headers(), openai.APIConnectionError),
    ],
)
def test_the_openai_client_raises_the_right_class(
    sim: Simulator, client: openai.OpenAI, fault: Behaviour, raises: type[openai.OpenAIError]
) -> None:
    sim.behave("openai", fault)
    with pytest.raises(raises) as caught:
        client.chat.completions.create(model="gpt-4o", messages=user("hi"))  # type: ignore[arg-type]
    assert type(caught.value) is raises
    # The queue held one: all is well again.
    assert client.chat.completions.create(model="gpt-4o", messages=user("hi")).choices  # type: ignore[arg-type]


# --- litellm understands all three formats -------------------------------------------------------


@pytest.mark.parametrize("wire", FORMATS)
def test_litellm_reads_a_whole_answer(sim: Simulator, wire: str) -> None:
    usage = Usage(input_tokens=100, output_tokens=30, cached_tokens=40)
    sim.behave(wire, Behaviour(text="Good day.", usage=usage))

    answer = litellm_answer(sim, wire, "Hello", max_tokens=50)

    assert answer.choices[0].message.content == "Good day."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        100,
        30,
        130,
    )
    assert answer.usage.prompt_tokens_details.cached_tokens == 40
    assert sim.requests[0].format == wire


@pytest.mark.parametrize("wire", FORMATS)
def test_litellm_reads_a_stream(sim: Simulator, wire: str) -> None:
    sim.behave(wire, Behaviour(text="One two three.", usage=Usage(input_tokens=7, output_tokens=3)))

    chunks = list(
        litellm_answer(sim, wire, "Count", stream=True, stream_options={"include_usage": True}, max_tokens=50)
    )

    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "One two three."
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 3)
    assert sim.requests[0].streamed


@pytest.mark.parametrize("wire", FORMATS)
def test_litellm_runs_a_tool_loop(sim: Simulator, wire: str) -> None:
    asked = user('call get_weather with {"city": "Łódź"}')
    first = litellm_answer(sim, wire, "", messages=asked, tools=[WEATHER], max_tokens=50)
    (call,) = first.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Łódź"}
    assert first.choices[0].finish_reason == "tool_calls"

    result = {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"}
    messages = [*asked, first.choices[0].message.model_dump(), result]
    second = litellm_answer(sim, wire, "", messages=messages, tools=[WEATHER], max_tokens=50)
    assert second.choices[0].message.content == "The tool answered: 22 degrees"


@pytest.mark.parametrize("wire", FORMATS)
def test_litellm_reads_parallel_tool_calls_from_a_stream(sim: Simulator, wire: str) -> None:
    import litellm

    sim.behave(
        wire,
        Behaviour(tool_calls=(ToolCall("get_weather", '{"city": "Oslo"}'), ToolCall("get_time", '{"zone": "CET"}'))),
    )
    asked = user("What is it like?")
    chunks = list(litellm_answer(sim, wire, "", messages=asked, tools=[WEATHER, CLOCK], stream=True, max_tokens=50))

    whole = litellm.stream_chunk_builder(chunks, messages=asked)
    calls: Any = whole.choices[0].message.tool_calls  # type: ignore[union-attr]
    assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_time", {"zone": "CET"}),
    ]
    assert whole.choices[0].finish_reason == "tool_calls"  # type: ignore[union-attr]


@pytest.mark.parametrize("wire", FORMATS)
def test_litellm_gets_json_in_the_shape_it_asked_for(sim: Simulator, wire: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}}
    answer = litellm_answer(sim, wire, "The weather", response_format=shape, max_tokens=50)
    assert json.loads(answer.choices[0].message.content) == {"city": "city", "degrees": 1}


@pytest.mark.parametrize("wire", ["anthropic", "gemini"])
def test_litellm_sees_thoughts(sim: Simulator, wire: str) -> None:
    answer = litellm_answer(sim, wire, "Think", reasoning_effort="low", max_tokens=4000)
    assert answer.choices[0].message.reasoning_content == "The user wrote 5 characters. I will answer plainly."
    assert answer.choices[0].message.content == "You said: Think"
    assert answer.usage.completion_tokens == 9 + 3


@pytest.mark.parametrize("wire", FORMATS)
def test_litellm_recognises_a_context_that_is_too_long(sim: Simulator, wire: str) -> None:
    import litellm

    sim.behave(wire, faults.context_length_exceeded())
    with pytest.raises(litellm.exceptions.ContextWindowExceededError):
        litellm_answer(sim, wire, "Long", max_tokens=50)


def test_litellm_recognises_a_refused_prompt(sim: Simulator) -> None:
    import litellm

    sim.behave("anthropic", faults.content_filtered())
    with pytest.raises(litellm.exceptions.ContentPolicyViolationError):
        litellm_answer(sim, "anthropic", "Bad", max_tokens=50)


@pytest.mark.parametrize("wire", FORMATS)
def test_an_image_is_counted(sim: Simulator, wire: str) -> None:
    content = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    answer = litellm_answer(sim, wire, "", messages=[{"role": "user", "content": content}], max_tokens=50)
    assert answer.choices[0].message.content == "You said: Look (with 1 image)"
    assert answer.usage.prompt_tokens > {"openai": 765, "anthropic": 1590, "gemini": 258}[wire]


def test_anthropic_writes_its_cache_first_and_reads_it_then(sim: Simulator) -> None:
    system = [
        {"type": "text", "text": "word " * 100, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "more " * 10, "cache_control": {"type": "ephemeral"}},
    ]
    first = ask(sim, "anthropic", system=system).json()["usage"]
    second = ask(sim, "anthropic", system=system).json()["usage"]

    written = {"ephemeral_5m_input_tokens": 11, "ephemeral_1h_input_tokens": 101}
    assert first["cache_creation"] == written
    assert (
        first["cache_creation_input_tokens"],
        first["cache_read_input_tokens"],
        first["input_tokens"],
    ) == (112, 0, 8)
    assert (second["cache_creation_input_tokens"], second["cache_read_input_tokens"]) == (0, 112)
    assert second["input_tokens"] == 8


# --- what the providers refuse -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "status", "message"),
    [
        ("openai", 401, "You didn't provide an API key."),
        ("anthropic", 401, "x-api-key header is required"),
        ("gemini", 403, "Method doesn't allow unregistered callers"),
    ],
)
def test_no_key_is_refused(sim: Simulator, wire: str, status: int, message: str) -> None:
    response = ask(sim, wire, headers={})
    assert response.status == status
    assert response.json()["error"]["message"].startswith(message)
    assert sim.wait_until(lambda requests: requests[0].status == status)


def test_anthropic_needs_its_version_header_and_a_token_limit(sim: Simulator) -> None:
    no_version = ask(sim, "anthropic", headers={"x-api-key": "k"})
    assert (no_version.status, no_version.json()["error"]) == (
        400,
        {"type": "invalid_request_error", "message": "anthropic-version: header is required"},
    )
    no_limit = urllib3.request(
        "POST",
        sim.base_url("anthropic") + "/v1/messages",
        json={"model": "c", "messages": user("hi")},
        headers={"x-api-key": "k", "anthropic-version": "2023-06-01"},
    )
    assert (no_limit.status, no_limit.json()["error"]["message"]) == (400, "max_tokens: Field required")


@pytest.mark.parametrize(
    ("wire", "body", "message"),
    [
        (
            "openai",
            {"messages": [{"role": "boss", "content": "hi"}]},
            (
                "Invalid value: 'boss'. Supported values are: 'system', 'assistant', 'user', 'function', "
                "'tool', and 'developer'."
            ),
        ),
        (
            "anthropic",
            {"messages": [{"role": "tool", "content": "hi"}]},
            'messages: Unexpected role "tool". Allowed roles are "user" or "assistant"',
        ),
        (
            "gemini",
            {"contents": [{"role": "assistant", "parts": [{"text": "hi"}]}]},
            "Please use a valid role: user, model.",
        ),
    ],
)
def test_an_unknown_role_is_refused(sim: Simulator, wire: str, body: dict[str, Any], message: str) -> None:
    response = ask(sim, wire, **body)
    assert (response.status, response.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize("wire", FORMATS)
def test_a_body_that_is_not_json_is_refused(sim: Simulator, wire: str) -> None:
    url = (
        sim.base_url(wire)
        + {
            "openai": "/chat/completions",
            "anthropic": "/v1/messages",
            "gemini": "/models/m:generateContent",
        }[wire]
    )
    response = urllib3.request("POST", url, body=b"{no", headers={"Authorization": "Bearer k"})
    assert response.status == 400
    assert sim.requests[0].body is None
    assert sim.requests[0].raw == b"{no"


# --- scripts -------------------------------------------------------------------------------------


def test_a_queue_is_used_up_and_then_forever_and_the_most_exact_selector_speaks(sim: Simulator) -> None:
    def said(provider: str, **more: Any) -> str:
        return str(ask(sim, "openai", provider=provider, **more).json()["choices"][0]["message"]["content"])

    sim.behave("groq", Behaviour(text="one"), Behaviour(text="two"), forever=Behaviour(text="always"))
    sim.behave(Where(format="openai"), forever=Behaviour(text="any openai"))
    sim.behave(Where(model="special"), Behaviour(text="special"))

    assert [said("groq") for _ in range(4)] == ["one", "two", "always", "always"]
    assert said("other") == "any openai"
    assert said("groq", model="special") == "special"
    assert said("groq", model="special") == "always"
    assert [request.provider for request in sim.requests] == ["groq"] * 4 + ["other", "groq", "groq"]
    sim.reset()
    assert said("groq") == "You said: Hello there"
    assert len(sim.requests) == 1


def test_a_provider_that_is_down_comes_back_by_itself(sim: Simulator) -> None:
    sim.behave("openai", faults.down_for(0.3))
    assert [ask(sim, "openai").status for _ in range(2)] == [503, 503]
    time.sleep(0.35)
    assert ask(sim, "openai").status == 200


def test_drawn_latencies_are_within_their_range_and_repeatable() -> None:
    from tests.simulator.script import Script

    def draw() -> list[float]:
        script = Script(faults.slow_answer((0.1, 0.2), seed=5))
        return [script.take("p", "openai", "m").latency_s for _ in range(5)]  # type: ignore[misc]

    drawn = draw()
    assert drawn == draw()
    assert len(set(drawn)) == 5
    assert all(0.1 <= latency <= 0.2 for latency in drawn)


@pytest.mark.parametrize("wire", FORMATS)
def test_the_token_limit_caps_what_is_generated(sim: Simulator, wire: str) -> None:
    limit: dict[str, Any] = {"max_tokens": 3}
    if wire == "gemini":
        limit = {"generationConfig": {"maxOutputTokens": 3}}
    body = ask(sim, wire, "a b c d e f", **limit).json()
    if wire == "openai":
        assert body["choices"][0]["message"]["content"] == "You said: a"
        assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 3)
    elif wire == "anthropic":
        assert body["content"] == [{"type": "text", "text": "You said: a"}]
        assert (body["stop_reason"], body["usage"]["output_tokens"]) == ("max_tokens", 3)
    else:
        assert body["candidates"][0]["content"]["parts"] == [{"text": "You said: a"}]
        assert body["candidates"][0]["finishReason"] == "MAX_TOKENS"
        assert body["usageMetadata"]["candidatesTokenCount"] == 3


@pytest.mark.parametrize("wire", FORMATS)
def test_a_prefilled_answer_is_continued_or_refused(sim: Simulator, wire: str) -> None:
    talk: dict[str, Any] = {"messages": [*user("Hi"), {"role": "assistant", "content": "One two"}]}
    if wire == "gemini":
        turns = (("user", "Hi"), ("model", "One two"))
        talk = {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in turns]}
    if wire == "anthropic":
        assert ask(sim, wire, **talk, model="claude-sonnet-4-6").status == 400, "the newest Claudes do not go on"
        talk["model"] = "claude-sonnet-4-5"
    sim.behave(wire, Behaviour(text="One two three four"), faults.refuses_prefill())

    assert text_of(wire, events(ask(sim, wire, stream=True, **talk))) == " three four"
    assert ask(sim, wire, **talk).status == 400
    sim.behave(wire, faults.refuses_prefill())
    assert ask(sim, wire).status == 200


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("cut", ["close", "reset", "clean"])
def test_a_stream_is_cut_after_some_tokens(sim: Simulator, wire: str, cut: str) -> None:
    sim.behave(wire, faults.cut_after(2, cut))  # type: ignore[arg-type]
    response = ask(sim, wire, stream=True)
    if cut == "clean":
        assert text_of(wire, events(response)) == "You said:"
    else:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            response.read()
    assert sim.wait_until(lambda requests: requests[0].ended_at)
    assert (sim.requests[0].tokens_sent, sim.requests[0].closed_by_client_at) == (2, None)


@pytest.mark.parametrize("wire", FORMATS)
def test_a_whole_answer_is_cut_in_mid_body(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.cut_after(0))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        ask(sim, wire).read()


@pytest.mark.parametrize("wire", FORMATS)
def test_a_malformed_event_is_extra_and_nothing_else_is_lost(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.malformed_event_at(2))
    data = events(ask(sim, wire, stream=True))

    def is_json(item: str) -> bool:
        try:
            json.loads(item)
        except ValueError:
            return False
        return True

    assert [item for item in data if not is_json(item) and item != "[DONE]"] != []
    assert text_of(wire, data) == "You said: Hello there"


def test_the_last_marker_can_be_missing(sim: Simulator) -> None:
    for wire, marker in (("openai", "[DONE]"), ("anthropic", '{"type":"message_stop"}')):
        assert events(ask(sim, wire, stream=True))[-1] == marker
        sim.behave(wire, faults.without_done())
        data = events(ask(sim, wire, stream=True))
        assert marker not in data
        assert text_of(wire, data) == "You said: Hello there"


@pytest.mark.parametrize("wire", FORMATS)
def test_an_error_comes_in_mid_stream(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.error_after(1))
    data = events(ask(sim, wire, stream=True))
    assert text_of(wire, data) == "You"
    assert "verloaded" in json.loads(data[-1])["error"]["message"]


@pytest.mark.parametrize("wire", FORMATS)
def test_slow_tokens_stalls_and_silence_take_their_time(sim: Simulator, wire: str) -> None:
    def seconds(behaviour: Behaviour) -> float:
        sim.behave(wire, behaviour)
        started = time.monotonic()
        assert text_of(wire, events(ask(sim, wire, stream=True))) == "You said: Hello there"
        return time.monotonic() - started

    assert within(seconds(Behaviour()), 0.15)
    assert within(seconds(faults.slow_first_token(0.2)), 0.4, least_s=0.2)
    assert within(seconds(faults.stall_after(2, 0.2)), 0.4, least_s=0.2)
    assert within(seconds(Behaviour(token_s=0.05)), 0.4, least_s=0.15)
    assert within(seconds(faults.slow_answer(0.2)), 0.4, least_s=0.2)

    sim.behave(wire, faults.silent(0.2))
    started = time.monotonic()
    with pytest.raises(urllib3.exceptions.ProtocolError):
        ask(sim, wire)
    assert within(time.monotonic() - started, 0.4, least_s=0.2)


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_is_noticed_at_once(sim: Simulator, wire: str, stream: bool) -> None:
    sim.behave(wire, faults.stall_after(2, 30) if stream else faults.silent(30))
    connection = send(sim, wire, stream=stream)
    if stream:
        received = b""
        while b" said:" not in received:
            received += connection.recv(65536)
    else:
        assert sim.wait_until(lambda requests: requests)
    connection.close()

    hung_up_at = time.monotonic()
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at)
    (request,) = sim.requests
    assert request.closed_by_client_at is not None
    assert request.closed_by_client_at - hung_up_at < 0.5
    assert request.tokens_sent == (2 if stream else 0)


def send(sim: Simulator, wire: str, *, stream: bool) -> socket.socket:
    """A connection on which a request was sent, to be read and closed by hand."""
    if wire == "gemini":
        path = f"/gemini/v1beta/models/m:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"
        body: dict[str, Any] = {"contents": [{"parts": [{"text": "hi"}]}]}
    else:
        path = {"openai": "/openai/v1/chat/completions", "anthropic": "/anthropic/v1/messages"}[wire]
        body = {"model": "m", "max_tokens": 50, "messages": user("hi"), "stream": stream}
    raw = json.dumps(body)
    keys = "Authorization: Bearer k\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\nx-goog-api-key: k\r\n"
    host, port = sim.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.sendall(f"POST {path} HTTP/1.1\r\n{keys}Content-Length: {len(raw)}\r\n\r\n{raw}".encode())
    return connection


@pytest.mark.parametrize("wire", FORMATS)
@pytest.mark.parametrize("stream", [False, True])
def test_answers_without_content_or_counts(sim: Simulator, wire: str, stream: bool) -> None:
    sim.behave(wire, faults.empty_answer(), faults.without_usage())
    empty = ask(sim, wire, stream=stream).read().decode()
    uncounted = ask(sim, wire, stream=stream).read().decode()

    assert "You" not in empty
    assert "usage" not in uncounted
    assert "You" in uncounted


@pytest.mark.parametrize("stream", [False, True])
def test_hostile_answers_are_as_hostile_as_they_say(sim: Simulator, stream: bool) -> None:
    sim.behave(
        "openai",
        faults.malformed_body(),
        faults.huge_line(3_000_000),
        faults.gzip_bomb(3_000_000),
        faults.gzip_bomb(3_000_000),
        faults.redirect("http://127.0.0.1:1/elsewhere"),
    )
    malformed = ask(sim, "openai", stream=stream)
    assert malformed.status == 200
    with pytest.raises(ValueError, match=r"."):
        json.loads(malformed.read().removeprefix(b"data: "))
    assert len(max(ask(sim, "openai", stream=stream).read().split(b"\n"), key=len)) > 3_000_000
    assert len(ask(sim, "openai", stream=stream).read(decode_content=False)) < 10_000
    assert len(ask(sim, "openai", stream=stream).read(decode_content=True)) > 3_000_000
    moved = ask(sim, "openai", stream=stream)
    assert (moved.status, moved.headers["Location"]) == (307, "http://127.0.0.1:1/elsewhere")


@pytest.mark.parametrize("fault", [faults.endless(), faults.endless_headers()])
@pytest.mark.parametrize("stream", [False, True])
def test_endless_answers_end_when_the_client_leaves(sim: Simulator, fault: Behaviour, stream: bool) -> None:
    sim.behave("openai", fault)
    connection = send(sim, "openai", stream=stream)
    received = 0
    while received < 1_000_000:
        received += len(connection.recv(65536))
    connection.close()
    assert sim.wait_until(lambda requests: requests[0].closed_by_client_at)


@pytest.mark.parametrize("wire", FORMATS)
def test_a_filter_ends_an_answer(sim: Simulator, wire: str) -> None:
    sim.behave(wire, faults.stopped_by_filter(2))
    answer = litellm_answer(sim, wire, "hm", max_tokens=50)
    assert answer.choices[0].finish_reason == "content_filter"


def test_gemini_says_in_a_200_that_a_prompt_is_blocked(sim: Simulator) -> None:
    sim.behave("gemini", faults.content_filtered(), faults.content_filtered())
    whole = ask(sim, "gemini")
    assert (whole.status, whole.json()["promptFeedback"]) == (200, {"blockReason": "PROHIBITED_CONTENT"})
    (event,) = events(ask(sim, "gemini", stream=True))
    assert json.loads(event)["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}


def test_retry_after_is_where_each_provider_puts_it(sim: Simulator) -> None:
    for wire in FORMATS:
        sim.behave(wire, faults.rate_limited(retry_after_s=1.5))
        response = ask(sim, wire)
        assert (response.status, response.headers["Retry-After"]) == (429, "1.5")
    assert ask(sim, "openai").status == 200
    sim.behave("gemini", faults.rate_limited(retry_after_s=26))
    details = ask(sim, "gemini").json()["error"]["details"]
    assert details[-1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "26s"}
    sim.behave("anthropic", faults.overloaded())
    assert ask(sim, "anthropic").status == 529


# --- the server ----------------------------------------------------------------------------------


def test_three_hundred_slow_streams_run_at_once(sim: Simulator) -> None:
    sim.behave("openai", forever=Behaviour(length=5, token_s=0.2))
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(text_of("openai", events(ask(sim, "openai", stream=True)))))
        for _ in range(300)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["the quick brown fox jumps"] * 300
    assert within(time.monotonic() - started, 5)  # one after another they would take four minutes


def test_it_comes_back_on_the_same_address_after_a_stop(sim: Simulator) -> None:
    assert ask(sim, "openai").status == 200
    sim.stop()
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        ask(sim, "openai")
    sim.start()
    assert ask(sim, "openai").status == 200


def process(*command: str) -> tuple[subprocess.Popen[str], str]:
    """A running module of the simulator and the first line it printed."""
    started = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    return started, started.stdout.readline().strip()


def test_as_a_process_it_is_scripted_over_http() -> None:
    running, line = process("tests.simulator", "--port", "0")
    try:
        base = line.split()[-1]
        root = base.removesuffix("/openai/v1")
        order = {"where": "openai", "behaviours": [{"fault": "rate_limited", "args": {"retry_after_s": 2}}],
                 "forever": {"text": "hi", "usage": {"input_tokens": 3, "output_tokens": 4}}}  # fmt: skip
        assert urllib3.request("POST", f"{root}/_sim/behave", json=order).status == 200
        wrong = urllib3.request("POST", f"{root}/_sim/behave", json={"where": "x", "behaviours": [{"fault": "no"}]})
        assert wrong.status == 400

        client = openai.OpenAI(base_url=base, api_key="sk-secret-1234", max_retries=0)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="m", messages=user("a"))  # type: ignore[arg-type]
        answer = client.chat.completions.create(model="m", messages=user("a"))  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "hi"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 7

        log = urllib3.request("GET", f"{root}/_sim/log").json()
        assert [entry["status"] for entry in log] == [429, 200]
        assert log[0]["headers"]["authorization"] == "…1234"
        assert urllib3.request("POST", f"{root}/_sim/reset").status == 200
        assert urllib3.request("GET", f"{root}/_sim/log").json() == []
    finally:
        running.terminate()
    assert running.wait(timeout=5) == 0


@pytest.mark.parametrize("interval", ["0", "0.01"])
def test_the_static_upstream_speaks_all_three_formats(interval: str) -> None:
    running, url = process("tests.simulator.static", "--port", "0", "--events", "4", "--interval", interval)
    try:
        sim = Simulator()
        sim._address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        for wire in FORMATS:
            whole = litellm_answer(sim, wire, "hi", max_tokens=50)
            assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (20, 4)
            began = time.monotonic()
            streamed = list(litellm_answer(sim, wire, "hi", stream=True, max_tokens=50))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
            if interval == "0":
                assert text == " token" * 4
            else:
                stamps = [float(text[at : at + 18]) for at in range(0, 72, 18)]
                assert stamps == sorted(stamps)
                assert began < stamps[0] < stamps[-1] < time.monotonic()
    finally:
        running.terminate()
    assert running.wait(timeout=5) == 0
