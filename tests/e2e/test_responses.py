"""OpenAI's Responses as its official client asks for them: in their own words and by way of chat, and the books."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from routing.models import Provider
from tests.e2e.gateway import Gateway, Route, cost, http, price
from tests.e2e.responses_format import assert_are_events, assert_is_a_response
from tests.simulator import Behaviour, ToolCall, faults

#: `openai` speaks Responses itself; `chat` is a server of OpenAI's older format alone.
WIRES = pytest.mark.parametrize("wire", ["openai", "chat", "anthropic", "gemini"])
SPOKEN = pytest.mark.parametrize("wire", ["openai", "chat"])
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
SEARCH: Any = {"type": "web_search"}
ENCRYPTED: Any = ["reasoning.encrypted_content"]


def route_of(gateway: Gateway, wire: str, **options: Any) -> Route:
    if wire == "chat":
        return gateway.route("openai", **{"model": "a-small-model", **options})
    return gateway.route(wire, **options)


def answer_to(
    gateway: Gateway, route: Route, given: Any, *, stream: bool = False, key: str = "dummy", **parameters: Any
) -> Any:
    """The answer, which is valid by OpenAI's document and by the types of its client."""
    client = gateway.client(api_key=key)
    parameters = {**({} if given is None else {"input": given}), **parameters}
    if not stream:
        whole = client.responses.with_raw_response.create(model=route.alias, **parameters)
        assert_is_a_response(json.loads(whole.text))
        return whole.parse()
    with client.responses.with_streaming_response.create(model=route.alias, stream=True, **parameters) as streamed:
        lines = [line for line in streamed.iter_lines() if line]
    return Response.model_validate(assert_are_events(lines)[-1]["response"])


def sent_to(gateway: Gateway, route: Route, place: int = -1, provider: int = 0) -> dict[str, Any]:
    body = gateway.sim.requests_to(route.providers[provider])[place].body
    assert body is not None
    return dict(body)


@WIRES
@STREAMED
def test_an_answer_is_a_response_of_the_alias_and_is_on_the_books(gateway: Gateway, wire: str, stream: bool) -> None:
    route = route_of(gateway, wire)
    answer = answer_to(
        gateway, route, "one two three", stream=stream, instructions="Be brief.", metadata={"team": "red"}, user="u-9"
    )
    assert answer.output_text == "You said: one two three"
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", route.alias, None)
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
    route = route_of(gateway, wire)
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


@SPOKEN
@STREAMED
def test_custom_tools_and_namespaces_come_back_as_they_were_offered(gateway: Gateway, wire: str, stream: bool) -> None:
    route = route_of(gateway, wire)
    tools: Any = [
        {"type": "custom", "name": "apply_patch", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
        {"type": "namespace", "name": "files", "description": "Files.", "tools": [WEATHER | {"name": "read"}]},
    ]  # fmt: skip
    calls = (ToolCall("apply_patch", '{"input": "*** Begin"}', "c1"), ToolCall("files__read", '{"city": "x"}', "c2"))
    gateway.sim.behave(route.providers[0], Behaviour(tool_calls=calls))
    answer = answer_to(gateway, route, "go", stream=stream, tools=tools)
    patch, read = answer.output
    assert (patch.type, patch.name, patch.input) == ("custom_tool_call", "apply_patch", "*** Begin")
    assert (read.type, read.name, read.namespace, read.arguments) == ("function_call", "read", "files", '{"city": "x"}')
    sent = sent_to(gateway, route)
    if wire == "openai":
        assert sent["tools"] == tools
    else:
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["apply_patch", "files__read"]
        assert "start: /.+/" in sent["tools"][0]["function"]["description"]


def test_a_provider_of_this_dialect_gets_the_body_as_it_came(gateway: Gateway) -> None:
    route = gateway.route("openai", model="gpt-5", cap=None)
    asked: Any = {
        "input": [
            {"role": "developer", "content": "Rules."},
            {"role": "user", "content": [{"type": "input_text", "text": "Look."},
                                         {"type": "input_image", "image_url": "https://x.org/a.png"}]},
        ],
        "instructions": "Be brief.", "tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False,
        "reasoning": {"effort": "high", "summary": "auto"}, "include": ENCRYPTED, "store": False,
        "text": {"verbosity": "low", "format": {"type": "text"}}, "truncation": "auto", "max_tool_calls": 3,
        "prompt_cache_key": "k", "safety_identifier": "u", "service_tier": "flex", "metadata": {"team": "red"},
        "max_output_tokens": 500, "client_metadata": {"a": "b"},
    }  # fmt: skip
    answer = gateway.post(json.dumps({"model": route.alias, **asked}).encode(), path="/v1/responses")
    assert answer.status_code == 200
    assert "x-gateway-dropped-params" not in answer.headers
    (request,) = gateway.sim.requests_to(route.providers[0])
    assert request.path.endswith("/openai/v1/responses")
    assert request.body == {**asked, "model": "gpt-5"}
    assert gateway.entry(route.alias)["tier"] == "standard"  # as the provider says


def test_what_a_chat_has_no_word_for_is_left_out_and_named(gateway: Gateway) -> None:
    route = route_of(gateway, "chat")
    answer = gateway.client().responses.with_raw_response.create(
        model=route.alias,
        input=[
            {"role": "user", "content": "a"},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "hello"},
        ],
        tools=[SEARCH],
        include=ENCRYPTED,
        max_tool_calls=2,
        store=True,
        truncation="auto",
    )
    assert (
        answer.headers["x-gateway-dropped-params"] == "tools[0], include, max_tool_calls, store, truncation, input[1]"
    )
    sent = sent_to(gateway, route)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert not sent.keys() & {"tools", "store", "include", "input", "max_tool_calls"}


CODEX: Any = {
    "instructions": "You are Codex.",
    "tools": [
        WEATHER,
        {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": {"type": "text"}},
        {"type": "namespace", "name": "mcp", "description": "More.", "tools": [WEATHER | {"name": "look"}]},
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "high", "summary": "auto"},
    "store": False,
    "include": ENCRYPTED,
    "prompt_cache_key": "k",
    "text": {"verbosity": "low"},
    "extra_body": {"client_metadata": {"a": "b"}},
}


@SPOKEN
def test_a_session_as_codex_has_it(gateway: Gateway, wire: str) -> None:
    """Streams alone, nothing stored: each turn sends all before, reasoning without its id included."""
    route = route_of(gateway, wire, priced=wire == "chat", **({"model": "gpt-5"} if wire == "openai" else {}))
    if wire == "openai":
        with gateway.orm():
            price(route.providers[0], "gpt-5", search="0.01")
    said: list[Any] = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"type": "message", "role": "user",
         "content": [{"type": "input_text", "text": 'call get_weather with {"city": "Paris"}'}]},
    ]  # fmt: skip
    first = answer_to(gateway, route, said, stream=True, **CODEX)
    said += [{n: v for n, v in item.model_dump(exclude_none=True).items() if n != "id"} for item in first.output]
    calls = [item for item in first.output if item.type == "function_call"]
    said += [{"type": "function_call_output", "call_id": call.call_id, "output": "18"} for call in calls]
    second = answer_to(gateway, route, said, stream=True, **CODEX)
    assert second.output_text == "The tool answered: 18"
    sent = sent_to(gateway, route)
    if wire == "openai":
        assert [item["type"] for item in sent["input"]] == [
            "message", "message", "reasoning", "function_call", "function_call_output",
        ]  # fmt: skip
        assert sent["input"][2]["encrypted_content"]
        assert sent["client_metadata"] == {"a": "b"}
    else:
        assert [message["role"] for message in sent["messages"]][-2:] == ["assistant", "tool"]
        assert (sent["reasoning_effort"], sent["verbosity"]) == ("high", "low")
        assert not sent.keys() & {"store", "include", "client_metadata", "input"}
    assert [entry["state"] for entry in gateway.entries(route.alias)] == ["posted", "posted"]


def test_a_session_survives_another_provider_and_comes_back(gateway: Gateway) -> None:
    """The thoughts of the others are not handed to OpenAI, which would refuse them; nor do their ids disturb it."""
    route = gateway.route("openai", "anthropic", model="gpt-5")
    gateway.sim.behave(route.providers[0], faults.server_error(), faults.server_error())
    gateway.sim.behave(route.providers[1], Behaviour(reasoning="I think.", text="Done."))
    said: list[Any] = [{"role": "user", "content": "go"}]
    first = answer_to(gateway, route, said, store=False, include=ENCRYPTED)
    assert [item.type for item in first.output] == ["reasoning", "message"]
    said += [item.model_dump(exclude_none=True) for item in first.output] + [{"role": "user", "content": "on"}]
    second = answer_to(gateway, route, said, store=False, include=ENCRYPTED)
    assert second.output_text == "You said: on"
    assert [item.get("role") for item in sent_to(gateway, route)["input"]] == ["user", "assistant", "user"]
    assert "id" not in sent_to(gateway, route)["input"][1]


def test_reasoning_of_another_account_is_left_out_after_its_refusal(gateway: Gateway) -> None:
    first, second = gateway.route("openai", model="gpt-5"), gateway.route("openai", model="gpt-5")
    said: list[Any] = [{"role": "user", "content": "go"}]
    thought = answer_to(gateway, first, said, store=False, include=ENCRYPTED, reasoning={"effort": "high"})
    assert thought.output[0].encrypted_content
    said += [item.model_dump(exclude_none=True) for item in thought.output] + [{"role": "user", "content": "on"}]
    answer = gateway.client().responses.with_raw_response.create(
        model=second.alias, input=said, store=False, include=ENCRYPTED
    )
    assert answer.headers["x-gateway-dropped-params"] == "input[1]"
    assert answer.parse().output_text == "You said: on"
    assert len(gateway.attempts(second.alias)) == 1


@SPOKEN
def test_a_schema_is_parsed_by_the_official_client(gateway: Gateway, wire: str) -> None:
    class City(BaseModel):
        name: str
        people: int

    route = route_of(gateway, wire)
    parsed = gateway.client().responses.parse(model=route.alias, input="a city", text_format=City)
    assert isinstance(parsed.output_parsed, City)


@SPOKEN
def test_the_stream_helper_of_the_official_client_understands_it(gateway: Gateway, wire: str) -> None:
    route = route_of(gateway, wire)
    asked = 'call get_weather with {"city": "Oslo"}'
    with gateway.client().responses.stream(model=route.alias, input=asked, tools=[WEATHER]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.function_call_arguments.done" in kinds
    assert final.output[0].type == "function_call"
    assert json.loads(final.output[0].arguments) == {"city": "Oslo"}


@SPOKEN
@STREAMED
def test_thoughts_are_a_reasoning_item(gateway: Gateway, wire: str, stream: bool) -> None:
    route = route_of(gateway, wire)
    gateway.sim.behave(route.providers[0], Behaviour(reasoning="I think.", text="Done."))
    answer = answer_to(gateway, route, "go", stream=stream)
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    assert answer.output[0].summary[0].text == "I think."


@SPOKEN
@STREAMED
def test_an_answer_that_was_cut_is_incomplete(gateway: Gateway, wire: str, stream: bool) -> None:
    route = route_of(gateway, wire)
    gateway.sim.behave(route.providers[0], Behaviour(length=50))
    answer = answer_to(gateway, route, "go", stream=stream, max_output_tokens=16)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[0].status == "incomplete"


@SPOKEN
@STREAMED
def test_a_refusal_is_a_refusal(gateway: Gateway, wire: str, stream: bool) -> None:
    route = route_of(gateway, wire)
    gateway.sim.behave(route.providers[0], faults.stopped_by_filter(4))
    answer = answer_to(gateway, route, "go", stream=stream)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "content_filter")


@STREAMED
def test_an_answer_without_a_count_is_estimated(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.without_usage())
    answer = answer_to(gateway, route, "hello there", stream=stream)
    entry = gateway.entry(route.alias)
    assert entry["usage_source"] == "estimated"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (entry["input_tokens"], entry["output_tokens"])


# --- when a provider fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["anthropic", "gemini", "openai"])
@pytest.mark.parametrize("first", ["openai", "gemini"])
def test_a_broken_stream_is_continued_inside_the_same_item(gateway: Gateway, first: str, second: str) -> None:
    route = gateway.route(first, second)
    gateway.sim.behave(route.providers[0], Behaviour(text="one two three four five six", cut_after=3))
    gateway.sim.behave(route.providers[1], Behaviour(text=" four five six"))
    answer = answer_to(gateway, route, "go", stream=True)
    assert answer.output_text == "one two three four five six"
    assert len(answer.output) == 1
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["interrupted", "answered"]
    if second == "openai":
        sent = sent_to(gateway, route, provider=1)
        assert [item["role"] for item in sent["input"]] == ["user", "assistant", "user"]
        assert sent["input"][1]["content"] == "one two three"


@pytest.mark.parametrize("second", ["anthropic", "openai"])
def test_half_a_tool_call_is_begun_anew(gateway: Gateway, second: str) -> None:
    route = gateway.route("openai", second)
    call = ToolCall("get_weather", '{"city": "a city with a very long name, to be cut"}')
    gateway.sim.behave(route.providers[0], Behaviour(text="Well. ", tool_calls=(call,), cut_after=3, cut="reset"))
    gateway.sim.behave(route.providers[1], Behaviour(text="", tool_calls=(ToolCall("get_weather", '{"city": "x"}'),)))
    answer = answer_to(gateway, route, "go", stream=True, tools=[WEATHER])
    assert [item.type for item in answer.output] == ["message", "function_call"]
    assert json.loads(answer.output[1].arguments) == {"city": "x"}


def test_a_break_while_it_thinks_begins_the_answer_anew(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], Behaviour(reasoning="I think of it", text="Never said.", cut_after=2))
    gateway.sim.behave(route.providers[1], Behaviour(text="Said."))
    answer = answer_to(gateway, route, "go", stream=True)
    assert answer.output_text == "Said."
    assert [item.type for item in answer.output] == ["reasoning", "message"]


@SPOKEN
def test_a_break_that_nobody_continues_is_a_failed_response(gateway: Gateway, wire: str) -> None:
    route = route_of(gateway, wire)
    gateway.sim.behave(route.providers[0], faults.cut_after(3))
    answer = answer_to(gateway, route, "go", stream=True)
    assert (answer.status, answer.error.code) == ("failed", "server_error")
    assert "stream_interrupted" in answer.error.message
    assert gateway.entry(route.alias)["error_code"] == "stream_interrupted"


@STREAMED
def test_an_error_before_the_first_word_is_invisible(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], forever=faults.error_after(0, "server_error"))
    assert answer_to(gateway, route, "hello", stream=stream).output_text == "You said: hello"
    assert gateway.entry(route.alias)["fallback"] is True


@STREAMED
def test_an_empty_answer_is_not_one_but_silence_after_a_tool_is(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], faults.empty_answer(), faults.empty_answer())
    assert answer_to(gateway, route, "hello", stream=stream).output_text == "You said: hello"
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["empty", "answered"]
    said: Any = [
        {"role": "user", "content": "go"},
        {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "18"},
    ]
    assert answer_to(gateway, route, said, stream=stream, tools=[WEATHER]).output == []


@STREAMED
def test_a_server_without_this_path_is_asked_by_chat_from_then_on(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai", base_url=f"{gateway.sim.url}/p/chatonly-{stream}/openai/v1")
    for _ in range(2):
        assert answer_to(gateway, route, "hello", stream=stream).output_text == "You said: hello"
    paths = [request.path.rpartition("/v1/")[2] for request in gateway.sim.requests_to(f"chatonly-{stream}")]
    assert paths.count("chat/completions") == 2
    assert paths[0] == "responses"
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["answered", "answered"]


def test_the_providers_own_refusal_keeps_its_words(gateway: Gateway) -> None:
    route = gateway.route("openai")
    said: Any = [{"type": "function_call_output", "call_id": "c1", "output": "a"}]
    with pytest.raises(openai.BadRequestError, match="No tool call found for function call output with call_id c1"):
        answer_to(gateway, route, said)


# --- what a provider keeps --------------------------------------------------------------------------------------


@STREAMED
def test_a_conversation_goes_on_at_the_deployment_that_keeps_it(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    first = answer_to(gateway, route, "one two three", stream=stream)
    second = answer_to(gateway, route, "four", stream=stream, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.output_text == "You said: four"
    assert second.usage.input_tokens > first.usage.total_tokens
    sent = sent_to(gateway, route)["previous_response_id"]
    assert sent.startswith("resp_0")  # the provider's own
    assert sent not in (first.id, second.id)
    held = gateway.entries(route.alias)[1]["hold_usd"]
    assert held >= cost(128_000, 0)  # what the model reads at the most: nobody here knows what was said before


def test_a_kept_response_is_found_listed_and_deleted(gateway: Gateway) -> None:
    route = gateway.route("openai")
    made = answer_to(gateway, route, "one two three")
    responses = gateway.client().responses
    written = gateway.count_written()
    found = responses.retrieve(made.id)
    assert (found.id, found.model, found.output_text) == (made.id, route.alias, made.output_text)
    assert [item.type for item in responses.input_items.list(made.id, limit=5)] == ["message"]
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        responses.cancel(made.id)
    responses.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=made.id):
        responses.retrieve(made.id)
    assert gateway.count_written() == written


def test_nobody_else_finds_it(gateway: Gateway) -> None:
    route = gateway.route("openai")
    mine, other = gateway.key(), gateway.key()
    made = answer_to(gateway, route, "secret", key=mine)
    assert gateway.client(api_key=mine).responses.retrieve(made.id).id == made.id
    forged = made.id[:-1] + ("A" if made.id[-1] != "A" else "B")
    with gateway.nothing_written():
        for key, response_id in ((other, made.id), ("dummy", made.id), (mine, forged), (mine, "resp_1")):
            with pytest.raises(openai.NotFoundError, match="no response with this id"):
                gateway.client(api_key=key).responses.retrieve(response_id)
            with pytest.raises(openai.BadRequestError) as refused:
                answer_to(gateway, route, "go", key=key, previous_response_id=response_id)
            assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_what_no_provider_keeps_cannot_be_gone_on_from(gateway: Gateway) -> None:
    route, other = route_of(gateway, "anthropic"), gateway.route("openai")
    made, kept = answer_to(gateway, route, "hello"), answer_to(gateway, other, "hello")
    with gateway.nothing_written():
        for alias, response_id in ((route, made.id), (route, kept.id)):
            with pytest.raises(openai.BadRequestError) as refused:
                answer_to(gateway, alias, "go", previous_response_id=response_id)
            assert refused.value.code == "previous_response_not_found"


def test_it_is_never_gone_on_with_at_another_provider(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic")
    made = answer_to(gateway, route, "hello")
    gateway.sim.behave(route.providers[0], forever=faults.server_error())
    with pytest.raises(openai.InternalServerError):
        answer_to(gateway, route, "go", previous_response_id=made.id)
    assert gateway.sim.requests_to(route.providers[1]) == []


def test_an_unknown_method_or_path_is_a_clear_error(gateway: Gateway) -> None:
    made = answer_to(gateway, gateway.route("openai"), "hello")
    url = f"{gateway.url}/v1/responses"
    assert http.post(f"{url}/{made.id}").status_code == 405
    assert http.get(f"{url}/{made.id}?stream=true").json()["error"]["param"] == "stream"
    assert http.post(f"{url}/compact", json={}).json()["error"]["code"] == "not_found"


# --- the provider's own tools -----------------------------------------------------------------------------------


@STREAMED
def test_a_model_that_does_not_reason_is_not_asked_for_its_thoughts(gateway: Gateway, stream: bool) -> None:
    asked: dict[str, Any] = {
        "reasoning": {"effort": "high"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    }
    route = gateway.route("openai", model="gpt-4o")
    answer = gateway.post(
        json.dumps({"model": route.alias, "input": "a", "stream": stream, **asked}).encode(), path="/v1/responses"
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-dropped-params"] == "reasoning, include"
    (got,) = gateway.sim.requests_to(route.providers[0])
    assert got.body is not None
    assert (got.body.get("reasoning"), got.body["include"]) == (None, ["message.output_text.logprobs"])
    thinker = gateway.route("openai", model="gpt-5")
    body = {"model": thinker.alias, "input": "a", "stream": stream, **asked}
    assert gateway.post(json.dumps(body).encode(), path="/v1/responses").status_code == 200
    (got,) = gateway.sim.requests_to(thinker.providers[0])
    assert got.body is not None
    assert {name: got.body[name] for name in asked} == asked


@STREAMED
def test_searches_are_bounded_counted_and_paid(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai", priced=False)
    with gateway.orm():
        price(route.providers[0], "gpt-4o", search="0.01")
    answer = answer_to(gateway, route, "search 3 times", stream=stream, tools=[SEARCH])
    assert [item.type for item in answer.output] == ["web_search_call"] * 3 + ["message"]
    assert sent_to(gateway, route)["max_tool_calls"] == 5
    entry = gateway.entry(route.alias)
    assert entry["quantities"] == {"search": "3"}
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"]) + Decimal("0.03")
    assert entry["hold_usd"] >= cost(5 * 128_000, 0) + Decimal("0.05")


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "web_search"}, "tools[0]"),  # without a price of a search
        ({"type": "code_interpreter", "container": {"type": "auto"}}, "tools[0]"),
        ({"type": "image_generation"}, "tools[0]"),
        ({"type": "a_tool_of_tomorrow"}, "tools[0]"),
    ],
)
def test_what_nobody_bounds_is_refused_by_name_under_a_hard_budget(
    gateway: Gateway, tool: dict[str, Any], param: str
) -> None:
    route = gateway.route("openai")
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        answer_to(gateway, route, "go", tools=[tool])
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", param)


def test_without_a_hard_budget_the_providers_tools_pass(gateway: Gateway) -> None:
    route = gateway.route("openai")
    tools: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    with gateway.no_hard_budget():
        gateway.client().responses.create(model=route.alias, input="go", tools=tools)
    assert sent_to(gateway, route)["tools"] == tools


# --- refusals ---------------------------------------------------------------------------------------------------


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
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]}, "input[0].output"),
        (
            {
                "input": [
                    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": 5}]}
                ]
            },
            "input[0].output[0].text",
        ),
        (
            {"input": [{"role": "system", "content": [{"type": "input_text", "text": 5}]}]},
            "input[0].content[0].text",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": 5}]}]},
            "input[0].content[0].refusal",
        ),
        ({"input": "a", "tool_choice": {"type": "allowed_tools", "tools": 5}}, "tool_choice.tools"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": "a", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "a", "previous_response_id": 5}, "previous_response_id"),
        ({"input": "a", "conversation": "c"}, "conversation"),
        ({"input": "a", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "tools": [5]}, "tools[0]"),
        ({"input": "a", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "a", "max_tool_calls": 0}, "max_tool_calls"),
        ({"input": "a", "store": "yes"}, "store"),
        ({"input": "a", "context_management": [{"type": "compaction"}]}, "context_management"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0]"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = gateway.route("openai")
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/responses")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "a", "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"input": [{"type": "mcp_approval_response", "approval_request_id": "a", "approve": True}]}, "input[0]"),
    ],
)
def test_what_only_this_dialect_has_needs_a_provider_of_it(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = route_of(gateway, "chat")
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/responses")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_hard_budget_holds(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.budget(route, "0.0000001")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        answer_to(gateway, route, "hello")
    assert refused.value.code == "request_exceeds_budget"


def test_input_tokens_are_not_counted_at_a_fallback_that_the_key_may_not_use(gateway: Gateway) -> None:
    route = gateway.route("anthropic", "openai")
    bound = gateway.key(allowed_aliases=[route.aliases[0]], binds_fallbacks=True)
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(enabled=False)
    answer = gateway.client(api_key=bound).responses.input_tokens.count(model=route.alias, input="secret")
    assert answer.input_tokens > 0
    assert gateway.sim.requests_to(route.providers[1]) == []


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_input_tokens_are_counted_without_spending(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    written = gateway.count_written()
    counted = gateway.client().responses.input_tokens.count(model=route.alias, input="hello " * 100, instructions="a")
    assert 100 <= counted.input_tokens <= 200
    assert gateway.count_written() == written
    paths = [request.path.rpartition("/")[2] for request in gateway.sim.requests_to(route.providers[0])]
    assert paths == (["input_tokens"] if wire == "openai" else [])
