"""Anthropic's Messages as its official client asks for them: natively, by way of chat, and when a provider fails."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message

from tests.e2e.gateway import Gateway, Route, cost
from tests.simulator import Behaviour, ToolCall, faults

WIRES = pytest.mark.parametrize("wire", ["anthropic", "openai", "gemini"])
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client(gateway: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key="dummy", max_retries=0)


def asks(text: str = "Say hello", **parameters: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 200, **parameters}


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def sent_to(gateway: Gateway, route: Route, place: int = 0) -> dict[str, Any]:
    (request,) = gateway.sim.requests_to(route.providers[place])
    assert request.body is not None
    return dict(request.body)


@WIRES
def test_a_whole_answer_is_a_message_of_the_alias_and_is_on_the_books(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = client(gateway).messages.create(
        model=route.alias, system="Be brief.", metadata={"user_id": "u-7"}, **asks("one two three")
    )
    assert text_of(answer) == "You said: one two three"
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == (
        "message", "assistant", route.alias, "end_turn",
    )  # fmt: skip
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["end_user"]) == ("messages", "posted", "u-7")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (entry["input_tokens"], entry["output_tokens"])
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])
    assert entry["hold_usd"] >= entry["cost_usd"]


@WIRES
def test_a_stream_has_the_same_words_and_ends_with_its_count_and_its_cost(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    with client(gateway).messages.stream(model=route.alias, **asks("one two three")) as stream:
        events = list(stream)
        answer = stream.get_final_message()
    assert text_of(answer) == "You said: one two three"
    assert (answer.model, answer.stop_reason) == (route.alias, "end_turn")
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    entry = gateway.entry(route.alias)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (entry["input_tokens"], entry["output_tokens"])
    (end,) = [event for event in events if event.type == "message_delta"]
    assert Decimal(str(end.usage.model_dump()["cost_usd"])) == entry["cost_usd"]


@WIRES
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_tool_is_called_and_its_result_is_answered(gateway: Gateway, wire: str, stream: bool) -> None:
    route = gateway.route(wire)
    asked: Any = asks('call get_weather with {"city": "Paris"}', tools=[WEATHER])
    first = _answer(gateway, route, stream, asked)
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    asked["messages"] += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "18 degrees"}]},
    ]
    second = _answer(gateway, route, stream, asked)
    assert text_of(second) == "The tool answered: 18 degrees"


def _answer(gateway: Gateway, route: Route, stream: bool, asked: dict[str, Any]) -> Any:
    if not stream:
        return client(gateway).messages.create(model=route.alias, **asked)
    with client(gateway).messages.stream(model=route.alias, **asked) as events:
        return events.get_final_message()


def test_anthropic_gets_the_body_and_the_beta_headers_as_they_came(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    system = [{"type": "text", "text": "You are careful.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    asked: Any = asks(
        system=system,
        tools=[WEATHER, {"type": "bash_20250124", "name": "bash"}],
        thinking={"type": "adaptive"},
        output_config={"effort": "high"},
        metadata={"user_id": '{"device_id": "d"}', "team": "red"},
    )
    client(gateway).messages.create(
        model=route.alias, extra_headers={"anthropic-beta": "claude-code-20250219,effort-2025-11-24"}, **asked
    )
    sent = sent_to(gateway, route)
    assert sent == {
        **asked, "model": "claude-sonnet-4-6", "metadata": {"user_id": '{"device_id": "d"}'},
    }  # fmt: skip
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.headers["anthropic-beta"] == "claude-code-20250219,effort-2025-11-24"
    assert request.headers["anthropic-version"] == "2023-06-01"
    entry = gateway.entry(route.alias)
    assert entry["tags"] == {"team": "red"}
    assert entry["cost_usd"] == cost(
        entry["input_tokens"], entry["output_tokens"], cache_write_1h=entry["cache_write_tokens"]
    )


def test_thoughts_keep_their_signature_and_those_of_others_are_not_handed_to_anthropic(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    asked: Any = asks(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=4096)
    first = client(gateway).messages.create(model=route.alias, **asked)
    assert first.content[0].type == "thinking"
    assert first.content[0].signature
    foreign = {"type": "thinking", "thinking": "of another model", "signature": ""}
    asked["messages"] += [
        {"role": "assistant", "content": [foreign, *(block.model_dump(exclude_none=True) for block in first.content)]},
        {"role": "user", "content": "Go on"},
    ]
    client(gateway).messages.create(model=route.alias, **asked)
    sent = gateway.sim.requests_to(route.providers[0])[1].body
    assert sent is not None
    assert sent["messages"][1]["content"][0] == first.content[0].model_dump(exclude_none=True)


def test_other_providers_get_what_they_understand(gateway: Gateway) -> None:
    route = gateway.route("openai")
    picture = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    asked: Any = {
        "max_tokens": 100,
        "system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
        "tools": [WEATHER, {"type": "web_search_20250305", "name": "web_search"}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "thinking": {"type": "adaptive"},
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": picture}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                                              {"type": "text", "text": "A dot."}]},
            {"role": "user", "content": "Go on"},
        ],
    }  # fmt: skip
    client(gateway).messages.create(model=route.alias, **asked)
    sent = sent_to(gateway, route)
    assert sent["messages"] == [
        {"role": "system", "content": "One.\n\nTwo."},
        {"role": "user", "content": [{"type": "image_url",
                                      "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
        {"role": "assistant", "content": "A dot."},
        {"role": "user", "content": "Go on"},
    ]  # fmt: skip
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["get_weather"]
    assert (sent["parallel_tool_calls"], sent["stop"], sent["max_tokens"]) == (False, ["END"], 100)


@pytest.mark.parametrize("second", ["openai", "gemini", "anthropic"])
def test_a_broken_stream_is_continued_inside_the_same_message(gateway: Gateway, second: str) -> None:
    route = gateway.route("anthropic", second)
    gateway.sim.behave(route.providers[0], Behaviour(text="one two three four five six", cut_after=3))
    gateway.sim.behave(route.providers[1], Behaviour(text=" four five six"))
    with client(gateway).messages.stream(model=route.alias, **asks()) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_message()
    assert text_of(answer) == "one two three four five six"
    assert [block.type for block in answer.content] == ["text"]
    assert kinds.count("message_start") == kinds.count("message_stop") == 1
    gateway.wait_settled(route.alias)
    outcomes = [attempt["outcome"] for attempt in gateway.attempts(route.alias)]
    assert outcomes == ["interrupted", "answered"]


def test_a_break_that_nobody_continues_is_the_dialects_error_event(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    gateway.sim.behave(route.providers[0], faults.cut_after(3))
    with (
        client(gateway).messages.stream(model=route.alias, **asks()) as stream,
        pytest.raises(anthropic.APIStatusError, match="broke off"),
    ):
        stream.get_final_message()
    assert gateway.entry(route.alias)["error_code"] == "stream_interrupted"


def test_the_first_failure_of_a_stream_is_invisible(gateway: Gateway) -> None:
    route = gateway.route("anthropic", "openai")
    gateway.sim.behave(route.providers[0], forever=faults.overloaded())
    with client(gateway).messages.stream(model=route.alias, **asks("hello")) as stream:
        assert text_of(stream.get_final_message()) == "You said: hello"
    assert gateway.entry(route.alias)["fallback"] is True


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "a"}], "max_tokens": None}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "a"}], "tools": [5]}, "tools.0"),
        ({"messages": [{"role": "user", "content": "a"}], "system": 5}, "system"),
        ({"messages": [{"role": "user", "content": "a"}], "mcp_servers": [{}]}, "mcp_servers"),  # nobody bounds it
        ({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "code_execution_20250522"}]}, "tools[0]"),
    ],
)
def test_what_is_wrong_is_said_in_anthropics_envelope(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = gateway.route("anthropic")
    with gateway.nothing_written():
        answer = gateway.post(
            json.dumps({"model": route.alias, "max_tokens": 100, **body}).encode(), path="/v1/messages"
        )
    assert answer.status_code == 400
    said = answer.json()
    assert (said["type"], said["error"]["type"], said["error"]["param"]) == ("error", "invalid_request_error", param)
    assert said["request_id"] == answer.headers["x-request-id"]


def test_refusals_have_the_statuses_that_the_official_client_knows(gateway: Gateway) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        client(gateway).messages.create(model="nobody", **asks())
    route = gateway.route("anthropic")
    gateway.budget(route, "0.0000001")
    with gateway.nothing_written(), pytest.raises(anthropic.RateLimitError) as refused:
        client(gateway).messages.create(model=route.alias, **asks())
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["error"]["code"] == "request_exceeds_budget"


def test_anthropics_own_refusal_keeps_its_words(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    asked: Any = {"max_tokens": 10, "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]}
    with pytest.raises(anthropic.BadRequestError, match='Unexpected role "system"'):
        client(gateway).messages.create(model=route.alias, **asked)


def test_searches_are_capped_and_held(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    tool: Any = {"type": "web_search_20250305", "name": "web_search"}
    with gateway.nothing_written(), pytest.raises(anthropic.BadRequestError, match="search"):
        client(gateway).messages.create(model=route.alias, **asks(tools=[tool]))  # without a price of a search
    with gateway.no_hard_budget():
        client(gateway).messages.create(model=route.alias, **asks(tools=[tool]))
    assert sent_to(gateway, route)["tools"] == [{**tool, "max_uses": 5}]


def test_tokens_are_counted_without_spending(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    with gateway.nothing_written():
        counted = client(gateway).messages.count_tokens(
            model=route.alias, messages=[{"role": "user", "content": "hello " * 100}], tools=[WEATHER]
        )
    assert 100 <= counted.input_tokens <= 400


def test_half_a_tool_call_is_begun_anew(gateway: Gateway) -> None:
    route = gateway.route("anthropic", "openai")
    call = ToolCall("get_weather", '{"city": "a city with a very long name, to be cut"}')
    gateway.sim.behave(route.providers[0], Behaviour(text="Well. ", tool_calls=(call,), cut_after=1, cut="reset"))
    with client(gateway).messages.stream(model=route.alias, **asks("call get_weather", tools=[WEATHER])) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason in ("tool_use", "end_turn")
    assert gateway.entry(route.alias)["fallback"] is True


def test_an_answer_of_httpx_has_the_gateways_headers(gateway: Gateway) -> None:
    route = gateway.route("openai")
    answer = httpx.post(
        f"{gateway.url}/v1/messages", json={"model": route.alias, **asks()}, headers={"x-api-key": "dummy"}
    )
    assert answer.headers["x-gateway-provider"] == route.providers[0]
    assert Decimal(answer.headers["x-gateway-cost-usd"]) == gateway.entry(route.alias)["cost_usd"]


def test_the_official_client_lists_the_aliases_as_its_own_models(gateway: Gateway) -> None:
    route = gateway.route("openai")
    listed = [model.id for model in client(gateway).models.list(limit=1000)]
    assert route.alias in listed
    found = client(gateway).models.retrieve(route.alias)
    assert (found.id, found.display_name, found.type) == (route.alias, route.alias, "model")


def test_somebody_is_there(gateway: Gateway) -> None:
    assert httpx.head(gateway.url).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_another_provider_is_not_told_is_named(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    body = asks(stream=stream, tools=[WEATHER, {"type": "bash_20250124", "name": "bash"}], container="c")
    answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/messages")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-dropped-params"] == "container, tools[1]"
