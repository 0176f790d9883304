"""Requests as each provider of OpenAI's format understands them, at simulated providers that are as strict as they."""

from __future__ import annotations

import copy
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.upstreams.base import FailureKind, UpstreamError, UpstreamRequest
from routing.upstreams.dialects import spoken
from routing.upstreams.relay import Relay
from routing.upstreams.translate import FORMATS, Translate
from tests.simulator import Behaviour, Simulator
from tests.simulator.strictness import RULES
from tests.wire import every_parameter
from tests.wire.every_parameter import ADDED, CALL_ID, PARAMETERS, TOOL
from tests.wire.upstream_calls import call, call_to, read, text_of

#: Flavours of the simulator → what is configured to reach them.
STRICT = {
    "openai": [("openai", "gpt-4o"), ("openai", "gpt-5"), ("openai", "o3-mini")],
    "mistral": [("mistral", "mistral-small-latest")],
    "groq": [("groq", "llama-3.3-70b-versatile")],
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
    body = {"messages": [{"role": "assistant", "content": parts}, {"role": "user", "content": "Why?"}]}
    for flavour, provider, model in STRICT_DEPLOYMENTS:
        Relay().whole(to(sim, flavour, body, provider, model))
        asked = sim.requests[-1].body
        assert asked is not None
        expected = parts if flavour in ("openai", "xai") else [{"type": "text", "text": "I cannot say."}]
        assert asked["messages"][0]["content"] == expected


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
