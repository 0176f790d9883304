"""What providers document as refused is not sent to them, and nobody's words are changed on the way.

The simulator refuses what the providers document as refused (docs/simulator-rules.md), so that every 200 here says that
the combination was mended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounting.usage import Usage
from routing.upstreams.base import FailureKind, Json, UpstreamError, WholeAnswer
from routing.upstreams.mends import gemini
from routing.upstreams.registry import upstream_for
from routing.upstreams.relay import Relay
from routing.upstreams.translate import Translate
from tests.clocks import within
from tests.simulator import Behaviour, Simulator, ToolCall
from tests.simulator import Usage as Counted
from tests.wire.corpus import CLOCK, PERSON, PIXEL, WEATHER, asks, image, says, text, tool_call, user
from tests.wire.upstream_calls import call, call_to, read, text_of

WIRES = pytest.mark.parametrize("wire", ["anthropic", "gemini"])
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(simulator: Simulator) -> Simulator:
    simulator.reset()
    return simulator


def sent(sim: Simulator, wire: str, body: Json, model: str | None = None) -> tuple[Json, WholeAnswer]:
    """What the provider got, and its answer."""
    answer = Translate().whole(call_to(sim, wire, body, model=model))
    received = sim.requests[-1].body
    assert received is not None
    return received, answer


def refused(sim: Simulator, wire: str, body: Json) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        Translate().whole(call_to(sim, wire, body))
    assert sim.requests == [], "the provider was asked"
    return raised.value


def function(name: str, parameters: Json | None = None) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


# --- combinations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters", "there", "gone"),
    [
        ("claude-sonnet-4-6", {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}, ["top_p"]),
        ("claude-opus-4-20250514", {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2, "top_p": 0.9}, []),
        ("claude-opus-4-7", {"temperature": 0.2, "top_p": 0.9, "top_k": 3}, {}, ["temperature", "top_k", "top_p"]),
        ("claude-sonnet-4-6", {"temperature": 1.6}, {"temperature": 1.0}, ["temperature"]),
        (
            "claude-sonnet-4-6",
            {"reasoning_effort": "low", "temperature": 0.2, "top_p": 0.5, "top_k": 4},
            {"output_config": {"effort": "low"}},
            ["temperature", "top_k", "top_p"],
        ),
        (
            "claude-sonnet-4-6",
            {"reasoning_effort": "xhigh"},
            {"output_config": {"effort": "high"}},
            ["reasoning_effort"],
        ),
        ("claude-opus-4-7", {"reasoning_effort": "xhigh"}, {"output_config": {"effort": "xhigh"}}, []),
        (
            "claude-haiku-4-5",
            {"reasoning_effort": "high", "max_tokens": 1500},
            {"thinking": {"type": "enabled", "budget_tokens": 1499}},
            ["reasoning_effort"],
        ),
        ("claude-haiku-4-5", {"reasoning_effort": "high", "max_tokens": 500}, {}, ["reasoning_effort"]),
        (
            "claude-haiku-4-5",
            {"reasoning_effort": "low", "max_tokens": 9000, "tools": [CLOCK], "tool_choice": "required"},
            {"tool_choice": {"type": "auto"}},
            ["tool_choice"],
        ),
        ("claude-haiku-4-5", {"max_tokens": 200_000}, {"max_tokens": 64_000}, ["max_tokens"]),
        ("claude-sonnet-4-6", {"stop": ["", " \n", "END"]}, {"stop_sequences": ["END"]}, ["stop"]),
        ("claude-sonnet-4-6", {"parallel_tool_calls": False}, {}, ["parallel_tool_calls"]),
    ],
)
def test_what_claude_refuses_together_is_mended_and_named(
    sim: Simulator, model: str, parameters: Json, there: Json, gone: list[str]
) -> None:
    received, answer = sent(sim, "anthropic", asks(**{"max_tokens": 4000, **parameters}), model)
    named = ("temperature", "top_p", "top_k", "tool_choice", "stop_sequences", "output_config")
    assert {name: received[name] for name in there} == there
    assert {name for name in named if name in received} <= there.keys() | {"tool_choice"}
    assert sorted(answer.dropped_params) == gone


@pytest.mark.parametrize(
    ("model", "parameters", "there", "gone"),
    [
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, {"thinkingBudget": 128}, ["reasoning_effort"]),
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}, []),
        (
            "gemini-2.5-flash-lite",
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            {"thinkingBudget": 512},
            ["thinking"],
        ),
        ("gemini-2.5-pro", {"reasoning_effort": "xhigh"}, {"thinkingBudget": 4096}, ["reasoning_effort"]),
        ("gemini-3-pro-preview", {"reasoning_effort": "medium"}, {"thinkingLevel": "high"}, ["reasoning_effort"]),
    ],
)
def test_every_effort_is_one_that_gemini_knows(
    sim: Simulator, model: str, parameters: Json, there: Json, gone: list[str]
) -> None:
    received, answer = sent(sim, "gemini", asks(**parameters), model)
    thinking = received["generationConfig"]["thinkingConfig"]
    assert {name: thinking[name] for name in there} == there
    assert list(answer.dropped_params) == gone


@STREAMED
def test_what_google_says_that_a_model_lacks_is_left_out_and_not_sent_to_it_again(
    sim: Simulator, streamed: bool
) -> None:
    model = f"gemini-2.5-flash-lacking-{streamed}"
    lacked = {"presence_penalty": 0.5, "frequency_penalty": 0.2, "logprobs": True, "top_logprobs": 2}

    def asked(**parameters: Any) -> tuple[Json, tuple[str, ...]]:
        request = call_to(sim, "gemini", asks(**parameters), model=model)
        if streamed:
            stream = Translate().stream(request)
            assert "hello" in text_of(read(stream))
            dropped = stream.dropped_params
        else:
            dropped = Translate().whole(request).dropped_params
        received = sim.requests[-1].body
        assert received is not None
        config = received["generationConfig"]
        del config["max_output_tokens"]
        return config, dropped

    config, dropped = asked(temperature=0.3, **lacked)
    assert config == {"temperature": 0.3}
    assert dropped == tuple(sorted(lacked))
    assert [request.status for request in sim.requests] == [400, 400, 200]
    config, dropped = asked(seed=7, presence_penalty=0.1)
    assert (config, dropped) == ({"seed": 7}, ("presence_penalty",))
    assert [request.status for request in sim.requests][3:] == [200]
    other = call_to(sim, "gemini", asks(presence_penalty=0.1), model="gemini-2.0-flash")
    assert Translate().whole(other).dropped_params == (), "another model may have what this one lacks"


@pytest.mark.parametrize("echo", ["Penalty is not enabled for models/x", "thinking level low is not supported"])
def test_what_google_repeats_of_a_client_teaches_nothing(echo: str) -> None:
    config = {"frequency_penalty": 0.5, "thinkingConfig": {"thinkingLevel": "low"}}
    for wrong in (
        f"Invalid value at 'contents[0].role', \"{echo}\"",
        f'{{"message": "{echo}"}}',
        f"Unknown name: {echo}",
    ):
        said = json.dumps({"error": {"code": 400, "message": wrong}}).encode()
        assert not gemini.learn_what_is_lacking({"generationConfig": config}, said, "gemini-2.5-flash-echo")
        assert gemini.contents_mended({"generationConfig": config}, said) is None
    said = json.dumps({"error": {"code": 400, "message": echo}}).encode()
    assert gemini.learn_what_is_lacking({"generationConfig": config}, said, "gemini-2.5-flash-echo")


def test_a_level_that_another_request_has_learnt_meanwhile_is_asked_for_otherwise_too() -> None:
    body = {"generationConfig": {"thinkingConfig": {"thinkingLevel": "minimal"}}}
    said = json.dumps({"error": {"message": "Thinking level MINIMAL is not supported for this model."}}).encode()
    for _ in range(2):
        assert gemini.learn_what_is_lacking(body, said, "gemini-4-flash-twice")


def test_gemini_is_told_the_schema_in_words_when_tools_stand_beside_it(sim: Simulator) -> None:
    received, answer = sent(sim, "gemini", asks("Hello", response_format=PERSON, tools=[WEATHER]))
    assert "function_declarations" in received["tools"][0]
    assert "response_mime_type" not in received["generationConfig"]
    assert '"tags"' in received["system_instruction"]["parts"][-1]["text"]
    assert answer.dropped_params == ("response_format",)


def test_gemini_three_gets_the_schema_beside_tools(sim: Simulator) -> None:
    received, answer = sent(
        sim, "gemini", asks("Hello", response_format=PERSON, tools=[WEATHER]), "gemini-3-pro-preview"
    )
    assert received["generationConfig"]["response_mime_type"] == "application/json"
    assert answer.dropped_params == ()


def test_a_search_that_gemini_cannot_do_beside_functions_is_named(sim: Simulator) -> None:
    _, answer = sent(sim, "gemini", asks("News?", web_search_options={}, tools=[WEATHER]))
    assert answer.dropped_params == ("web_search_options",)


@WIRES
def test_the_allowed_tools_are_the_only_ones_offered(sim: Simulator, wire: str) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "clock"}}]}
    body = asks("Time?", tools=[WEATHER, CLOCK], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    received, answer = sent(sim, wire, body)
    assert "get_weather" not in json.dumps(received["tools"])
    assert answer.body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "clock"


def test_claude_is_asked_for_json_in_words(sim: Simulator) -> None:
    received, answer = sent(sim, "anthropic", asks("A person", response_format={"type": "json_object"}))
    assert "JSON object" in received["system"][-1]["text"]
    assert answer.dropped_params == ("response_format",)


def test_the_last_four_cache_marks_stay_and_an_hour_never_follows_five_minutes(sim: Simulator) -> None:
    parts = [text(str(number), cache_control={"type": "ephemeral"}) for number in range(6)]
    parts[-1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    received, answer = sent(sim, "anthropic", says(user(parts), max_tokens=9))
    marks = [block.get("cache_control") for block in received["messages"][0]["content"]]
    assert [mark is not None for mark in marks] == [False, False, True, True, True, True]
    assert marks[-1] == {"type": "ephemeral", "ttl": "5m"}
    assert answer.dropped_params == ("cache_control",)


_NUMBERS = st.sampled_from([None, 0, 0.2, 0.96, 1, 1.7])
_REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": _NUMBERS,
        "top_p": st.sampled_from([0.1, 0.97, 1]),
        "top_k": st.sampled_from([1, 40]),
        "max_tokens": st.sampled_from([1, 900, 1025, 5000, 500_000]),
        "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
        "stop": st.sampled_from(["", " ", "END", ["", "\n", "a"], ["1", "2", "3", "4", "5", "6"]]),
        "tools": st.sampled_from(
            [[WEATHER], [WEATHER, CLOCK], [function("odd name/é", {"anyOf": [{"type": "object"}]})]]
        ),
        "tool_choice": st.sampled_from(["auto", "none", "required"]),
        "parallel_tool_calls": st.booleans(),
        "response_format": st.sampled_from([PERSON, {"type": "json_object"}, {"type": "text"}]),
        "seed": st.sampled_from([1, 2**40]),
    },
)


@pytest.mark.parametrize(
    ("wire", "model"),
    [
        ("anthropic", "claude-haiku-4-5"),
        ("anthropic", "claude-sonnet-4-6"),
        ("anthropic", "claude-opus-4-7"),
        ("gemini", "gemini-2.5-pro"),
        ("gemini", "gemini-2.5-flash-lite"),
        ("gemini", "gemini-3.1-pro-preview"),
    ],
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(parameters=_REQUESTS)
def test_no_combination_of_parameters_is_refused(sim: Simulator, wire: str, model: str, parameters: Json) -> None:
    answer = Translate().whole(call_to(sim, wire, asks("Hello", **parameters), model=model))
    assert answer.body["choices"][0]["finish_reason"] in ("stop", "length", "tool_calls")


# --- schemas -------------------------------------------------------------------------------------------------------

_KIND = {"const": "circle"}
_SHAPE: Json = {
    "type": "object",
    "$defs": {"Kind": _KIND, "Leaf": {"oneOf": [{"$ref": "#/$defs/Kind"}, {"type": "null"}]}},
    "properties": {
        "kind": {"$ref": "#/$defs/Kind"},
        "leaf": {"$ref": "#/$defs/Leaf", "description": "A leaf"},
        "size": {"enum": ["S", "M", ""]},
        "level": {"enum": [1, 2]},
        "either": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        "pair": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]},
        "both": {"allOf": [{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}]},
        "const": {"type": "string"},
    },
    "required": ["kind", "nowhere"],
    "additionalProperties": False,
}


def test_a_schema_says_the_same_in_geminis_words(sim: Simulator) -> None:
    received, _ = sent(sim, "gemini", asks("Hello", tools=[function("draw", _SHAPE)]))
    parameters = received["tools"][0]["function_declarations"][0]["parameters"]
    assert parameters["properties"] == {
        "kind": {"type": "string", "enum": ["circle"]},
        "leaf": {"type": "string", "enum": ["circle"], "nullable": True, "description": "A leaf"},
        "size": {"type": "string", "enum": ["S", "M"], "description": 'One of: "S", "M", ""'},
        "level": {"type": "integer", "description": "One of: 1, 2"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "pair": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}},
        "both": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        "const": {"type": "string"},
    }
    assert parameters["required"] == ["kind"]


@WIRES
@pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf"])
def test_a_tool_whose_parameters_are_a_choice_keeps_them(sim: Simulator, wire: str, word: str) -> None:
    one = {"type": "object", "properties": {"id": {"type": "string"}, "by": _KIND}, "required": ["id"]}
    other = {"$ref": "#/$defs/Other"}
    defs = {"Other": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}
    received, _ = sent(sim, wire, asks("Hello", tools=[function("find", {word: [one, other], "$defs": defs})]))
    tool = received["tools"][0]
    schema = tool["input_schema"] if wire == "anthropic" else tool["function_declarations"][0]["parameters"]
    assert set(schema["properties"]) == {"id", "by", "name"}
    assert sorted(schema.get("required", [])) == (["id", "name"] if word == "allOf" else [])


def test_choices_inside_choices_are_joined_once_and_soon(sim: Simulator) -> None:
    many = [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}] * 500
    defs = {
        "a": {"anyOf": many, "properties": {"x": {"const": 1}}},
        "b": {"oneOf": [*many, {"properties": {"x": {"const": 2}, "y": {}}}]},
    }
    started = time.monotonic()
    received, _ = sent(sim, "anthropic", asks("Hello", tools=[function("f", {"anyOf": many, "$defs": defs})]))
    properties = received["tools"][0]["input_schema"]["properties"]
    assert properties == {"x": {"anyOf": [{"const": 1}, {"const": 2}]}, "y": {}}
    assert time.monotonic() - started < 1


def test_references_reach_claude_whole(sim: Simulator) -> None:
    old = {"type": "object", "definitions": {"K": {"type": "string"}}, "properties": {"k": {"$ref": "#/definitions/K"}}}
    received, _ = sent(sim, "anthropic", asks("Hello", tools=[function("draw", old)]))
    schema = received["tools"][0]["input_schema"]
    assert schema["properties"]["k"]["$ref"] == "#/$defs/K"
    assert schema["$defs"] == {"K": {"type": "string"}}


def nested(depth: int, store: str, path: str = "") -> Json:
    """A schema of a few lines that becomes 2^depth values when its references are written out."""
    path = path or f"#/{store}"
    defs = {f"d{n}": {"properties": {side: {"$ref": f"{path}/d{n + 1}"} for side in "ab"}} for n in range(depth)}
    return {"type": "object", "properties": {"x": {"$ref": f"{path}/d0"}}, store: {**defs, f"d{depth}": {}}}


def answer(schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize("store", ["$defs", "definitions"])
def test_references_that_become_too_much_are_refused_at_once(sim: Simulator, store: str) -> None:
    started = time.monotonic()
    error = refused(sim, "gemini", asks("Hello", tools=[CLOCK, function("f", nested(21, store))]))
    assert (error.kind, error.http_status, error.param) == (FailureKind.CAPABILITY, 400, "tools[1]")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("wire", "model", "body", "param"),
    [
        # litellm writes out what is anywhere, and reads the last word of a path alone.
        ("gemini", "gemini-2.5-pro", {"tools": [function("f", {"x": nested(21, "$defs")})]}, "tools[0]"),
        ("gemini", "gemini-2.5-pro", {"tools": [function("f", nested(21, "$defs", "#/no/where"))]}, "tools[0]"),
        ("gemini", "gemini-2.5-pro", {"functions": [function("f", nested(21, "$defs"))["function"]]}, "tools[0]"),
        ("gemini", "gemini-2.5-pro", {"tools": [function("f", nested(8, "$defs"))] * 200}, "tools"),
        ("gemini", "gemini-1.5-pro", {"response_format": answer(nested(21, "$defs"))}, "response_format"),
        ("anthropic", "claude-sonnet-4-6", {"response_format": answer(nested(21, "$defs"))}, "response_format"),
        ("anthropic", "claude-3-haiku", {"response_format": answer(nested(21, "definitions"))}, "response_format"),
        ("anthropic", "claude-opus-4-6", {"response_format": answer(nested(21, "$defs", "#/no"))}, "response_format"),
    ],
)  # fmt: skip
def test_no_schema_is_written_out_without_a_bound(
    sim: Simulator, wire: str, model: str, body: Json, param: str
) -> None:
    before = len(sim.requests)
    started = time.monotonic()
    with pytest.raises(UpstreamError) as refusal:
        upstream_for(wire).whole(call_to(sim, wire, asks("Hello", **body), model=model))
    assert (refusal.value.kind, refusal.value.param) == (FailureKind.CAPABILITY, param)
    assert within(time.monotonic() - started, 1)
    assert len(sim.requests) == before


def test_no_schema_of_litellms_own_callers_is_written_out_without_a_bound() -> None:
    for body in ({"tools": [function("f", nested(21, "$defs"))]}, {"response_format": answer(nested(21, "$defs"))}):
        request = call("http://127.0.0.1:9", asks("Hello", **body), provider="bedrock", model="anthropic.claude-v2")
        started = time.monotonic()
        with pytest.raises(UpstreamError) as refusal:
            upstream_for("bedrock").whole(request)
        assert refusal.value.kind is FailureKind.CAPABILITY
        assert within(time.monotonic() - started, 1)


def test_a_schema_that_refers_to_itself_is_refused_for_gemini_alone(sim: Simulator) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    body = asks("Hello", tools=[function("f", {"type": "object", "$defs": {"node": node}, "properties": {"n": node}})])
    assert refused(sim, "gemini", body).param == "tools[0]"
    received, _ = sent(sim, "anthropic", body)
    assert received["tools"][0]["input_schema"]["$defs"] == {"node": node}


def test_a_tool_with_a_name_that_gemini_refuses_is_called_by_its_own_name(sim: Simulator) -> None:
    long = "n" * 64
    body = asks("Hello", tools=[function("1/read file"), function(long)])
    sim.behave("gemini", Behaviour(tool_calls=(ToolCall("_1_read_file", '{"a":1}'), ToolCall("n" * 63, '{"a":1}'))))
    _, answer = sent(sim, "gemini", body)
    names = [call["function"]["name"] for call in answer.body["choices"][0]["message"]["tool_calls"]]
    assert names == ["1/read file", long]


# --- words ---------------------------------------------------------------------------------------------------------


def _said(received: Json) -> list[Any]:
    """Every text that the provider was told, in order."""
    found: list[Any] = []
    contents = received.get("messages") or received["contents"]
    for content in contents:
        for part in content.get("content") or content["parts"]:
            found += [part["text"]] if "text" in part else []
    return found


@WIRES
def test_empty_words_are_left_out_and_none_are_invented(sim: Simulator, wire: str) -> None:
    conversation = says(
        user("Time?"),
        {"role": "assistant", "content": "", "tool_calls": [tool_call("c1", "clock", "")]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        {"role": "assistant", "content": ""},
        user([text(""), text("And now?")]),
        {"role": "assistant", "content": None, "refusal": "I will not say."},
        user("Please"),
        tools=[CLOCK],
        max_tokens=50,
    )
    received, _ = sent(sim, wire, conversation)
    assert _said(received) == ["Time?", "And now?", "I will not say.", "Please"]


@WIRES
def test_words_of_the_system_alone_are_said_by_the_user(sim: Simulator, wire: str) -> None:
    received, _ = sent(sim, wire, says({"role": "system", "content": "Write a haiku"}, max_tokens=50))
    assert _said(received) == ["Write a haiku"]


@WIRES
def test_a_conversation_in_which_nothing_is_said_is_refused(sim: Simulator, wire: str) -> None:
    error = refused(sim, wire, asks(""))
    assert (error.kind, error.param) == (FailureKind.CAPABILITY, "messages")


def test_a_conversation_that_the_assistant_begins_is_refused_at_claude_and_heard_by_gemini(sim: Simulator) -> None:
    body = says(
        {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "How can I help?"}, user("Hi")
    )
    error = refused(sim, "anthropic", body)
    assert (error.kind, error.param) == (FailureKind.CAPABILITY, "messages")
    received, _ = sent(sim, "gemini", body)
    assert [content["role"] for content in received["contents"]] == ["model", "user"]


def test_no_tool_is_invented_for_an_empty_list_of_calls(sim: Simulator) -> None:
    body = says(user("1"), {"role": "assistant", "content": "2", "tool_calls": []}, user("3"), max_tokens=9)
    assert "tools" not in sent(sim, "anthropic", body)[0]


def test_tools_that_were_called_and_are_not_offered_any_more_keep_their_names(sim: Simulator) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [tool_call("c1", "clock", "{}")]}
    body = says(user("?"), called, {"role": "tool", "tool_call_id": "c1", "content": "noon"}, max_tokens=9)
    received, _ = sent(sim, "anthropic", body)
    assert [tool["name"] for tool in received["tools"]] == ["clock"]
    assert received["tool_choice"] == {"type": "none"}


@WIRES
def test_two_calls_with_one_id_keep_their_own_results(sim: Simulator, wire: str) -> None:
    calls = [tool_call("c", "clock", '{"a":1}'), tool_call("c", "clock", '{"a":1}')]
    body = says(
        user("Twice"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "first"},
        {"role": "tool", "tool_call_id": "c", "content": "second"},
        tools=[CLOCK],
        max_tokens=50,
    )
    received, _ = sent(sim, wire, body)
    if wire == "anthropic":
        asked, answered = received["messages"][1]["content"], received["messages"][2]["content"]
        assert [block["input"] for block in asked] == [{"a": 1}, {"a": 1}]
        assert [block["id"] for block in asked] == [block["tool_use_id"] for block in answered]
        assert [block["content"] for block in answered] == ["first", "second"]
    else:
        asked, answered = received["contents"][1]["parts"], received["contents"][2]["parts"]
        assert [part["function_call"]["args"] for part in asked] == [{"a": 1}, {"a": 1}]
        assert [part["function_response"]["response"]["content"] for part in answered] == ["first", "second"]


@WIRES
def test_every_call_has_its_result_and_every_result_its_call(sim: Simulator, wire: str) -> None:
    def calls(call_id: str) -> Json:
        return {"role": "assistant", "content": None, "tool_calls": [tool_call(call_id, "clock", "{}")]}

    def result(call_id: str, content: str | None) -> Json:
        return {"role": "tool", "tool_call_id": call_id, "content": content}

    body = says(
        user("1"), calls("a"), calls("b"), result("b", "of b"), result("a", "of a"), calls("c"), user("Go on"),
        calls("d"), result("x", "of nobody"), user("Now?"), result("d", None), tools=[CLOCK], max_tokens=50,
    )  # fmt: skip
    received, _ = sent(sim, wire, body)
    contents = received.get("messages") or received["contents"]
    if wire == "anthropic":
        found = [part["content"] for c in contents for part in c["content"] if part["type"] == "tool_result"]
    else:
        responses = [part.get("function_response") for c in contents for part in c["parts"]]
        found = [response["response"]["content"] for response in responses if response]
    assert found == ["of a", "of b", "", ""]
    assert _said(received) == ["1", "Go on", "Now?"]


def test_a_refusal_does_not_repeat_the_conversation(sim: Simulator) -> None:
    """It is kept in the books."""
    body = says(
        user("my secret"), {"role": "assistant", "content": None, "tool_calls": [tool_call("a", "f", '{"my secret')]}
    )
    for wire in ("anthropic", "gemini"):
        assert "my secret" not in refused(sim, wire, body).message
    assert refused(sim, "gemini", asks(tools=[{"type": "function", "function": {}}])).message.endswith(
        "'name' is missing"
    )


@WIRES
@STREAMED
def test_old_functions_are_asked_for_and_answered_the_old_way(sim: Simulator, wire: str, streamed: bool) -> None:
    body = says(
        user("Rome?"),
        {"role": "assistant", "content": None, "function_call": {"name": "clock", "arguments": ""}},
        {"role": "function", "name": "clock", "content": "noon"},
        functions=[WEATHER["function"], CLOCK["function"]],
        function_call="auto",
        max_tokens=50,
    )
    sim.behave(wire, Behaviour(reasoning="Hm.", tool_calls=(ToolCall("get_weather", '{"city":"Rome"}'),)))
    request = call_to(sim, wire, body)
    if streamed:
        choices = [chunk["choices"][0] for chunk in read(Translate().stream(request)) if chunk["choices"]]
        deltas = [choice["delta"].get("function_call", {}) for choice in choices]
        said = "".join(d.get("name", "") for d in deltas), "".join(d.get("arguments", "") for d in deltas)
        assert not any("tool_calls" in choice["delta"] for choice in choices)
        finish = choices[-1]["finish_reason"]
    else:
        choice = Translate().whole(request).body["choices"][0]
        said = choice["message"]["function_call"]["name"], choice["message"]["function_call"]["arguments"]
        finish = choice["finish_reason"]
    assert (said[0], json.loads(said[1]), finish) == ("get_weather", {"city": "Rome"}, "function_call")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "file", "file": {"file_data": "data:audio/mpeg;base64,SUQz"}},
        image("data:image/bmp;base64,Qk0AAAAAAAAAAAAAAAA="),
    ],
)
def test_what_claude_cannot_hear_or_see_is_refused_by_its_place(sim: Simulator, part: Json) -> None:
    error = refused(sim, "anthropic", asks([text("What is it?"), part]))
    assert (error.kind, error.http_status) == (FailureKind.CAPABILITY, 400)
    assert error.param == "messages[0].content[1]"


@WIRES
def test_a_call_whose_arguments_are_no_object_is_refused_under_the_clients_name_for_it(
    sim: Simulator, wire: str
) -> None:
    call = {"name": "f", "arguments": '{"city": "Par'}
    old = refused(sim, wire, says(user("Hi"), {"role": "assistant", "content": None, "function_call": call}))
    assert (old.kind, old.param) == (FailureKind.CAPABILITY, "messages[1].function_call.arguments")
    new = refused(sim, wire, says(user("Hi"), {"role": "assistant", "tool_calls": [tool_call("call_1", "f", "[]")]}))
    assert (new.kind, new.param) == (FailureKind.CAPABILITY, "messages[1].tool_calls[0].function.arguments")


def test_a_file_that_only_another_provider_has_is_refused_by_its_place(sim: Simulator) -> None:
    error = refused(sim, "gemini", asks([text("Read"), {"type": "file", "file": {"file_id": "file-abc123"}}]))
    assert (error.kind, error.param) == (FailureKind.CAPABILITY, "messages[0].content[1].file.file_id")


def test_a_model_of_tomorrow_is_asked_for_no_more_than_any_gemini_can_write(sim: Simulator) -> None:
    received, answer = sent(sim, "gemini", asks(max_tokens=500_000), model="gemini-9-pro")
    assert received["generationConfig"]["max_output_tokens"] == 65_536
    assert answer.dropped_params == ("max_tokens",)


@pytest.mark.parametrize(
    ("asked", "got", "dropped"),
    [
        ("auto", None, ()),
        ("default", "standard", ()),
        ("flex", "flex", ()),
        ("priority", "priority", ()),
        ("scale", None, ("service_tier",)),
    ],
)
def test_gemini_serves_no_tier_that_was_not_asked_for(
    sim: Simulator, asked: str, got: str | None, dropped: tuple[str, ...]
) -> None:
    received, answer = sent(sim, "gemini", asks(service_tier=asked))
    assert (received.get("serviceTier"), answer.dropped_params) == (got, dropped)


@WIRES
@pytest.mark.parametrize("label", ["image/jpg", "image/jpeg", "IMAGE/PNG", "image/x-png"])
def test_a_picture_is_called_what_its_first_bytes_say(sim: Simulator, wire: str, label: str) -> None:
    received, _ = sent(sim, wire, asks([text("?"), image(f"data:{label};base64,{PIXEL}")]))
    assert '"image/png"' in json.dumps(received)
    assert PIXEL in json.dumps(received)


def test_a_file_of_plain_text_is_text_to_claude(sim: Simulator) -> None:
    file = {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,WsO8cmljaA=="}}
    received, _ = sent(sim, "anthropic", asks([text("?"), file]))
    source = received["messages"][0]["content"][1]["source"]
    assert source == {"type": "text", "media_type": "text/plain", "data": "Zürich"}


def test_claude_does_not_think_about_an_answer_that_was_begun(sim: Simulator) -> None:
    body = says(user("Count"), {"role": "assistant", "content": "One,"}, reasoning_effort="low", max_tokens=4000)
    received, answer = sent(sim, "anthropic", body, "claude-sonnet-4-5")
    assert "thinking" not in received
    assert answer.dropped_params == ("reasoning_effort",)


def test_tools_of_free_text_are_refused_by_their_place(sim: Simulator) -> None:
    error = refused(sim, "anthropic", asks(tools=[CLOCK, {"type": "custom", "custom": {"name": "grep"}}]))
    assert (error.kind, error.param) == (FailureKind.CAPABILITY, "tools[1]")


# --- ends ----------------------------------------------------------------------------------------------------------


def _finish(sim: Simulator, wire: str, body: Json, streamed: bool) -> str:
    request = call_to(sim, wire, body)
    upstream = Relay() if wire == "openai" else Translate()
    if not streamed:
        return str(upstream.whole(request).body["choices"][0]["finish_reason"])
    chunks = read(upstream.stream(request))
    return str(next(c["choices"][0]["finish_reason"] for c in reversed(chunks) if c["choices"]))


@STREAMED
@pytest.mark.parametrize("end", ["model_context_window_exceeded", "pause_turn"])
def test_an_answer_that_was_cut_does_not_look_finished(sim: Simulator, end: str, streamed: bool) -> None:
    sim.behave("anthropic", Behaviour(text="half an ans", end=end))
    assert _finish(sim, "anthropic", asks(), streamed) == "length"


@pytest.mark.parametrize("end", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_turn_that_failed_is_a_failure_and_on_the_books(sim: Simulator, end: str) -> None:
    behaviour = Behaviour(text="I look it up.", end=end, usage=Counted(10, 5))
    sim.behave("gemini", behaviour, behaviour)
    with pytest.raises(UpstreamError) as raised:
        Translate().whole(call_to(sim, "gemini", asks(tools=[CLOCK])))
    assert (raised.value.kind, raised.value.usage) == (FailureKind.MALFORMED, Usage(10, output_tokens=5))
    received: list[Json] = []
    with pytest.raises(UpstreamError) as raised:
        received.extend(Translate().stream(call_to(sim, "gemini", asks(tools=[CLOCK]))))
    assert text_of(received) == "I look it up."
    assert (raised.value.kind, raised.value.usage) == (FailureKind.INTERRUPTED, Usage(10, output_tokens=5))


@STREAMED
def test_a_call_of_gemini_without_arguments_has_an_empty_object(sim: Simulator, streamed: bool) -> None:
    sim.behave("gemini", Behaviour(tool_calls=(ToolCall("clock", "{}"),), usage=Counted(10, 5)))
    request = call_to(sim, "gemini", asks("Time?", tools=[CLOCK]))
    if streamed:
        chunks = read(Translate().stream(request))
        calls = [call for c in chunks for choice in c["choices"] for call in choice["delta"].get("tool_calls", ())]
        assert "".join(call["function"].get("arguments") or "" for call in calls) == "{}"
    else:
        answer = Translate().whole(request)
        assert answer.body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
        assert answer.usage == Usage(10, output_tokens=5)


_AFTER_A_RESULT = says(
    user("Note it"),
    {"role": "assistant", "content": None, "tool_calls": [tool_call("c1", "clock", "{}")]},
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
    tools=[CLOCK],
    max_tokens=50,
)


@STREAMED
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("body", [_AFTER_A_RESULT, asks(stop=["END"])], ids=["after a result", "stop word first"])
def test_an_empty_end_that_means_something_is_an_answer(sim: Simulator, wire: str, body: Json, streamed: bool) -> None:
    sim.behave(wire, Behaviour(tokens=(), finish="stop"))
    assert _finish(sim, wire, body, streamed) == "stop"


@STREAMED
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
def test_any_other_empty_answer_is_a_failure(sim: Simulator, wire: str, streamed: bool) -> None:
    sim.behave(wire, Behaviour(tokens=(), finish="stop"))
    with pytest.raises(UpstreamError) as raised:
        _finish(sim, wire, asks(), streamed)
    assert raised.value.kind is FailureKind.EMPTY


@STREAMED
@pytest.mark.parametrize("said", [("It is ", "so"), ()], ids=["halfway", "at once"])
def test_what_gemini_said_before_it_was_stopped_is_handed_on_and_counted(
    sim: Simulator, said: tuple[str, ...], streamed: bool
) -> None:
    counted = Counted(input_tokens=9, output_tokens=7, reasoning_tokens=5, cached_tokens=3)
    sim.behave("gemini", Behaviour(tokens=said, finish="content_filter", usage=counted))
    request = call_to(sim, "gemini", asks(n=2))
    if streamed:
        stream = Translate().stream(request)
        chunks = read(stream)
        text, usage = text_of(chunks), stream.usage
        ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    else:
        answer = Translate().whole(request)
        choices = answer.body["choices"]
        text = "".join(choice["message"].get("content") or "" for choice in choices)
        ends, usage = [choice["finish_reason"] for choice in choices], answer.usage
    assert (text, ends) == ("".join(said) * 2, ["content_filter"] * 2)
    assert usage == Usage(9, cached_input_tokens=3, output_tokens=7, reasoning_tokens=5)


# --- what a model of the same provider has not ---------------------------------------------------------------------


def test_a_level_that_gemini_refuses_costs_nobody_the_others(sim: Simulator) -> None:
    said = "Thinking level MINIMAL is not supported for this model. Please retry with other thinking level."
    refusal = {"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}
    sim.behave("gemini", Behaviour(status=400, body=refusal))
    model = "gemini-3-flash-of-tomorrow"
    for effort, level, dropped in (("none", "low", True), ("high", "high", False), ("none", "low", True)):
        received, answer = sent(sim, "gemini", asks(reasoning_effort=effort), model)
        assert received["generationConfig"]["thinkingConfig"]["thinkingLevel"] == level
        assert answer.dropped_params == (("reasoning_effort",) if dropped else ())
    assert [request.status for request in sim.requests] == [400, 200, 200, 200]


@pytest.mark.parametrize("model", ["claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-7"])
def test_a_claude_that_does_not_go_on_with_a_begun_answer_leaves_it_to_the_next_step(
    sim: Simulator, model: str
) -> None:
    body = says(user("Count to three"), {"role": "assistant", "content": "One, "})
    with pytest.raises(UpstreamError) as raised:
        Translate().whole(call_to(sim, "anthropic", body, model=model))
    assert (raised.value.kind, raised.value.param) == (FailureKind.CAPABILITY, "messages[1]")
    assert sim.requests == []
    Translate().whole(call_to(sim, "anthropic", body, model="claude-sonnet-4-5"))
    received = sim.requests[-1].body
    assert received is not None
    assert received["messages"][-1]["role"] == "assistant"


def test_claude_is_told_a_long_user_by_its_digest(sim: Simulator) -> None:
    received, answer = sent(sim, "anthropic", asks(user="u" * 400))
    assert len(received["metadata"]["user_id"]) == 64
    assert answer.dropped_params == ()


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "of-another-model"}
SAID_SO: list[tuple[str, Json, Json, str]] = [
    (
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        {"messages": [user("A"), {"role": "assistant", "content": [THOUGHT, text("B")]}, user("C")]},
        {"messages": [user("A"), {"role": "assistant", "content": [text("B")]}, user("C")]},
        "messages[].thinking",
    ),
    (
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and ...',
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"thinking": {"type": "adaptive"}},
        "thinking",
    ),
    (
        "adaptive thinking is not supported on this model",
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "max_tokens": 4000},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "output_config": None},
        "thinking",
    ),
    (
        "This model does not support effort level 'max'.",
        {"output_config": {"effort": "max"}},
        {"output_config": None},
        "output_config",
    ),
    ("`temperature` is deprecated for this model.", {"temperature": 0.2}, {"temperature": None}, "temperature"),
    (
        "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
        {"temperature": 0.2, "top_p": 0.9},
        {"temperature": 0.2, "top_p": None},
        "top_p",
    ),
    (
        "max_tokens: 99000 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5",
        {"max_tokens": 99_000},
        {"max_tokens": 64_000},
        "max_tokens",
    ),
]


@pytest.mark.parametrize(("said", "given", "told", "name"), SAID_SO, ids=[each[3] + each[0][:20] for each in SAID_SO])
@STREAMED
def test_a_claude_is_asked_again_without_what_only_another_claude_takes(  # noqa: PLR0917 - a table
    sim: Simulator, said: str, given: Json, told: Json, name: str, streamed: bool
) -> None:
    body = {"model": "m", "messages": [user("Hi")], "max_tokens": 4000, **given}
    before = json.dumps(body)
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    sim.behave("anthropic", Behaviour(status=400, body=refusal))
    request = call_to(sim, "anthropic", body, model="claude-3-opus")
    if streamed:
        stream = Translate().messages_stream(request, {})
        read(stream)
        dropped = stream.dropped_params
    else:
        dropped = Translate().messages(request, {}).dropped_params
    assert dropped == (name,)
    first, second = (received.body for received in sim.requests)
    assert first is not None
    assert second is not None
    assert {each: second.get(each) for each in told} == told
    assert {each: value for each, value in second.items() if each not in given} == {
        each: value for each, value in first.items() if each not in given
    }
    assert json.dumps(body) == before


def test_a_preview_that_a_claude_does_not_know_is_left_out(sim: Simulator) -> None:
    said = "Unexpected value(s) `context-1m-2025-08-07` for the `anthropic-beta` header."
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    sim.behave("anthropic", Behaviour(status=400, body=refusal))
    body = {"model": "m", "messages": [user("Hi")], "max_tokens": 40}
    headers = {"anthropic-beta": "context-1m-2025-08-07, effort-2025-11-24"}
    answer = Translate().messages(call_to(sim, "anthropic", body), headers)
    assert answer.dropped_params == ("anthropic-beta",)
    assert sim.requests[-1].headers["anthropic-beta"] == "effort-2025-11-24"


def test_what_no_claude_takes_is_the_clients_to_mend(sim: Simulator) -> None:
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: at least one message"}}
    sim.behave("anthropic", Behaviour(status=400, body=refusal))
    body = {"model": "m", "messages": [user("Hi")], "max_tokens": 40}
    with pytest.raises(UpstreamError) as raised:
        Translate().messages(call_to(sim, "anthropic", body), {})
    assert (raised.value.kind, len(sim.requests)) == (FailureKind.BAD_REQUEST, 1)


@pytest.mark.parametrize(
    ("said", "given", "told", "names"),
    [
        (
            "Penalty is not enabled for models/gemini-2.5-flash",
            {"frequencyPenalty": 0.5, "presencePenalty": 0.5, "topK": 3},
            {"topK": 3},
            ("frequencyPenalty", "presencePenalty"),
        ),
        ("Logprobs is not enabled for models/gemini-2.5-pro", {"responseLogprobs": True}, {}, ("responseLogprobs",)),
        (
            "Thinking level MINIMAL is not supported for this model. Please retry with other thinking level.",
            {"thinkingConfig": {"thinkingLevel": "MINIMAL"}},
            {"thinkingConfig": {"thinkingLevel": "LOW"}},
            ("thinkingConfig",),
        ),
        (
            "Thinking is not supported for this model.",
            {"thinkingConfig": {"thinkingBudget": 99}},
            {},
            ("thinkingConfig",),
        ),
    ],
)
@STREAMED
def test_a_gemini_is_asked_again_without_what_only_another_gemini_has(  # noqa: PLR0917 - a table
    sim: Simulator, said: str, given: Json, told: Json, names: tuple[str, ...], streamed: bool
) -> None:
    refusal = {"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}
    sim.behave("gemini", Behaviour(status=400, body=refusal))
    body: Json = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": given}
    before = json.dumps(body)
    request = call_to(sim, "gemini", body, model="gemini-3-flash-preview")
    if streamed:
        stream = Translate().contents_stream(request)
        read(stream)
        dropped = stream.dropped_params
    else:
        dropped = Translate().contents(request).dropped_params
    assert dropped == names
    assert [received.status for received in sim.requests] == [400, 200]
    assert (sim.requests[-1].body or {})["generationConfig"] == told
    assert json.dumps(body) == before
