"""Completions of the old kind as the official client asks for them: natively, by way of chat, and on the books."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from routing.models import ModelAlias
from tests.e2e.gateway import Gateway, Route, cost
from tests.simulator import Behaviour, faults

INSTRUCT = "gpt-3.5-turbo-instruct"


def native(gateway: Gateway, *more: str) -> Route:
    """A route whose first step completes texts; the others chat."""
    route = gateway.route("openai", *more, model=INSTRUCT)
    with gateway.orm():
        for alias, wire in zip(route.aliases[1:], more, strict=True):
            model = {"anthropic": "claude-sonnet-4-6", "openai": "gpt-4o", "gemini": "gemini-2.5-pro"}[wire]
            ModelAlias.objects.filter(name=alias).update(upstream_model=model)
    return route


def priced(gateway: Gateway, *wires: str) -> Route:
    from tests.e2e.gateway import price

    route = native(gateway, *wires)
    with gateway.orm():
        for alias, provider in zip(route.aliases[1:], route.providers[1:], strict=True):
            price(provider, ModelAlias.objects.get(name=alias).upstream_model)
    return route


def complete(gateway: Gateway, alias: str, prompt: Any = "Once upon", **parameters: Any) -> Any:
    return gateway.client().completions.create(model=alias, prompt=prompt, **parameters)


def read(stream: Any) -> tuple[str, Any]:
    """The text of a stream, and its last chunk with a count."""
    text, last = "", None
    for chunk in stream:
        assert chunk.object == "text_completion"
        text += "".join(choice.text for choice in chunk.choices)
        last = chunk.usage or last
    return text, last


def test_the_official_client_is_answered_natively_and_the_books_have_the_cost(gateway: Gateway) -> None:
    route = native(gateway)
    answer = complete(
        gateway, route.alias, user="u-1", max_tokens=50, logprobs=2, extra_body={"metadata": {"team": "a"}}
    )
    assert (answer.object, answer.model) == ("text_completion", route.alias)
    assert answer.choices[0].text == "You said: Once upon"
    assert answer.choices[0].logprobs.tokens == ["You", " said:", " Once", " upon"]
    assert answer.choices[0].finish_reason == "stop"
    (asked,) = gateway.sim.requests_to(route.providers[0])
    assert asked.path.endswith("/v1/completions")
    assert asked.body == {
        "model": INSTRUCT, "prompt": "Once upon", "max_tokens": 50, "logprobs": 2, "user": "u-1",
    }  # fmt: skip
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["end_user"], entry["tags"]) == (
        "completions", "posted", "u-1", {"team": "a"},
    )  # fmt: skip
    assert entry["cost_usd"] == cost(2, 4)
    assert entry["hold_usd"] >= entry["cost_usd"]


def test_a_native_stream_ends_with_its_count_and_cost(gateway: Gateway) -> None:
    route = native(gateway)
    stream = complete(gateway, route.alias, max_tokens=50, stream=True, stream_options={"include_usage": True})
    text, usage = read(stream)
    assert text == "You said: Once upon"
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 4)
    assert Decimal(str(usage.cost_usd)) == cost(2, 4)
    assert gateway.entry(route.alias)["cost_usd"] == cost(2, 4)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
def test_a_chat_model_goes_on_with_the_prompt(gateway: Gateway, wire: str, *, streamed: bool) -> None:
    route = gateway.route(wire)
    answer = complete(gateway, route.alias, "Say hello", max_tokens=50, stream=streamed)
    text = read(answer)[0] if streamed else answer.choices[0].text
    assert text == "You said: Say hello"
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["streamed"]) == ("completions", streamed)
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])


def test_a_request_without_a_cap_gets_the_cap_that_openai_documents(gateway: Gateway) -> None:
    for route in (native(gateway), gateway.route("openai")):
        answer = complete(gateway, route.alias, "word " * 30)
        assert answer.choices[0].finish_reason == "length"
        (asked,) = gateway.sim.requests_to(route.providers[0])
        assert asked.body is not None
        assert asked.body["max_tokens"] == 16


def test_several_prompts_and_choices_are_numbered_as_openai_numbers_them(gateway: Gateway) -> None:
    for route in (native(gateway), gateway.route("openai")):
        answer = complete(gateway, route.alias, ["one", "two"], n=2, max_tokens=50)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        entry = gateway.entry(route.alias)
        assert answer.usage.prompt_tokens == entry["input_tokens"]
        assert answer.usage.completion_tokens == entry["output_tokens"]
        assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])
    assert len(gateway.sim.requests_to(route.providers[0])) == 2


def test_all_that_best_of_makes_is_held_and_charged(gateway: Gateway) -> None:
    route = native(gateway)
    answer = complete(gateway, route.alias, best_of=3, n=1, max_tokens=50)
    assert len(answer.choices) == 1
    entry = gateway.entry(route.alias)
    assert entry["output_tokens"] == 4 + 5 + 5  # the simulator numbers its further answers
    assert cost(0, 150) <= entry["hold_usd"]


def test_tokens_are_sent_as_they_are_and_to_a_chat_model_as_their_text(gateway: Gateway) -> None:
    route = priced(gateway, "openai")
    complete(gateway, route.alias, [15339, 1917])
    (asked,) = gateway.sim.requests_to(route.providers[0])
    assert asked.body is not None
    assert asked.body["prompt"] == [15339, 1917]
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    answer = complete(gateway, route.alias, [15339, 1917])
    assert answer.choices[0].text == "You said: hello world"


@pytest.mark.parametrize("streamed", [False, True])
def test_an_echo_stands_before_the_text_of_a_chat_model_too(gateway: Gateway, *, streamed: bool) -> None:
    for route in (native(gateway), gateway.route("openai")):
        answer = complete(gateway, route.alias, "Say it", echo=True, max_tokens=50, stream=streamed)
        text = read(answer)[0] if streamed else answer.choices[0].text
        assert text == "Say itYou said: Say it"


def test_the_log_probabilities_of_a_chat_are_written_in_the_old_shape(gateway: Gateway) -> None:
    route = gateway.route("openai")
    answer = complete(gateway, route.alias, "Say it", logprobs=1, max_tokens=50)
    found = answer.choices[0].logprobs
    assert found.tokens == ["You", " said:", " Say", " it"]
    assert found.token_logprobs == [-0.25] * 4
    assert found.top_logprobs[1] == {" said:": -0.25}
    assert found.text_offset == [0, 3, 9, 13]


def test_a_failing_step_is_followed_by_one_that_chats_and_a_broken_stream_goes_on_there(gateway: Gateway) -> None:
    route = priced(gateway, "anthropic")
    gateway.sim.behave(route.providers[0], faults.unavailable(), faults.unavailable())
    assert complete(gateway, route.alias, "Say hello", max_tokens=50).choices[0].text == "You said: Say hello"
    gateway.sim.behave(route.providers[0], Behaviour(cut_after=2))
    gateway.sim.behave(route.providers[1], Behaviour(text=" Say hello"))
    text, _ = read(complete(gateway, route.alias, "Say hello", max_tokens=50, stream=True))
    assert text == "You said: Say hello"
    gateway.wait_settled(route.alias, 2)
    assert [entry["provider"] for entry in gateway.entries(route.alias)] == [route.providers[1]] * 2


def test_what_no_chat_model_can_do_is_refused_with_its_name(gateway: Gateway) -> None:
    route = gateway.route("openai")
    for param, more in (
        ("suffix", {"suffix": "the end"}),
        ("max_tokens", {"max_tokens": 0}),
        ("echo", {"echo": True, "logprobs": 1}),
        ("prompt", {"prompt": ["a", "b"], "stream": True}),
        ("prompt", {"prompt": [9_999_999]}),
    ):
        with pytest.raises(openai.APIError) as refused:
            complete(gateway, route.alias, **more)
        assert param in str(refused.value), refused.value
    assert gateway.sim.requests_to(route.providers[0]) == []


def test_what_a_chat_has_no_word_for_is_named(gateway: Gateway) -> None:
    route = gateway.route("openai")
    body = {"model": route.alias, "prompt": "hi", "best_of": 2, "n": 1}
    answer = gateway.post(json.dumps(body).encode(), path="/v1/completions")
    assert answer.headers["x-gateway-dropped-params"] == "best_of"


def test_every_path_of_the_endpoint_answers(gateway: Gateway) -> None:
    route = native(gateway)
    body = json.dumps({"model": route.alias, "prompt": "hello"}).encode()
    for path in (
        "/v1/completions", "/completions", f"/openai/deployments/{route.alias}/completions",
        f"/v1/engines/{route.alias}/completions",
    ):  # fmt: skip
        answer = gateway.post(body, path=path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["object"] == "text_completion"
        assert "x-gateway-cost-usd" in answer.headers


def test_a_hard_budget_holds(gateway: Gateway) -> None:
    route = native(gateway)
    gateway.budget(route, "0.001")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as refused:
        complete(gateway, route.alias, max_tokens=10, best_of=9, n=1)
    assert refused.value.code == "request_exceeds_budget"
    assert complete(gateway, route.alias, max_tokens=10).choices


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt[0]"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "a", "n": 3, "best_of": 2}, "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "suffix": 5}, "suffix"),
        ({"prompt": "a", "echo": 1}, "echo"),
        ({"prompt": "a", "stream_options": {}}, "stream_options"),
        ({"prompt": "a", "parameter_of_tomorrow": 5}, "parameter_of_tomorrow"),  # nobody knows what it costs
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = native(gateway)
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/completions")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_model_that_only_completes_is_not_asked_to_chat(gateway: Gateway) -> None:
    route = native(gateway)
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError, match="/v1/completions"):
        gateway.client().chat.completions.create(model=route.alias, messages=[{"role": "user", "content": "hello"}])
