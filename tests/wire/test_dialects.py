"""Requests as each provider of OpenAI's format understands them, at simulated providers that are as strict as they."""

from __future__ import annotations

import copy
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.upstreams.base import FailureKind, UpstreamError, UpstreamRequest
from routing.upstreams.dialects import spoken
from routing.upstreams.formats import FORMATS
from routing.upstreams.lessons import lesson_of
from routing.upstreams.relay import Relay
from routing.upstreams.translate import Translate
from tests.simulator import Behaviour, Simulator
from tests.simulator.strictness import RULES
from tests.wire import every_parameter
from tests.wire.every_parameter import ADDED, CALL_ID, PARAMETERS, TOOL
from tests.wire.upstream_calls import call, call_to, read, text_of

#: Flavours of the simulator → what is configured to reach them.
STRICT = {
    "openai": [("openai", "gpt-4o"), ("openai", "gpt-5"), ("openai", "o3-mini")],
    "mistral": [("mistral", "mistral-small-latest")],
    "groq": [("groq", "openai/gpt-oss-120b")],
    "cerebras": [("cerebras", "llama3.1-8b")],
    "deepseek": [("deepseek", "deepseek-chat")],
    "xai": [("xai", "grok-4.5"), ("xai", "grok-3")],
    "moonshot": [("moonshot", "kimi-k2.5"), ("moonshot", "moonshot-v1-8k")],
    "perplexity": [("perplexity", "sonar")],
}
STRICT_DEPLOYMENTS = [(flavour, *deployment) for flavour, deployments in STRICT.items() for deployment in deployments]

#: A conversation that has been with Claude, Gemini and DeepSeek, as a client hands it on to the next step of its chain.
CONVERSATION: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Look it up", "cache_control": {"type": "ephemeral"}}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I look it up.",
        "thinking_blocks": [{"type": "thinking", "thinking": "I look it up.", "signature": "c2ln"}],
        "provider_specific_fields": {"refusal": None},
        "annotations": [],
        "refusal": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [
            {"id": CALL_ID, "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": f"{CALL_ID}2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": CALL_ID, "content": "one"},
    {"role": "tool", "tool_call_id": f"{CALL_ID}2", "content": "two"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "1, 2"},
        ],
        "name": "bot",
        "tool_calls": [],
    },
    {"role": "user", "content": "And three?"},
    {"role": "assistant", "content": None, "refusal": "I cannot say."},
    {"role": "user", "content": "Thanks", "cache_control": {"type": "ephemeral"}},
]
_SAID = {"role", "content", "refusal", "tool_calls", "tool_call_id"}  # what a message cannot do without
LEGACY = {"function_call", "functions"}  # sent as they are: without them it would be another request
EVERYTHING: dict[str, Any] = {
    "model": "alias",
    "messages": CONVERSATION,
    **{name: value for name, value in PARAMETERS.items() if name not in LEGACY | {"store"}},
    **ADDED,
    "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}],
}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def to(sim: Simulator, flavour: str, body: dict[str, Any], provider: str, model: str) -> UpstreamRequest:
    return call(sim.base_url("openai", flavour), body, provider=provider, model=model)


def sent(sim: Simulator) -> dict[str, Any]:
    (request,) = sim.requests
    assert request.body is not None
    return dict(request.body)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("flavour", "provider", "model"), STRICT_DEPLOYMENTS)
def test_a_strict_provider_answers_a_request_that_was_written_for_all_others(
    sim: Simulator, flavour: str, provider: str, model: str, streamed: bool
) -> None:
    body = copy.deepcopy(EVERYTHING)
    if flavour == "perplexity":
        del body["tools"], body["tool_choice"]  # it has none, and says so
    request = to(sim, flavour, body, provider, model)
    before = copy.deepcopy(body)
    if streamed:
        assert "Thanks" in text_of(read(Relay().stream(request)))
    else:
        assert "Thanks" in Relay().whole(request).body["choices"][0]["message"]["content"]
    assert len(sim.requests) == 1, "it is known beforehand what would be refused"
    assert body == before, "further attempts send the same request again"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_part_of_such_a_request_is_refused_by_itself_either(sim: Simulator, data: st.DataObject) -> None:
    flavour, provider, model = data.draw(st.sampled_from(STRICT_DEPLOYMENTS))
    names = sorted(EVERYTHING.keys() - {"model", "messages", "tools", "tool_choice"})
    parameters = data.draw(st.sets(st.sampled_from(names)))
    messages = [
        {name: value for name, value in message.items() if name in _SAID or data.draw(st.booleans())}
        for message in CONVERSATION
    ]
    body = {"model": "alias", "messages": messages, **{name: EVERYTHING[name] for name in parameters}}
    sim.reset()
    request = to(sim, flavour, body, provider, model)
    if data.draw(st.booleans()):
        read(Relay().stream(request))
    else:
        Relay().whole(request)
    assert [received.status for received in sim.requests] == [200]


@pytest.mark.parametrize(("flavour", "provider", "model"), STRICT_DEPLOYMENTS)
def test_a_call_and_its_result_stay_together_and_apart_from_others(
    sim: Simulator, flavour: str, provider: str, model: str
) -> None:
    for _ in range(2):
        Relay().whole(to(sim, flavour, {"model": "alias", "messages": CONVERSATION}, provider, model))
    first, again = (request.body["messages"] for request in sim.requests if request.body)
    ids = [tool_call["id"] for tool_call in first[2]["tool_calls"]]
    assert ids == [first[3]["tool_call_id"], first[4]["tool_call_id"]]
    assert len(set(ids)) == 2
    assert again == first, "the same conversation has the same ids again, or no provider could cache it"


def test_an_id_that_the_provider_takes_is_not_changed(sim: Simulator) -> None:
    calls = [{"id": "aB3dE6gH9", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "aB3dE6gH9", "content": "one"},
    ]
    Relay().whole(to(sim, "mistral", {"messages": messages}, "mistral", "mistral-small-latest"))
    assert sent(sim)["messages"] == messages


def test_geminis_signature_is_taken_off_an_id_for_everybody_but_a_litellm(sim: Simulator) -> None:
    call_ = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1__thought__QUJD", **call_}]},
        {"role": "tool", "tool_call_id": "call_1__thought__QUJD", "content": "one"},
    ]
    for provider in ("together_ai", "litellm_proxy"):
        Relay().whole(call(sim.base_url("openai"), {"messages": messages}, provider=provider))
    received = [request.body["messages"][2]["tool_call_id"] for request in sim.requests if request.body]
    assert received == ["call_1", "call_1__thought__QUJD"]


def test_a_refusal_is_handed_on_as_what_the_model_said(sim: Simulator) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "content": "Why?"},
    ]
    Relay().whole(to(sim, "mistral", {"messages": messages}, "mistral", "mistral-small-latest"))
    assert sent(sim)["messages"][1] == {"role": "assistant", "content": "No."}


def test_thoughts_in_a_content_are_for_the_provider_who_had_them(sim: Simulator) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Yes"}]},
        {"role": "assistant", "content": [thought]},
    ]
    Relay().whole(to(sim, "mistral", {"messages": messages}, "mistral", "magistral-medium-latest"))
    answer = Relay().whole(to(sim, "openai", {"messages": messages}, "openai", "gpt-4o"))
    contents = [
        [message["content"] for message in request.body["messages"]] for request in sim.requests if request.body
    ]
    assert contents[0] == [message["content"] for message in messages]
    assert contents[1] == ["Hi", [{"type": "text", "text": "Yes"}], ""]
    assert answer.dropped_params == ("messages[].thoughts",)


def test_a_call_of_the_old_kind_stays_in_the_conversation(sim: Simulator) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "one"},
        {"role": "assistant", "content": "One", "function_call": None},
    ]
    Relay().whole(to(sim, "anyone", {"messages": messages}, "openai", "some-model"))
    assert sent(sim)["messages"] == [*messages[:3], {"role": "assistant", "content": "One"}]


# --- parameters -----------------------------------------------------------------------------------------------


NO_TOOLS: list[dict[str, Any]] = [
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    {"tool_choice": "none", "parallel_tool_calls": False},
    {"functions": [], "function_call": "auto"},
    {"stop": []},
    {"logprobs": False, "top_logprobs": 0},
]


@pytest.mark.parametrize("wish", NO_TOOLS)
@pytest.mark.parametrize("provider", ["openai", "mistral", "hosted_vllm"])
def test_what_asks_for_nothing_is_not_sent_and_not_named(provider: str, wish: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], **wish}
    said = spoken(asked, call("http://x", asked, provider=provider, model="gpt-4o").deployment, streamed=False)
    assert said.body.keys() - {"logprobs"} == {"model", "messages"}
    assert set(said.dropped) <= {"logprobs"}


@pytest.mark.parametrize("provider", ["openai", "mistral", "hosted_vllm"])
def test_the_likeliest_tokens_of_an_answer_without_probabilities_are_not_asked_for(provider: str) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "top_logprobs": 2}
    said = spoken(asked, call("http://x", asked, provider=provider, model="gpt-4o").deployment, streamed=False)
    assert said.body.keys() == {"model", "messages"}
    assert said.dropped == ("top_logprobs",)


@pytest.mark.parametrize("wish", [*NO_TOOLS, {"stop": list("abcde")}])
@pytest.mark.parametrize("provider", ["openai", "gemini"])
def test_a_strict_provider_answers_who_asks_for_nothing(sim: Simulator, provider: str, wish: dict[str, Any]) -> None:
    upstream = Relay() if provider == "openai" else Translate()
    request = call_to(sim, provider, {"model": "alias", "messages": [{"role": "user", "content": "hi"}], **wish})
    assert upstream.whole(request).body["choices"]


def test_a_call_that_is_forced_without_tools_is_the_clients_own_mistake() -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "tool_choice": "required"}
    assert spoken(asked, call("http://x", asked).deployment, streamed=False).body["tool_choice"] == "required"


def test_geminis_configuration_of_tools_goes_with_tools_alone() -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "tool_choice": "auto", "parallel_tool_calls": True}
    prepared = FORMATS["gemini"].prepare(call("http://x", asked, provider="gemini"), streamed=False)
    assert "toolConfig" not in prepared.body


@pytest.mark.parametrize(("choice", "dropped"), [("auto", ()), ("required", ("tool_choice",))])
def test_google_searches_without_a_configuration_of_functions(
    sim: Simulator, choice: str, dropped: tuple[str, ...]
) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "web_search_options": {}, "tool_choice": choice}
    answer = Translate().whole(call_to(sim, "gemini", {"model": "alias", **asked}))
    assert answer.dropped_params == dropped
    assert (sim.requests[-1].body or {})["tools"] == [{"googleSearch": {}}]


def test_more_stop_sequences_than_openai_takes_are_left_out_and_named() -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "stop": ["a", "b", "c", "d", "e"]}
    said = spoken(asked, call(None, asked, model="gpt-4o").deployment, streamed=False)
    assert (said.body["stop"], said.dropped) == (["a", "b", "c", "d"], ("stop",))
    elsewhere = spoken(asked, call(None, asked, provider="hosted_vllm").deployment, streamed=False)
    assert elsewhere.body["stop"] == asked["stop"]


def test_what_is_left_out_is_named_and_what_nobody_knows_is_sent(sim: Simulator) -> None:
    body = {
        "messages": [{"role": "user", "content": "Hi", "reasoning_content": "hm"}],
        "top_logprobs": None,
        "logprobs": True,
        "n": 1,
        "temperature": 0.5,
        "store": True,
        "thinking": {},
        "frobnicate": {"deep": [1, None]},
        "tools": [TOOL],
    }
    answer = Relay().whole(to(sim, "groq", body, "groq", "llama-3.3-70b-versatile"))
    assert answer.dropped_params == ("logprobs", "messages[].reasoning_content", "store", "thinking")
    assert sent(sim) == {
        "model": "llama-3.3-70b-versatile",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "frobnicate": {"deep": [1, None]},
        "tools": [TOOL],
    }


def test_a_stream_names_what_was_left_out_too(sim: Simulator) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "verbosity": "low"}
    stream = Relay().stream(to(sim, "mistral", body, "mistral", "mistral-small-latest"))
    read(stream)
    assert stream.dropped_params == ("verbosity",)


@pytest.mark.parametrize(
    ("provider", "model", "given", "expected"),
    [
        ("mistral", "mistral-small-latest", {"seed": 7}, {"random_seed": 7}),
        ("mistral", "mistral-small-latest", {"temperature": 1.9}, {"temperature": 1.5}),
        ("moonshot", "moonshot-v1-8k", {"temperature": 1.2}, {"temperature": 1.0}),
        ("openai", "gpt-5", {"temperature": 1}, {"temperature": 1}),
        ("openai", "gpt-5", {"temperature": 0.2}, {}),
        ("openai", "gpt-5", {"verbosity": "low"}, {"verbosity": "low"}),
        ("openai", "gpt-4o", {"verbosity": "low", "temperature": 0.2}, {"temperature": 0.2}),
        ("openai", "gpt-5.1", {"reasoning_effort": "none", "top_p": 0.5}, {"reasoning_effort": "none", "top_p": 0.5}),
        ("openai", "gpt-5.1", {"reasoning_effort": "low", "top_p": 0.5}, {"reasoning_effort": "low"}),
        ("openai", "gpt-4o", {"metadata": {"a": "b"}}, {}),
        ("openai", "gpt-4o", {"metadata": {"a": "b"}, "store": True}, {"metadata": {"a": "b"}, "store": True}),
        (
            "openai",
            "gpt-4o",
            {"metadata": {"a": "b", "tags": ["x"], "n": 3}, "store": True},
            {"metadata": {"a": "b"}, "store": True},
        ),
        ("openrouter", "some-model", {"metadata": {"tags": ["x"]}}, {}),
        ("custom_openai", "some-model", {"metadata": {"a": "b", "n": 3}}, {"metadata": {"a": "b"}}),
        ("litellm_proxy", "some-model", {"metadata": {"tags": ["x"]}}, {"metadata": {"tags": ["x"]}}),
        ("groq", "llama", {"service_tier": "default"}, {}),
        ("groq", "llama", {"service_tier": "flex"}, {"service_tier": "flex"}),
        ("openrouter", "some-model", {"top_k": 5, "verbosity": "low"}, {"top_k": 5, "verbosity": "low"}),
        ("hosted_vllm", "some-model", {"top_k": 5, "store": False}, {"top_k": 5}),
        ("custom_openai", "some-model", {"store": False, "safety_settings": []}, {"store": False}),
    ],
)
def test_a_parameter_is_sent_as_this_provider_takes_it(
    sim: Simulator, provider: str, model: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    Relay().whole(to(sim, "anyone", {"messages": messages, **given}, provider, model))
    assert sent(sim) == {"model": model, "messages": messages, **expected}


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("flavour", "provider", "model"),
    [
        ("lmstudio", "lm_studio", "some-model"),
        ("lmstudio", "openai", "some-model"),
        ("llamacpp", "custom_openai", "some-model"),
        ("ollama", "ollama", "llama3"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("mistral", "mistral", "mistral-small-latest"),
        ("openai", "openai", "o3-mini"),
        ("openai", "openai", "gpt-5"),
        ("groq", "groq", "llama-3.3-70b-versatile"),
    ],
)
def test_no_server_answers_beyond_the_output_cap(
    sim: Simulator, cap: str, flavour: str, provider: str, model: str
) -> None:
    body = {"messages": [{"role": "user", "content": "one two three four five six"}], cap: 3}
    answer = Relay().whole(to(sim, flavour, body, provider, model))
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3
    assert answer.dropped_params == (), "under its other name the cap is not lost"
    assert len(sim.requests) == 1


@pytest.mark.parametrize(("flavour", "provider", "model"), STRICT_DEPLOYMENTS)
def test_a_parameter_that_is_null_asks_for_nothing_and_is_not_named(
    sim: Simulator, flavour: str, provider: str, model: str
) -> None:
    nothing = dict.fromkeys((*PARAMETERS, *ADDED, "a_parameter_of_tomorrow"))
    answer = Relay().whole(to(sim, flavour, {"messages": CONVERSATION[1:2], **nothing}, provider, model))
    assert answer.dropped_params == ("messages[].cache_control",)
    assert len(sim.requests) == 1


# --- old functions ------------------------------------------------------------------------------------------------

NO_FUNCTIONS = [deployment for deployment in STRICT_DEPLOYMENTS if deployment[0] not in ("openai", "perplexity")]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("flavour", "provider", "model"), NO_FUNCTIONS)
def test_old_functions_are_asked_for_as_tools_and_answered_the_old_way(
    sim: Simulator, flavour: str, provider: str, model: str, streamed: bool
) -> None:
    call = {"name": "f", "arguments": "{}"}
    body = {
        "messages": [
            {"role": "user", "content": "Look it up"},
            {"role": "assistant", "content": None, "function_call": call},
            {"role": "function", "name": "f", "content": None},
            {"role": "user", "content": "call f"},
        ],
        "functions": [TOOL["function"]],
        "function_call": {"name": "f"},
    }
    before = copy.deepcopy(body)
    request = to(sim, flavour, body, provider, model)
    if streamed:
        chunks = read(Relay().stream(request))
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        calls = [choice["delta"]["function_call"] for choice in choices if choice["delta"].get("function_call")]
        answer = {"name": calls[0]["name"], "arguments": "".join(call.get("arguments", "") for call in calls)}
        end = choices[-1]["finish_reason"]
    else:
        (choice,) = Relay().whole(request).body["choices"]
        answer, end = choice["message"]["function_call"], choice["finish_reason"]
        assert "tool_calls" not in choice["message"]
    assert (answer, end) == (call, "function_call")
    asked = sent(sim)
    assert (asked["tools"], asked["tool_choice"]["function"]) == ([TOOL], {"name": "f"})
    assert "functions" not in asked
    _, called, result, *_ = asked["messages"]
    assert called["tool_calls"][0]["function"] == call
    assert result == {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": ""}
    assert body == before


def test_a_refusal_in_parts_is_text_where_only_openai_would_know_it(sim: Simulator) -> None:
    parts = [{"type": "refusal", "refusal": "I cannot say."}]
    user = {"role": "user", "content": "Why?"}
    body = {"messages": [user, {"role": "assistant", "content": parts}, user]}
    for flavour, provider, model in STRICT_DEPLOYMENTS:
        Relay().whole(to(sim, flavour, body, provider, model))
        asked = sim.requests[-1].body
        assert asked is not None
        text = "I cannot say."
        expected: Any = text if flavour == "deepseek" else [{"type": "text", "text": text}]
        if flavour in ("openai", "xai"):
            expected = parts
        assert asked["messages"][1]["content"] == expected


def test_an_empty_turn_that_an_agent_hands_back_is_left_out_where_it_is_refused(sim: Simulator) -> None:
    silence = {"role": "assistant", "content": ""}
    user = {"role": "user", "content": "Go on"}
    for flavour, provider, model in STRICT_DEPLOYMENTS:
        Relay().whole(to(sim, flavour, {"messages": [user, silence, user]}, provider, model))
        asked = sim.requests[-1].body
        assert asked is not None
        assert asked["messages"] == ([user, user] if provider == "mistral" else [user, silence, user])
    sim.reset()
    with pytest.raises(UpstreamError) as raised:
        Relay().whole(to(sim, "mistral", {"messages": [silence]}, "mistral", "mistral-small-latest"))
    assert (raised.value.kind, raised.value.param, sim.requests) == (FailureKind.CAPABILITY, "messages", [])


# --- servers that say more than the table knows -----------------------------------------------------------------


def old_server(sim: Simulator, body: dict[str, Any], model: str) -> UpstreamRequest:
    messages = [{"role": "user", "content": "Say hello"}]
    return to(sim, "oldserver", {"messages": messages, **body}, "openai", model)


def test_a_server_that_refuses_stream_options_is_asked_without_them_and_remembered(sim: Simulator) -> None:
    for _ in range(2):
        assert text_of(read(Relay().stream(old_server(sim, {}, "remembered")))) == "You said: Say hello"
    asked = [set(request.body) - {"model", "messages"} for request in sim.requests if request.body]
    assert asked == [{"stream", "stream_options"}, {"stream"}, {"stream"}]


def test_a_server_that_refuses_a_parameter_is_asked_without_it_and_the_client_is_told(sim: Simulator) -> None:
    answer = Relay().whole(old_server(sim, {"store": True}, "told"))
    assert answer.dropped_params == ("store",)
    assert [request.status for request in sim.requests] == [400, 200]


def test_a_server_that_takes_tags_only_with_store_is_asked_without_them(sim: Simulator) -> None:
    """A server with models of names of its own that passes requests on to OpenAI."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "metadata": {"team": "red"}}
    answer = Relay().whole(to(sim, "openai", body, "custom_openai", "own-name"))
    assert answer.dropped_params == ("metadata",)
    assert [request.status for request in sim.requests] == [400, 200]


def test_a_server_that_refuses_the_caps_name_gets_the_cap_under_the_other(sim: Simulator) -> None:
    request = to(sim, "oldserver", {"messages": [{"role": "user", "content": "a b c d e f"}], "max_tokens": 2},
                 "meta_llama", "renamed")  # fmt: skip
    answer = Relay().whole(request)
    assert answer.usage is not None
    assert answer.usage.output_tokens == 2
    assert [request.status for request in sim.requests] == [400, 200]


def test_what_one_client_was_refused_the_next_may_ask_for(sim: Simulator) -> None:
    refusal = {"error": {"message": "Unsupported value: 'verbosity' does not support 'low'", "param": "verbosity"}}
    request = to(sim, "anyone", {"messages": [{"role": "user", "content": "Hi"}], "verbosity": "low"}, "openai", "own")
    sim.behave("anyone", Behaviour(status=400, body=refusal))
    assert Relay().whole(request).dropped_params == ("verbosity",)
    assert Relay().whole(request).dropped_params == ()
    assert ["verbosity" in (received.body or {}) for received in sim.requests] == [True, False, True]


def test_a_cap_that_is_refused_for_its_value_keeps_its_name(sim: Simulator) -> None:
    refusal = {"error": {"message": "'max_tokens' of 9000 is not supported by this model", "param": "max_tokens"}}
    sim.behave("lmstudio", Behaviour(status=400, body=refusal))
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9000}
    with pytest.raises(UpstreamError):
        Relay().whole(to(sim, "lmstudio", body, "openai", "own"))
    assert len(sim.requests) == 1, "under the other name it might be ignored"


def test_a_refusal_of_what_the_request_cannot_do_without_is_a_refusal(sim: Simulator) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]}
    with pytest.raises(UpstreamError) as raised:
        Relay().whole(to(sim, "perplexity", body, "perplexity", "sonar"))
    assert raised.value.kind is FailureKind.BAD_REQUEST
    assert len(sim.requests) == 1
    assert sent(sim)["tools"] == [TOOL]


# --- translated formats -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "model", "dropped"),
    [
        ("anthropic", "claude-sonnet-4-6", ("frobnicate", "logit_bias", "n", "seed", "store")),
        ("gemini", "gemini-2.5-pro", ("frobnicate", "logit_bias", "store")),
    ],
)
def test_translation_names_what_it_leaves_out(sim: Simulator, wire: str, model: str, dropped: tuple[str, ...]) -> None:
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "seed": 7,
        "n": 2,
        "store": True,
        "frobnicate": 1,
        "temperature": 1,
        "max_completion_tokens": 50,
        "logit_bias": {"1": 1},
        "stop": None,
    }
    request = call(sim.base_url(wire), body, provider=wire, model=model)
    assert Translate().whole(request).dropped_params == dropped
    stream = Translate().stream(request)
    read(stream)
    assert stream.dropped_params == dropped


# --- pages --------------------------------------------------------------------------------------------------------


def test_the_table_of_every_parameter_is_up_to_date() -> None:
    page = every_parameter.page_with(every_parameter.table())
    assert every_parameter.PAGE.read_text("utf-8") == page, "python -m tests.wire.every_parameter writes it anew"


def test_every_rule_of_the_simulator_has_its_source() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "simulator-rules.md").read_text("utf-8")
    for flavour in RULES:
        assert re.search(rf"^\| `{flavour}` \|.*\]\(https://", page, re.MULTILINE), flavour


# --- what a provider refuses of a request that another one takes ------------------------------------------------

CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "Look it up"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "callabcd1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "callabcd1", "content": "one"},
]
HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]


def asked_once(sim: Simulator, flavour: str, body: dict[str, Any], provider: str, model: str) -> tuple[Any, Any]:
    """What the provider was asked, which it took at once, and the answer."""
    before = copy.deepcopy(body)
    answer = Relay().whole(to(sim, flavour, body, provider, model))
    assert body == before, "further attempts send the same request again"
    return sent(sim), answer


@pytest.mark.parametrize("cap", ["max_tokens", "max_completion_tokens"])
def test_openai_is_asked_for_no_more_than_its_model_writes(sim: Simulator, cap: str) -> None:
    """Coding agents ask every model for what Claude writes: 32,000 tokens and more."""
    asked, answer = asked_once(sim, "openai", {"messages": HI, cap: 32_000}, "openai", "gpt-4o")
    assert asked["max_tokens"] == 16_384
    assert answer.dropped_params == (cap,)


@pytest.mark.parametrize(
    ("flavour", "provider", "model", "most"),
    [
        ("deepseek", "deepseek", "deepseek-chat", 8192),
        ("groq", "groq", "llama-3.3-70b-versatile", 32_768),
        ("openai", "custom_openai", "gpt-4.1-own", 32_768),
    ],
)
def test_a_provider_that_writes_less_says_so_once(
    sim: Simulator, flavour: str, provider: str, model: str, most: int
) -> None:
    for _ in range(2):
        answer = Relay().whole(to(sim, flavour, {"messages": HI, "max_tokens": 64_000}, provider, model))
        assert answer.dropped_params == ("max_tokens",)
    assert [(request.status, (request.body or {}).get("max_tokens")) for request in sim.requests] == [
        (400, 64_000),
        (200, most),
        (200, most),
    ]


def test_an_answer_may_be_as_long_as_there_is_room_beside_this_prompt(sim: Simulator) -> None:
    body = {"messages": HI, "max_tokens": 64_000}
    assert Relay().whole(to(sim, "gemma", body, "hosted_vllm", "small-window")).dropped_params == ("max_tokens",)
    Relay().whole(to(sim, "gemma", {**body, "max_tokens": 31_999}, "hosted_vllm", "small-window"))
    caps = [(request.body or {}).get("max_tokens") for request in sim.requests]
    assert caps == [64_000, 32_000, 31_999], "the room is this prompt's and is not remembered"


def test_a_prompt_that_leaves_no_room_is_too_long(sim: Simulator) -> None:
    said = (
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the messages, "
        "1000 in the completion)."
    )
    sim.behave("anyone", Behaviour(status=400, body={"error": {"message": said}}))
    with pytest.raises(UpstreamError) as raised:
        Relay().whole(to(sim, "anyone", {"messages": HI, "max_tokens": 1000}, "hosted_vllm", "m"))
    assert (raised.value.kind, len(sim.requests)) == (FailureKind.CONTEXT_WINDOW, 1)


@pytest.mark.parametrize(
    ("model", "given", "effort", "dropped"),
    [
        ("gpt-5.2", "high", "high", ()),
        ("gpt-5.4", "high", None, ("reasoning_effort",)),
        ("gpt-5.4", "none", "none", ()),
        ("gpt-5.6-terra", "high", "none", ("reasoning_effort",)),
        ("gpt-5.6-terra", None, "none", ()),
    ],
)
def test_openais_newest_models_do_not_think_about_functions_in_a_chat(
    sim: Simulator, model: str, given: str | None, effort: str | None, dropped: tuple[str, ...]
) -> None:
    body = {"messages": HI, "tools": [TOOL], **({} if given is None else {"reasoning_effort": given})}
    asked, answer = asked_once(sim, "openai", body, "openai", model)
    assert (asked.get("reasoning_effort"), answer.dropped_params) == (effort, dropped)


def test_a_model_of_tomorrow_says_itself_that_it_does_not_think_about_functions(sim: Simulator) -> None:
    body = {"messages": HI, "tools": [TOOL]}
    Relay().whole(to(sim, "openai", body, "custom_openai", "gpt-5.7-at-a-proxy"))
    said = "Function tools with reasoning_effort are not supported for x. To use function tools, use /v1/responses or "
    refusal = {"error": {"message": f"{said}set reasoning_effort to 'none'.", "param": "reasoning_effort"}}
    sim.behave("anyone", Behaviour(status=400, body=refusal))
    Relay().whole(to(sim, "anyone", body, "custom_openai", "x"))
    assert (sim.requests[-1].body or {})["reasoning_effort"] == "none"


@pytest.mark.parametrize(
    ("flavour", "provider", "model", "given", "effort"),
    [
        ("openai", "openai", "gpt-5", "none", "minimal"),
        ("openai", "openai", "gpt-5", "xhigh", "high"),
        ("openai", "openai", "gpt-5.1", "minimal", "low"),
        ("openai", "openai", "gpt-5.1", "xhigh", "high"),
        ("openai", "openai", "gpt-5.1", "max", "high"),
        ("openai", "openai", "o3", "minimal", "low"),
        ("groq", "groq", "openai/gpt-oss-120b", "xhigh", "high"),
        ("groq", "groq", "openai/gpt-oss-120b", "minimal", "low"),
        ("groq", "groq", "qwen/qwen3-32b", "high", None),
        ("groq", "groq", "llama-3.3-70b-versatile", "low", None),
    ],
)
def test_who_asks_for_an_effort_that_a_model_has_not_gets_the_nearest(  # noqa: PLR0917 - a table
    sim: Simulator, flavour: str, provider: str, model: str, given: str, effort: str | None
) -> None:
    body = {"messages": HI, "reasoning_effort": given}
    answer = Relay().whole(to(sim, flavour, body, provider, model))
    assert (sim.requests[-1].body or {}).get("reasoning_effort") == effort
    assert answer.dropped_params == ("reasoning_effort",)


@pytest.mark.parametrize(
    "said",
    [
        "Model grok-9 does not support parameter presencePenalty.",
        "Failed to deserialize the JSON body: presence_penalty: unknown variant `0.5`, expected one of `x`",
        "[{'type': 'literal_error', 'loc': ('body', 'presence_penalty'), 'msg': \"Input should be 0\"}]",
        "invalid presence_penalty: only 0 is allowed for this model",
    ],
)
def test_a_parameter_is_recognised_however_the_server_writes_it(sim: Simulator, said: str) -> None:
    sim.behave("anyone", Behaviour(status=400, body={"error": said}))
    answer = Relay().whole(to(sim, "anyone", {"messages": HI, "presence_penalty": 0.5}, "custom_openai", "own"))
    assert answer.dropped_params == ("presence_penalty",)


def test_a_choice_of_several_functions_names_them_as_they_are_told(sim: Simulator) -> None:
    tool = {"type": "function", "function": {"name": "a.b", "parameters": {"type": "object", "properties": {}}}}
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "a.b"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    asked, _ = asked_once(
        sim, "openai", {"messages": HI, "tools": [tool, TOOL], "tool_choice": choice}, "openai", "gpt-4o"
    )
    assert asked["tool_choice"]["allowed_tools"]["tools"][0]["function"]["name"] == "a_b"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", ["mcp.server/tool", "mcp__" + "x" * 90])
def test_a_function_with_a_name_that_openai_refuses_is_called_by_its_own_name(
    sim: Simulator, name: str, streamed: bool
) -> None:
    parameters = {"type": "object", "properties": {}}
    function = {"name": name, "parameters": parameters}
    other = {"name": "mcp_server_tool", "parameters": parameters}
    messages = copy.deepcopy(CALLED)
    messages[1]["tool_calls"][0]["function"]["name"] = name
    body = {
        "messages": [*messages, {"role": "user", "content": f"call {name}"}],
        "tools": [{"type": "function", "function": each} for each in (other, function)],
        "tool_choice": {"type": "function", "function": {"name": name}},
    }
    before = copy.deepcopy(body)
    request = to(sim, "openai", body, "openai", "gpt-4o")
    if streamed:
        choices = [choice for chunk in read(Relay().stream(request)) for choice in chunk["choices"]]
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls") or ()]
        called = [call["function"]["name"] for call in calls if call["function"].get("name")]
    else:
        (choice,) = Relay().whole(request).body["choices"]
        called = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
    assert called == [name]
    asked = sent(sim)
    told = asked["tools"][1]["function"]["name"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", told)
    assert told != "mcp_server_tool"
    assert asked["tool_choice"]["function"]["name"] == told
    assert asked["messages"][1]["tool_calls"][0]["function"]["name"] == told
    assert body == before


ITEM = {"type": "object", "properties": {"a": {"type": "array", "items": {}}}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {"type": "object", "properties": {}}),
        (None, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        (
            {"type": "object", "properties": {"a": {"type": "array"}}},
            {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object"}}},
            {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}},
        ),
        ({"$ref": "#/$defs/A", "$defs": {"A": ITEM}}, {**ITEM, "$defs": {"A": ITEM}}),
        ({"anyOf": [ITEM, {"type": "object", "properties": {"b": {}}}]},
         {"type": "object", "properties": {"a": {"type": "array", "items": {}}, "b": {}}}),
        (ITEM, ITEM),
    ],
)  # fmt: skip
def test_a_tools_schema_is_one_that_openai_takes(sim: Simulator, given: Any, told: Any) -> None:
    """Tools without parameters come from MCP as `{"type": "object"}`."""
    body = {"messages": HI, "tools": [{"type": "function", "function": {"name": "f", "parameters": given}}]}
    asked, answer = asked_once(sim, "openai", body, "openai", "gpt-4o")
    assert asked["tools"][0]["function"]["parameters"] == told
    assert answer.dropped_params == ()


def test_mistral_hears_the_user_right_after_a_tool(sim: Simulator) -> None:
    body = {"messages": [*CALLED, {"role": "user", "content": "And?"}], "tools": [TOOL]}
    asked, _ = asked_once(sim, "mistral", body, "mistral", "mistral-small-latest")
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "tool", "assistant", "user"]
    assert asked["messages"][3]["content"] == " ", "nobody's words are invented"


def test_mistral_goes_on_with_a_begun_answer(sim: Simulator) -> None:
    body = {"messages": [*HI, {"role": "assistant", "content": "Hel"}]}
    asked, _ = asked_once(sim, "mistral", body, "mistral", "mistral-small-latest")
    assert asked["messages"][-1] == {"role": "assistant", "content": "Hel", "prefix": True}


def test_perplexity_hears_the_sides_by_turns(sim: Simulator) -> None:
    parts = [{"type": "text", "text": "C"}]
    body = {
        "messages": [
            {"role": "user", "content": "A"},
            {"role": "system", "content": "S"},
            {"role": "user", "content": "B"},
            {"role": "assistant", "content": "x"},
            {"role": "assistant", "content": "y"},
            {"role": "user", "content": "B"},
            {"role": "user", "content": parts},
        ]
    }
    asked, _ = asked_once(sim, "perplexity", body, "perplexity", "sonar")
    assert asked["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A\n\nB"},
        {"role": "assistant", "content": "x\n\ny"},
        {"role": "user", "content": [{"type": "text", "text": "B"}, *parts]},
    ]


@pytest.mark.parametrize(("flavour", "provider"), [("qwen", "hosted_vllm"), ("gemma", "custom_openai")])
def test_a_template_that_wants_an_order_says_so_once(sim: Simulator, flavour: str, provider: str) -> None:
    messages = [
        {"role": "system", "content": "S"},
        *HI,
        {"role": "assistant", "content": "Hello"},
        {"role": "system", "content": "T"},
        *HI,
    ]
    for _ in range(2):
        Relay().whole(to(sim, flavour, {"messages": messages}, provider, f"ordered-{flavour}"))
    assert [request.status for request in sim.requests] == [400, 200, 200]
    told = (sim.requests[-1].body or {})["messages"]
    assert told == [{"role": "system", "content": "S\n\nT"}, *HI, messages[2], *HI]


@pytest.mark.parametrize(
    ("flavour", "provider", "model"),
    [("deepseek", "deepseek", "deepseek-v4-pro"), ("moonshot", "moonshot", "kimi-k2.5")],
)
def test_a_thinker_is_told_of_calls_that_another_model_made(
    sim: Simulator, flavour: str, provider: str, model: str
) -> None:
    messages = [*CALLED, {"role": "assistant", "content": "One", "reasoning_content": "hm"}, *HI]
    asked, answer = asked_once(sim, flavour, {"messages": messages, "tools": [TOOL]}, provider, model)
    thoughts = [message.get("reasoning_content") for message in asked["messages"] if message["role"] == "assistant"]
    assert thoughts == [" ", "hm"]
    assert answer.dropped_params == ()


def test_a_server_that_asks_thoughts_back_gets_them_from_then_on(sim: Simulator) -> None:
    body = {"messages": [*CALLED, {"role": "user", "content": "And?"}], "tools": [TOOL]}
    for _ in range(2):
        Relay().whole(to(sim, "deepseek", body, "custom_openai", "own-v4"))
    assert [request.status for request in sim.requests] == [400, 200, 200]


@pytest.mark.parametrize(
    ("flavour", "provider", "model"),
    [("deepseek", "deepseek", "deepseek-v4-flash"), ("moonshot", "moonshot", "kimi-k2.5")],
)
@pytest.mark.parametrize(
    ("given", "thinking", "choice", "dropped"),
    [
        ({}, {"type": "disabled"}, "required", ()),
        ({"thinking": {"type": "disabled"}}, {"type": "disabled"}, "required", ()),
        ({"thinking": {"type": "enabled"}}, {"type": "enabled"}, "auto", ("tool_choice",)),
        ({"reasoning_effort": "high"}, None, "auto", ("tool_choice",)),
    ],
)
def test_a_thinker_calls_the_tool_that_is_asked_for(  # noqa: PLR0917 - a table
    sim: Simulator,
    flavour: str,
    provider: str,
    model: str,
    given: dict[str, Any],
    thinking: Any,
    choice: str,
    dropped: tuple[str, ...],
) -> None:
    body = {"messages": HI, "tools": [TOOL], "tool_choice": "required", **given}
    asked, answer = asked_once(sim, flavour, body, provider, model)
    assert (asked.get("thinking"), asked["tool_choice"], answer.dropped_params) == (thinking, choice, dropped)


def test_a_model_that_must_not_think_unstreamed_does_not(sim: Simulator) -> None:
    request = to(sim, "qwen", {"messages": HI}, "custom_openai", "qwen3-thinking")
    Relay().whole(request)
    assert [request.status for request in sim.requests] == [400, 200]
    assert (sim.requests[-1].body or {})["enable_thinking"] is False
    read(Relay().stream(request))
    assert "enable_thinking" not in (sim.requests[-1].body or {})


def test_every_call_has_its_result_where_a_server_insists_on_it(sim: Simulator) -> None:
    """Agents hand back calls that were interrupted; Claude and Gemini are told of them so, too."""
    messages = [*CALLED[:2], {"role": "user", "content": "Never mind"}]
    Relay().whole(to(sim, "answered", {"messages": messages, "tools": [TOOL]}, "custom_openai", "own-answered"))
    assert [request.status for request in sim.requests] == [400, 200]
    told = (sim.requests[-1].body or {})["messages"]
    assert told == [*CALLED[:2], {"role": "tool", "tool_call_id": "callabcd1", "content": ""}, messages[2]]


@pytest.mark.parametrize("name", ["user", "safety_identifier", "prompt_cache_key"])
def test_a_long_identifier_is_told_by_its_digest(sim: Simulator, name: str) -> None:
    """Claude Code's has 150 characters, and OpenAI takes 64."""
    asked, answer = asked_once(sim, "openai", {"messages": HI, name: "u" * 150}, "openai", "gpt-4o")
    assert re.fullmatch(r"[0-9a-f]{64}", asked[name])
    assert answer.dropped_params == ()
    short = Relay().whole(to(sim, "anyone", {"messages": HI, name: "u" * 64}, "openai", "gpt-4o"))
    assert (sim.requests[-1].body or {})[name] == "u" * 64
    assert short.dropped_params == ()


def test_openai_is_asked_for_json_in_words_where_nobody_has_said_it(sim: Simulator) -> None:
    body = {"messages": [{"role": "system", "content": "S"}, *HI], "response_format": {"type": "json_object"}}
    Relay().whole(to(sim, "openai", body, "openai", "gpt-4o"))
    assert [request.status for request in sim.requests] == [400, 200]
    told = (sim.requests[-1].body or {})["messages"]
    assert [message["role"] for message in told] == ["system", "system", "user"]
    assert "JSON" in told[1]["content"]


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def test_what_a_tool_has_shown_is_shown_by_the_user_where_only_users_show(sim: Simulator) -> None:
    """Claude's and Gemini's tools show pictures; OpenAI's chat has them by the user alone."""
    result = {"role": "tool", "tool_call_id": "callabcd1", "content": [{"type": "text", "text": "A"}, PICTURE]}
    body = {"messages": [*CALLED[:2], result, {"role": "user", "content": "What is it?"}], "tools": [TOOL]}
    before = copy.deepcopy(body)
    for _ in range(2):
        Relay().whole(to(sim, "openai", body, "custom_openai", "own-shows"))
    assert [request.status for request in sim.requests] == [400, 200, 200]
    told = (sim.requests[-1].body or {})["messages"]
    assert told[2]["content"] == [{"type": "text", "text": "A"}]
    assert told[3:] == [{"role": "user", "content": [PICTURE]}, body["messages"][3]]
    assert body == before


def test_deepseek_is_told_texts_and_not_parts(sim: Simulator) -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    called = {name: value for name, value in CALLED[1].items() if name != "content"}
    result = {"role": "tool", "tool_call_id": "callabcd1", "content": parts}
    body = {"messages": [{"role": "user", "content": parts}, called, result]}
    asked, _ = asked_once(sim, "deepseek", body, "deepseek", "deepseek-chat")
    assert [message["content"] for message in asked["messages"]] == ["A\n\nB", "", "A\n\nB"]


def test_functions_are_all_strict_or_none_is_where_a_server_insists_on_it(sim: Simulator) -> None:
    function = {"name": "g", "parameters": {"type": "object", "properties": {}}, "strict": True}
    body = {"messages": HI, "tools": [TOOL, {"type": "function", "function": function}]}
    answer = Relay().whole(to(sim, "cerebras", body, "cerebras", "gpt-oss-120b"))
    assert answer.dropped_params == ("tools[].function.strict",)
    assert [request.status for request in sim.requests] == [400, 200]


def test_notes_that_a_client_keeps_at_a_call_are_its_own(sim: Simulator) -> None:
    messages = copy.deepcopy(CALLED)
    messages[1]["tool_calls"][0] |= {"index": 0, "approxNumTokens": 3}
    asked, _ = asked_once(sim, "groq", {"messages": messages, "tools": [TOOL]}, "groq", "openai/gpt-oss-20b")
    assert asked["messages"][1]["tool_calls"] == CALLED[1]["tool_calls"]


@pytest.mark.parametrize(
    ("said", "most"),
    [
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("`max_completion_tokens` must be less than or equal to `8192`, the maximum value for …", 8192),
        ("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]", 8192),
        (
            "The parameter `max_completion_tokens` specified in the request are not valid: integer above maximum "
            "value, expected a value <= 8192, but got 32000 instead.",
            8192,
        ),
        ("Invalid 'max_tokens': integer above maximum value. Expected a value <= 8192, but got 32000 instead.", 8192),
        ("Invalid value: 'max_tokens is too large: 2. This model supports at most 1 completion tokens'", None),
        ("[{'loc': ('user',), 'input': 'Range of max_tokens should be [1, 2]'}]", None),
    ],
)
def test_only_a_servers_own_words_say_how_much_its_model_writes(said: str, most: int | None) -> None:
    """What is learnt holds for all clients, so none may teach it by words that a server echoes."""
    answer = json.dumps({"error": {"message": said}}).encode()
    assert lesson_of(400, answer, {"max_tokens": 32_000}).most_output == most
