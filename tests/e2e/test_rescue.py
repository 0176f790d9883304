"""Streams that break after content was relayed: the next step goes on, and the caller has one whole answer."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
import pytest

from routing.endpoints.chat.continuing import INSTRUCTION
from routing.models import ModelAlias
from tests.e2e.gateway import Gateway, Route, asks, cost, text_of
from tests.simulator import Behaviour, ToolCall, Usage, faults

WORDS = ("One", " two", " three", " four", " five", " six", " seven", " eight", " nine", " ten")
WHOLE = "".join(WORDS)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def chunks(gateway: Gateway, route: Route, **parameters: Any) -> list[Any]:
    stream = gateway.client().chat.completions.create(model=route.alias, stream=True, **asks(**parameters))
    return list(stream)


def asked_of(gateway: Gateway, provider: str) -> dict[str, Any]:
    """The body of the one request that the provider received."""
    (request,) = gateway.sim.requests_to(provider)
    assert request.body is not None
    return dict(request.body)


def assert_one_answer(received: list[Any], alias: str) -> None:
    """The answer looks like one stream: one id, one model, one role, one finish reason."""
    assert len({chunk.id for chunk in received}) == 1
    assert {chunk.model for chunk in received} == {alias}
    deltas = [choice.delta for chunk in received for choice in chunk.choices]
    assert [delta.role for delta in deltas if delta.role] == ["assistant"]
    assert len([choice for chunk in received for choice in chunk.choices if choice.finish_reason]) == 1


def assert_both_on_the_books(gateway: Gateway, route: Route, outcome: str) -> None:
    entry, attempts = gateway.entry(route.alias), gateway.attempts(route.alias)
    assert [(a["provider"], a["outcome"]) for a in attempts] == [
        (route.providers[0], outcome), (route.providers[1], "answered"),
    ]  # fmt: skip
    assert (entry["state"], entry["error_code"], entry["fallback"]) == ("posted", None, True)
    assert (entry["served_alias"], entry["attempts"]) == (route.aliases[1], 2)
    assert all(a["input_tokens"] > 0 and a["output_tokens"] > 0 for a in attempts)
    assert entry["cost_usd"] == sum(a["cost_usd"] for a in attempts)
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])


@pytest.mark.parametrize("first", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("second", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "begins anew"])
def test_a_cut_stream_is_one_whole_answer(gateway: Gateway, first: str, second: str, goes_on: bool) -> None:
    route = gateway.route(first, second)
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], Behaviour(tokens=WORDS[4:] if goes_on else WORDS))
    received = chunks(gateway, route)
    assert text_of(received) == WHOLE
    assert_one_answer(received, route.alias)
    assert len(gateway.sim.requests_to(route.providers[0])) == 1, "a broken stream is not asked for twice"
    assert len(gateway.sim.requests_to(route.providers[1])) == 1
    assert_both_on_the_books(gateway, route, "interrupted")


@pytest.mark.parametrize("fault", [faults.cut_after(4, "reset"), faults.error_after(4), faults.stall_after(4)])
def test_a_stream_that_is_reset_fails_or_stalls_is_continued_too(gateway: Gateway, fault: Behaviour) -> None:
    route = gateway.route("openai", "anthropic", idle_timeout_s=0.5)
    gateway.sim.behave(route.providers[0], fault.but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], Behaviour(tokens=WORDS[4:]))
    received = chunks(gateway, route)
    assert text_of(received) == WHOLE
    assert_one_answer(received, route.alias)


def test_the_bytes_end_with_done_and_without_an_error(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], Behaviour(tokens=WORDS[4:]))
    answer = gateway.post(json.dumps({"model": route.alias, "stream": True, **asks()}).encode())
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"error"' not in answer.text


def test_a_model_without_prefill_is_instructed(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], Behaviour(tokens=WORDS[4:]))
    chunks(gateway, route, max_tokens=100)
    asked = asked_of(gateway, route.providers[1])
    assert asked["messages"] == [
        {"role": "user", "content": "Say hello"},
        {"role": "assistant", "content": "One two three four"},
        {"role": "user", "content": INSTRUCTION},
    ]
    attempts = gateway.attempts(route.alias)
    assert asked["max_tokens"] == 100 - attempts[0]["output_tokens"], "what was said counts against the cap"


def test_a_model_with_prefill_goes_on_from_it(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", model="claude-sonnet-4-5")
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], Behaviour(text=WHOLE))  # the simulator goes on from a prefill by itself
    assert text_of(chunks(gateway, route)) == WHOLE
    asked = asked_of(gateway, route.providers[1])
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant"]


def test_a_refused_prefill_masks_nothing_and_is_learned(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", model="claude-sonnet-4-5")
    refusing = faults.refuses_prefill().but(tokens=WORDS[4:])
    asked = []
    for _ in range(6):  # two workers, each of which learns for itself
        gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
        gateway.sim.behave(route.providers[1], refusing, refusing)
        before = len(gateway.sim.requests_to(route.providers[1]))
        assert text_of(chunks(gateway, route)) == WHOLE
        asked.append(len(gateway.sim.requests_to(route.providers[1])) - before)
    assert asked.count(2) <= 2
    assert asked[-1] == 1
    outcomes = [a["outcome"] for a in gateway.attempts(route.alias)]
    assert outcomes.count("capability") == asked.count(2) >= 1
    assert {entry["error_code"] for entry in gateway.entries(route.alias)} == {None}


def test_a_tool_call_cut_in_half_is_begun_anew(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic")
    lost = ToolCall("get_weather", '{"city": "Reykjavik and its surroundings"}')
    gateway.sim.behave(route.providers[0], faults.cut_after(2).but(tool_calls=(lost,)))
    gateway.sim.behave(route.providers[1], Behaviour(tool_calls=(ToolCall("get_weather", '{"city": "Oslo"}'),)))
    received = chunks(gateway, route, tools=TOOLS)
    calls = [call for chunk in received for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert "".join(call.function.arguments or "" for call in calls) == '{"city": "Oslo"}'
    assert [call.function.name for call in calls if call.function.name] == ["get_weather"]
    assert_one_answer(received, route.alias)
    asked = asked_of(gateway, route.providers[1])
    assert [message["role"] for message in asked["messages"]] == ["user"], "restarted, not continued"


def test_usage_is_of_both_attempts(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], Behaviour(tokens=WORDS[4:], usage=Usage(input_tokens=77, output_tokens=6)))
    received = chunks(gateway, route, stream_options={"include_usage": True})
    (usage,) = [chunk.usage for chunk in received if chunk.usage]
    entry, attempts = gateway.entry(route.alias), gateway.attempts(route.alias)
    assert (attempts[1]["input_tokens"], attempts[1]["output_tokens"]) == (77, 6)
    assert (usage.prompt_tokens, usage.completion_tokens) == (entry["input_tokens"], entry["output_tokens"])
    assert usage.total_tokens == entry["input_tokens"] + entry["output_tokens"]
    assert entry["input_tokens"] == attempts[0]["input_tokens"] + 77
    assert entry["usage_source"] == "estimated", "nobody counted the first one's"


def test_the_stream_that_goes_on_may_break_too(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", "gemini")
    gateway.sim.behave(route.providers[0], faults.cut_after(3).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], faults.cut_after(3).but(tokens=WORDS[3:]))
    gateway.sim.behave(route.providers[2], Behaviour(tokens=WORDS[6:]))
    received = chunks(gateway, route)
    assert text_of(received) == WHOLE
    assert_one_answer(received, route.alias)
    assert gateway.entry(route.alias)["attempts"] == 3


def test_when_no_step_can_go_on_the_caller_hears_of_the_interruption(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", retries=0)
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], faults.request_too_large())
    with pytest.raises(openai.APIError, match="incomplete") as raised:
        chunks(gateway, route)
    assert raised.value.code == "stream_interrupted"
    entry, attempts = gateway.entry(route.alias), gateway.attempts(route.alias)
    assert [a["outcome"] for a in attempts] == ["interrupted", "bad_request"]
    assert (entry["state"], entry["error_code"], entry["provider"]) == (
        "posted", "stream_interrupted", route.providers[0],
    )  # fmt: skip
    assert entry["cost_usd"] == attempts[0]["cost_usd"] > 0


@pytest.mark.parametrize("parameters", [{}, {"n": 2}], ids=["switched off", "two answers"])
def test_a_stream_is_not_rescued_when_switched_off_or_with_two_choices(
    gateway: Gateway, parameters: dict[str, Any]
) -> None:
    route = gateway.route("openai", "anthropic")
    if not parameters:
        with gateway.orm():
            ModelAlias.objects.filter(name=route.alias).update(rescues_streams=False)
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    with pytest.raises(openai.APIError) as raised:
        chunks(gateway, route, **parameters)
    assert raised.value.code == "stream_interrupted"
    assert gateway.sim.requests_to(route.providers[1]) == []


def test_a_budget_without_room_for_the_rest_ends_the_stream(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", cap=100)
    limit_usd = cost(1400, 100)  # for the request (its input at the dearest rate), but not for the rest as well
    gateway.budget(route, str(limit_usd), scope="user", scope_value=route.alias)  # it counts both steps
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    with pytest.raises(openai.APIError) as raised:
        chunks(gateway, route, messages=[{"role": "user", "content": "x" * 380}], user=route.alias)
    assert raised.value.code == "stream_interrupted"
    assert gateway.sim.requests_to(route.providers[1]) == []
    entry = gateway.entry(route.alias)
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["interrupted", "no_room"]
    assert 0 < entry["cost_usd"] <= limit_usd


def test_a_client_that_leaves_during_the_rescue_ends_it(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(4).but(tokens=WORDS))
    gateway.sim.behave(route.providers[1], faults.slow_first_token(2).but(tokens=WORDS[4:]))
    body = json.dumps({"model": route.alias, "stream": True, **asks()}).encode()
    connection = gateway.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer any\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    while b" four" not in connection.recv(65536):
        pass
    time.sleep(0.2)
    connection.close()
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["error_code"], entry["attempts"]) == ("posted", "client_closed", 2)
