"""The official Python client, unmodified, against the gateway, for the three wire formats."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from tests.e2e.gateway import Gateway, asks, cost, http, text_of
from tests.simulator import Behaviour, ToolCall, Usage, faults

ALL = pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TWO_CALLS = Behaviour(
    tool_calls=(
        ToolCall("get_weather", '{"city":"Rome"}', "1a"),
        ToolCall("get_weather", '{"city":"Oslo"}', "1b"),
    )
)


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


@ALL
def test_a_whole_answer_has_text_a_finish_reason_and_usage(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = gateway.client().chat.completions.create(model=route.alias, **asks("Say hello"))
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.object == "chat.completion"
    assert answer.model == route.alias
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "You said: Say hello"
    assert answer.choices[0].finish_reason == "stop"
    entry = gateway.entry(route.alias)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (entry["input_tokens"], 4)
    assert answer.usage.total_tokens == entry["input_tokens"] + 4


@ALL
def test_a_stream_comes_token_by_token_without_usage_unless_asked(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    chunks = list(gateway.client().chat.completions.create(model=route.alias, stream=True, **asks("Say hello")))
    assert all(ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True) for chunk in chunks)
    assert text_of(chunks) == "You said: Say hello"
    assert {chunk.model for chunk in chunks} == {route.alias}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk for chunk in chunks if chunk.usage or not chunk.choices] == []
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert gateway.entry(route.alias)["output_tokens"] == 4  # the ledger has it either way


@ALL
def test_a_stream_ends_with_its_usage_when_asked(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], Behaviour(text="Hello to you", usage=Usage(100, 20, cached_tokens=40)))
    *chunks, last = gateway.client().chat.completions.create(
        model=route.alias, stream=True, stream_options={"include_usage": True}, **asks()
    )
    assert text_of(chunks) == "Hello to you"
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (100, 20, 120)
    assert last.usage.prompt_tokens_details is not None
    assert last.usage.prompt_tokens_details.cached_tokens == 40
    assert gateway.entry(route.alias)["cost_usd"] == cost(100, 20, cached=40)
    assert (last.usage.model_extra or {})["cost_usd"] == float(cost(100, 20, cached=40))


@ALL
def test_a_stream_whose_provider_counts_nothing_ends_with_our_estimate_when_asked(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], faults.without_usage().but(text="Hello to you"))
    *chunks, last = gateway.client().chat.completions.create(
        model=route.alias, stream=True, stream_options={"include_usage": True}, **asks()
    )
    assert text_of(chunks) == "Hello to you"
    entry = gateway.entry(route.alias)
    assert (last.choices, last.id, last.model) == ([], chunks[0].id, route.alias)
    assert last.usage is not None
    counted = (last.usage.prompt_tokens, last.usage.completion_tokens)
    assert counted == (entry["input_tokens"], entry["output_tokens"])
    assert entry["usage_source"] == "estimated"
    assert (last.usage.model_extra or {})["cost_usd"] == float(entry["cost_usd"]) > 0


def test_the_cost_at_a_streams_end_has_all_its_digits_and_no_exponent(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1, 1)))
    body = {"model": route.alias, "stream": True, "stream_options": {"include_usage": True}, **asks()}
    answer = http.post(f"{gateway.url}/v1/chat/completions", json=body)
    *_, last, done = answer.text.strip().split("\n\n")
    assert last.endswith('"cost_usd":0.00001258}}')
    assert done == "data: [DONE]"
    assert gateway.entry(route.alias)["cost_usd"] == Decimal("0.00001258")


@ALL
def test_a_tool_s_result_comes_back_in_the_next_answer(gateway: Gateway, wire: str) -> None:
    route, client = gateway.route(wire), gateway.client()
    messages: list[Any] = [{"role": "user", "content": 'call get_weather with {"city": "Paris"}'}]
    first = client.chat.completions.create(model=route.alias, messages=messages, tools=[WEATHER])  # type: ignore[list-item]
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    messages += [message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "21 °C"}]
    second = client.chat.completions.create(model=route.alias, messages=messages, tools=[WEATHER])  # type: ignore[list-item]
    assert second.choices[0].finish_reason == "stop"
    assert "21 °C" in (second.choices[0].message.content or "")


@ALL
def test_parallel_tool_calls_arrive_whole_and_streamed(gateway: Gateway, wire: str) -> None:
    route, client = gateway.route(wire), gateway.client()
    gateway.sim.behave(route.providers[0], TWO_CALLS, TWO_CALLS)
    question: dict[str, Any] = {"model": route.alias, "tools": [WEATHER], **asks("Rome and Oslo?")}
    whole = client.chat.completions.create(**question)
    calls = whole.choices[0].message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert len({call.id for call in calls}) == 2

    with client.chat.completions.stream(**question) as stream:  # the client's own assembly of the deltas
        streamed = stream.get_final_completion()
    calls = streamed.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "get_weather"]
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Rome"}, {"city": "Oslo"}]
    assert streamed.choices[0].finish_reason == "tool_calls"


@ALL
def test_structured_output_is_parsed_into_a_model(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = gateway.client().chat.completions.parse(
        model=route.alias, messages=[{"role": "user", "content": "Who?"}], response_format=Person
    )
    assert answer.choices[0].message.parsed == Person(name="name", age=1, tags=["tags"])


@ALL
def test_an_image_in_base64_reaches_the_provider(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    content: list[Any] = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    answer = gateway.client().chat.completions.create(
        model=route.alias, messages=[{"role": "user", "content": content}]
    )
    assert answer.choices[0].message.content == "You said: What is this? (with 1 image)"
    assert PIXEL in gateway.sim.requests[-1].raw.decode()


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_an_image_by_url_is_left_to_the_provider_to_fetch(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    url = "https://images.example/cat.png"
    content: list[Any] = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    answer = gateway.client().chat.completions.create(
        model=route.alias, messages=[{"role": "user", "content": content}]
    )
    assert answer.choices[0].message.content == "You said: What is this? (with 1 image)"
    assert url in gateway.sim.requests[-1].raw.decode()


@pytest.mark.parametrize("wire", ["openai", "gemini"])
def test_several_choices_come_back_in_order(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = gateway.client().chat.completions.create(model=route.alias, n=2, **asks())
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


@ALL
def test_a_stop_sequence_ends_the_answer(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = gateway.client().chat.completions.create(model=route.alias, stop=["three"], **asks("one two three four"))
    assert (answer.choices[0].message.content or "").strip() == "You said: one two"
    assert answer.choices[0].finish_reason == "stop"


@ALL
def test_a_token_limit_ends_the_answer(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = gateway.client().chat.completions.create(model=route.alias, max_tokens=3, **asks("one two three four"))
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_logprobs_cover_every_token_of_the_answer(gateway: Gateway) -> None:
    route = gateway.route("openai")
    answer = gateway.client().chat.completions.create(model=route.alias, logprobs=True, top_logprobs=2, **asks())
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert "".join(token.token for token in tokens) == "You said: Say hello"
    assert [len(token.top_logprobs) for token in tokens] == [2] * len(tokens)


@ALL
def test_reasoning_effort_makes_the_model_think_and_the_thoughts_are_paid(gateway: Gateway, wire: str) -> None:
    model = {"openai": "o4-mini", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-pro"}[wire]
    route = gateway.route(wire, model=model, cap=8192)
    answer = gateway.client().chat.completions.create(model=route.alias, reasoning_effort="low", **asks())
    assert answer.choices[0].message.content == "You said: Say hello"
    entry = gateway.entry(route.alias)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == entry["output_tokens"] > 4
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])


@ALL
def test_the_developer_s_message_reaches_the_provider(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = gateway.client().chat.completions.create(
        model=route.alias,
        messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    )
    assert answer.choices[0].message.content == "You said: Hi"
    assert b"Be brief." in gateway.sim.requests[-1].raw


def test_every_parameter_reaches_a_provider_of_the_same_format_untouched(gateway: Gateway) -> None:
    route = gateway.route("openai")
    parameters: dict[str, Any] = {
        "seed": 7, "temperature": 0.25, "top_p": 0.5, "presence_penalty": -0.5, "frequency_penalty": 1.5,
        "logit_bias": {"50256": -100}, "stop": ["\n"], "service_tier": "flex", "store": True, "user": "user-1",
        "metadata": {"team": "blue"}, "max_tokens": 77, "parallel_tool_calls": False,
        "tools": [WEATHER], "tool_choice": "auto",
    }  # fmt: skip
    unknown = {"future_parameter": {"nested": [1, 2.5, None, "ü"]}, "num_ctx": 4096}
    with gateway.no_hard_budget():  # under it, what nobody knows is refused by name
        gateway.client().chat.completions.create(model=route.alias, extra_body=unknown, **parameters, **asks())
    (received,) = gateway.sim.requests_to(route.providers[0])
    assert received.body == {"model": "gpt-4o", **asks(), **parameters, **unknown}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_header_names_the_parameters_that_the_provider_was_not_sent(gateway: Gateway, streamed: bool) -> None:
    route = gateway.route("openai")
    raw = gateway.client().chat.completions.with_raw_response.create(
        model=route.alias, stream=streamed, verbosity="low", extra_body={"thinking": {"type": "enabled"}}, **asks()
    )
    assert raw.headers["x-gateway-dropped-params"] == "thinking, verbosity"
    plain = gateway.client().chat.completions.with_raw_response.create(model=route.alias, stream=streamed, **asks())
    assert "x-gateway-dropped-params" not in plain.headers


def test_a_client_of_the_service_that_this_replaces_needs_no_change(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=gateway.url, api_key="dummy")
    answer = client.chat.completions.create(model="claude-sonnet", messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content == "You said: Hello"
    assert answer.model == "claude-sonnet"
    assert gateway.sim.requests[-1].format == "anthropic"
    assert gateway.sim.requests[-1].model == "claude-sonnet-4-6"


def test_each_alias_of_the_first_start_answers(gateway: Gateway) -> None:
    for alias, wire, model in [
        ("claude-sonnet", "anthropic", "claude-sonnet-4-6"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("gemini-pro", "gemini", "gemini-2.5-pro"),
        ("gemini-flash", "gemini", "gemini-2.5-flash-lite"),
    ]:
        answer = gateway.client().chat.completions.create(model=alias, **asks())
        assert answer.model == alias
        assert (gateway.sim.requests[-1].format, gateway.sim.requests[-1].model) == (wire, model)


def test_the_asynchronous_client_streams_many_at_once(gateway: Gateway) -> None:
    route = gateway.route("openai")

    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(model=route.alias, stream=True, **asks(f"number {number}"))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def many() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="dummy", max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(20)))

    assert asyncio.run(many()) == [f"You said: number {number}" for number in range(20)]


def test_the_azure_client_names_the_alias_in_the_path(gateway: Gateway) -> None:
    route = gateway.route("openai")
    client = openai.AzureOpenAI(azure_endpoint=gateway.url, api_key="dummy", api_version="2024-10-21", max_retries=0)
    answer = client.chat.completions.create(model=route.alias, **asks())
    assert answer.choices[0].message.content == "You said: Say hello"
    assert gateway.entry(route.alias)["alias"] == route.alias


@pytest.mark.parametrize("path", ["/v1/engines/{}/chat/completions", "/engines/{}/chat/completions"])
def test_engines_name_the_alias_in_the_path_too(gateway: Gateway, path: str) -> None:
    route = gateway.route("openai")
    answer = gateway.client(base_url=gateway.url).post(path.format(route.alias), body=asks(), cast_to=ChatCompletion)
    assert answer.model == route.alias


def test_what_the_gateway_did_is_in_the_headers(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1000, 100)))
    answer = gateway.client().chat.completions.with_raw_response.create(
        model=route.alias, extra_headers={"x-request-id": "my-own-id.1"}, **asks()
    )
    expected = {
        "x-request-id": "my-own-id.1",
        "x-gateway-alias": route.alias,
        "x-gateway-provider": route.providers[0],
        "x-gateway-model": "gpt-4o",
        "x-gateway-attempts": "1",
        "x-gateway-fallback": "false",
        "x-gateway-cost-usd": "0.003517",
        "content-type": "application/json",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert answer.parse()._request_id == "my-own-id.1"
    assert gateway.entry(route.alias)["request_id"] == "my-own-id.1"


def test_what_the_gateway_did_is_in_the_headers_of_a_stream(gateway: Gateway) -> None:
    route = gateway.route("openai")
    with gateway.client().chat.completions.with_streaming_response.create(
        model=route.alias, stream=True, **asks()
    ) as answer:
        lines = list(answer.iter_lines())
    expected = {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "x-gateway-alias": route.alias,
        "x-gateway-provider": route.providers[0],
        "x-gateway-model": "gpt-4o",
        "x-gateway-attempts": "1",
        "x-gateway-fallback": "false",
        "x-gateway-cost-usd": None,  # it is not known yet
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert [line for line in lines if line][-1] == "data: [DONE]"
