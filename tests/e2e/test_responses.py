"""OpenAI's Responses as its official client asks for them: the answers, the events, the chain, and the books."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.e2e.gateway import Gateway, Route, cost, http
from tests.simulator import Behaviour, ToolCall, faults

WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}  # fmt: skip
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def answer_to(gateway: Gateway, route: Route, given: Any, *, stream: bool = False, **parameters: Any) -> Any:
    if not stream:
        return gateway.client().responses.create(model=route.alias, input=given, **parameters)
    events = list(gateway.client().responses.create(model=route.alias, input=given, stream=True, **parameters))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        _EVENT.validate_python(event.model_dump())
    return events[-1].response


def sent_to(gateway: Gateway, route: Route) -> dict[str, Any]:
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.body is not None
    return dict(request.body)


@WIRES
@STREAMED
def test_an_answer_is_a_response_of_the_alias_and_is_on_the_books(gateway: Gateway, wire: str, stream: bool) -> None:
    route = gateway.route(wire)
    answer = answer_to(
        gateway, route, "one two three", stream=stream, instructions="Be brief.", metadata={"team": "red"}, user="u-9"
    )
    assert answer.output_text == "You said: one two three"
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", route.alias, None)
    Response.model_validate(answer.model_dump(), strict=False)
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["end_user"], entry["tags"]) == (
        "responses", "posted", "u-9", {"team": "red"},
    )  # fmt: skip
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (entry["input_tokens"], entry["output_tokens"])
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])
    assert entry["hold_usd"] >= entry["cost_usd"]
    if stream:
        assert Decimal(str(answer.usage.model_dump()["cost_usd"])) == entry["cost_usd"]


@WIRES
@STREAMED
def test_a_function_is_called_and_its_output_is_answered(gateway: Gateway, wire: str, stream: bool) -> None:
    route = gateway.route(wire)
    said: list[Any] = [{"role": "user", "content": 'call get_weather with {"city": "Paris"}'}]
    first = answer_to(gateway, route, said, stream=stream, tools=[WEATHER])
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Paris"})
    said += [
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "18"},
    ]
    second = answer_to(gateway, route, said, stream=stream, tools=[WEATHER])
    assert second.output_text == "The tool answered: 18"


@STREAMED
def test_custom_tools_and_namespaces_come_back_as_they_were_offered(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    tools: Any = [
        {"type": "custom", "name": "apply_patch", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
        {"type": "namespace", "name": "files", "description": "Files.", "tools": [WEATHER | {"name": "read"}]},
        {"type": "web_search"},
    ]  # fmt: skip
    calls = (ToolCall("apply_patch", '{"input": "*** Begin"}', "c1"), ToolCall("files__read", '{"city": "x"}', "c2"))
    gateway.sim.behave(route.providers[0], Behaviour(tool_calls=calls))
    answer = answer_to(gateway, route, "go", stream=stream, tools=tools)
    patch, read = answer.output
    assert (patch.type, patch.name, patch.input) == ("custom_tool_call", "apply_patch", "*** Begin")
    assert (read.type, read.name, read.namespace, read.arguments) == ("function_call", "read", "files", '{"city": "x"}')
    sent = sent_to(gateway, route)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["apply_patch", "files__read"]
    assert "start: /.+/" in sent["tools"][0]["function"]["description"]


def test_what_is_left_out_is_named(gateway: Gateway) -> None:
    route = gateway.route("openai")
    answer = gateway.client().responses.with_raw_response.create(
        model=route.alias, input="hello", tools=[{"type": "web_search"}]
    )
    assert answer.headers["x-gateway-dropped-params"] == "tools[0]"
    assert "tools" not in sent_to(gateway, route)


def test_a_request_as_codex_sends_it_is_a_chat(gateway: Gateway) -> None:
    route = gateway.route("openai", model="gpt-5")
    answer_to(
        gateway,
        route,
        [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files."}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city":"a"}'},
            {"type": "function_call", "call_id": "c2", "name": "get_weather", "arguments": '{"city":"b"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        ],
        stream=True,
        instructions="You are Codex.",
        tools=[WEATHER],
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning={"effort": "high", "summary": "auto"},
        store=False,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="k",
        text={"verbosity": "low"},
        extra_body={"client_metadata": {"a": "b"}},
    )
    sent = sent_to(gateway, route)
    roles = [message["role"] for message in sent["messages"]]
    assert roles in (
        ["developer", "developer", "user", "assistant", "tool", "tool"],
        ["system", "system", "user", "assistant", "tool", "tool"],
    )
    assert sent["messages"][3]["content"] == "I look."
    assert [call["id"] for call in sent["messages"][3]["tool_calls"]] == ["c1", "c2"]
    assert sent["messages"][5]["content"] == "two"
    assert (sent["reasoning_effort"], sent["verbosity"]) == ("high", "low")
    assert not sent.keys() & {"store", "include", "client_metadata", "input"}


def test_a_schema_is_parsed_by_the_official_client(gateway: Gateway) -> None:
    class City(BaseModel):
        name: str
        people: int

    route = gateway.route("openai")
    parsed = gateway.client().responses.parse(model=route.alias, input="a city", text_format=City)
    assert isinstance(parsed.output_parsed, City)


def test_thoughts_are_a_reasoning_item(gateway: Gateway) -> None:
    route = gateway.route("openai")
    for stream in (False, True):
        gateway.sim.behave(route.providers[0], Behaviour(reasoning="I think.", text="Done."))
        answer = answer_to(gateway, route, "go", stream=stream)
        assert [item.type for item in answer.output] == ["reasoning", "message"]
        assert answer.output[0].summary[0].text == "I think."


@STREAMED
def test_an_answer_that_was_cut_is_incomplete(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], Behaviour(length=50))
    answer = answer_to(gateway, route, "go", stream=stream, max_output_tokens=16)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].status == "incomplete"


@pytest.mark.parametrize("second", ["anthropic", "gemini"])
def test_a_broken_stream_is_continued_inside_the_same_item(gateway: Gateway, second: str) -> None:
    route = gateway.route("openai", second)
    gateway.sim.behave(route.providers[0], Behaviour(text="one two three four five six", cut_after=3))
    gateway.sim.behave(route.providers[1], Behaviour(text=" four five six"))
    answer = answer_to(gateway, route, "go", stream=True)
    assert answer.output_text == "one two three four five six"
    assert len(answer.output) == 1
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["interrupted", "answered"]


def test_a_break_that_nobody_continues_is_a_failed_response(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(3))
    answer = answer_to(gateway, route, "go", stream=True)
    assert (answer.status, answer.error.code) == ("failed", "server_error")
    assert "stream_interrupted" in answer.error.message
    assert gateway.entry(route.alias)["error_code"] == "stream_interrupted"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"type": "function_call_output", "output": "a"}]}, "input[0].call_id"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "a", "conversation": "c"}, "conversation"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "tools": [5]}, "tools[0]"),
        ({"input": "a", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "a", "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = gateway.route("openai")
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/responses")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_stored_responses_are_not_there_and_the_client_is_told(gateway: Gateway) -> None:
    answer = http.get(f"{gateway.url}/v1/responses/resp_1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "stored" in answer.json()["error"]["message"]


def test_a_hard_budget_holds(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.budget(route, "0.0000001")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        answer_to(gateway, route, "hello")
    assert refused.value.code == "request_exceeds_budget"


def test_input_tokens_are_counted_without_spending(gateway: Gateway) -> None:
    route = gateway.route("openai")
    with gateway.nothing_written():
        counted = gateway.client().responses.input_tokens.count(model=route.alias, input="hello " * 100)
    assert 100 <= counted.input_tokens <= 200
