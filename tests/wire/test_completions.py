"""Completions of the old kind: which deployments have them, and that nothing costs more than was held."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.pricing import PriceList, cost_usd
from accounting.usage import Usage
from routing.catalog import Provider, Step
from routing.endpoints.completions import rendering
from routing.endpoints.completions.request import parse_completions
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams import price_map
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError, UpstreamRequest
from routing.upstreams.completions import asked, is_native, prompts_of
from routing.upstreams.conforming import conforming
from routing.upstreams.kinds import Kind, can_serve, kind_of
from routing.upstreams.litellm_import import load
from routing.upstreams.registry import upstream_for
from tests.clocks import within
from tests.simulator import Behaviour, Simulator
from tests.wire.upstream_calls import call_to, text_of

PRICES = PriceList.of({"standard": {"input": "3", "output": "7"}})


def step(provider: str, model: str, base_url: str | None = None) -> Step:
    deployment = Deployment(provider, provider, model, base_url, Timeouts())
    return Step("alias", None, Provider(provider, provider, True, ("env:A",), 1, 5, 0.5, 30), deployment)


@pytest.mark.parametrize(
    ("provider", "model", "prompt", "expected"),
    [
        ("openai", "gpt-3.5-turbo-instruct", "a", True),
        ("openai", "davinci-002", ["a", "b"], True),
        ("openai", "ft:babbage-002:org::id", [1, 2], True),
        ("azure", "gpt-3.5-turbo-instruct-0914", "a", True),
        ("azure", "gpt-4o", "a", False),
        ("openai", "gpt-4o", "a", False),
        ("hosted_vllm", "any", ["a", "b"], True),
        ("ollama", "llama3", "a", True),
        ("ollama", "llama3", ["a", "b"], False),  # its server reads one text
        ("ollama", "llama3", [1, 2], False),
        ("mistral", "mistral-large-latest", "a", False),  # has another kind, for what stands in the middle
        ("anthropic", "claude-sonnet-4-6", "a", False),
        ("custom_openai", "any", "a", False),
    ],
)
def test_who_completes_a_text_is_asked_to_and_all_others_are_asked_in_a_chat(
    provider: str, model: str, prompt: Any, expected: bool
) -> None:
    assert is_native(Deployment(provider, provider, model, None, Timeouts()), prompt) is expected


def test_a_call_for_a_completion_goes_to_models_that_complete_or_chat() -> None:
    assert kind_of("openai", "davinci-002") is Kind.COMPLETION
    assert can_serve(kind_of("openai", "gpt-4o"), Kind.COMPLETION)
    assert not can_serve(kind_of("openai", "text-embedding-3-small"), Kind.COMPLETION)
    assert not can_serve(kind_of("openai", "davinci-002"), Kind.CHAT)
    assert can_serve(kind_of("ollama", "llama2"), Kind.CHAT)  # litellm says that it completes; it chats as well


@pytest.mark.parametrize("streamed", [False, True])
def test_azure_is_asked_at_the_address_of_the_deployment(*, streamed: bool) -> None:
    body = {"model": "alias", "prompt": "hello", "max_tokens": 9}
    with Simulator() as sim:
        request = call_to(sim, "openai", body, model="gpt-3.5-turbo-instruct")
        deployment = replace(request.deployment, litellm_provider="azure", base_url=sim.url, api_version="2024-10-21")
        upstream, request = upstream_for("azure"), replace(request, deployment=deployment)
        if streamed:
            text = text_of(upstream.complete_stream(request))
        else:
            text = upstream.complete(request).body["choices"][0]["message"]["content"]
        (asked_for,) = sim.requests
    assert text == "You said: hello"
    assert asked_for.path == "/openai/deployments/gpt-3.5-turbo-instruct/completions"
    assert asked_for.query == "api-version=2024-10-21"


@pytest.mark.parametrize("model", ["gpt-3.5-turbo-instruct", "davinci-002", "babbage-002"])
@pytest.mark.parametrize(("input_tokens", "output_tokens"), [(1, 0), (1000, 16), (8191, 4096)])
def test_a_completion_costs_what_litellm_says(model: str, input_tokens: int, output_tokens: int) -> None:
    price = price_map.price_of("openai", model)
    assert price is not None
    ours = cost_usd(Usage(input_tokens=input_tokens, output_tokens=output_tokens), price)
    theirs = load().cost_per_token(
        model=model, prompt_tokens=input_tokens, completion_tokens=output_tokens,
        custom_llm_provider="text-completion-openai",
    )  # fmt: skip
    assert ours == sum((Decimal(str(usd)) for usd in theirs), Decimal(0)).quantize(Decimal("0.000000000001"))


PROMPTS = st.text(min_size=1, max_size=60) | st.lists(st.integers(0, 100_255), min_size=1, max_size=30)


def most_usd(provider: str, sent: Any) -> Decimal:
    """The dearest bill for a body that is sent: a token a byte, and each answer as long as it may be."""
    if "messages" in sent:
        text, answers, suffix = sent["messages"][0]["content"], sent.get("n") or 1, ""
        prompts = [text]
    else:
        prompts, suffix = prompts_of(sent["prompt"]), sent.get("suffix") or ""
        answers = max(sent.get("n") or 1, sent.get("best_of") or 1) * len(prompts)
    tokens = sum(len(each.encode("utf-8", "surrogatepass")) if isinstance(each, str) else len(each) for each in prompts)
    tokens += len(prompts) * (8 + len(suffix.encode()))
    output = answers * (sent.get("max_tokens") or sent.get("max_completion_tokens") or 0)
    cost = cost_usd(Usage(input_tokens=tokens, output_tokens=output), PRICES)
    assert cost is not None
    return cost


def explore(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        prompt=PROMPTS | st.lists(PROMPTS, min_size=1, max_size=4),
        parameters=st.fixed_dictionaries(
            {},
            optional={
                "max_tokens": st.integers(0, 4096),
                "n": st.integers(1, 4),
                "best_of": st.integers(4, 20),
                "echo": st.booleans(),
                "suffix": st.text(max_size=300),
                "logprobs": st.integers(0, 5),
                "stop": st.just("\n"),
            },
        ),
        at=st.sampled_from(
            [("openai", "davinci-002"), ("openai", "gpt-4o"), ("hosted_vllm", "m"), ("ollama", "m"), ("gemini", "m")]
        ),
    )
    def holds(prompt: Any, parameters: dict[str, Any], at: tuple[str, str]) -> None:
        call = parse_completions({"model": "alias", "prompt": prompt, **parameters})
        where = step(*at)
        ceiling = Ceiling.of(call, where, PRICES, Room())
        assert ceiling.unbounded is None
        assert ceiling.hold_usd is not None
        body = call.request_for(where, ceiling.most)
        if "messages" in body:
            sent = [body, *(dict(chat.body) for chat in call.chats[1:])]
        else:
            sent = [asked(UpstreamRequest(where.deployment, "k", body, Timeouts()), streamed=False)]
        assert ceiling.hold_usd >= sum(most_usd(at[0], each) for each in sent)

    holds()


def test_nothing_that_is_sent_can_cost_more_than_was_held() -> None:
    explore(60)


def test_a_suffix_is_read_with_each_prompt() -> None:
    call = parse_completions({"model": "alias", "prompt": ["a", "b", "c"], "suffix": "z" * 1000})
    assert call.ceiling(step("openai", "davinci-002")).input_tokens >= 3 * (1000 + 1)


def test_the_chats_for_several_prompts_end_in_the_time_of_one_attempt() -> None:
    call = parse_completions({"model": "alias", "prompt": ["a", "b", "c"]})
    with Simulator() as sim:
        sim.behave("openai", forever=Behaviour(latency_s=0.4))
        request = call_to(sim, "openai", dict(call.chats[0].body))
        request = replace(request, timeouts=replace(request.timeouts, total_s=1.0))
        began = time.monotonic()
        with pytest.raises(UpstreamError) as failed:
            call.answer_of(upstream_for("openai"), request)
        assert within(time.monotonic() - began, 1.2)
    assert failed.value.kind is FailureKind.TIMEOUT
    assert failed.value.usage is not None


@pytest.mark.parametrize("index", [99, -5, 10**30])
def test_a_choice_may_be_numbered_as_the_provider_likes(index: int) -> None:
    call = parse_completions({"model": "alias", "prompt": "Once", "echo": True})
    choice = {"index": index, "message": {"content": "upon"}, "finish_reason": "stop"}
    (written,) = rendering.whole(call, {"choices": [choice]}, "alias", None)["choices"]
    assert written["text"] == "upon"
    frame = rendering.frames(call, "alias").event({"choices": [{"index": index, "delta": {"content": "upon"}}]})
    assert frame is not None


@pytest.mark.parametrize(
    "likely",
    [7, [7], [{"token": 1, "logprob": 2, "top_logprobs": 7}], [{"top_logprobs": [{"logprob": 1}, 7, {"token": [1]}]}],
     [{"top_logprobs": {"a": 1}}], [{"top_logprobs": None}]],
)  # fmt: skip
def test_odd_log_probabilities_of_a_chat_are_written_all_the_same(likely: Any) -> None:
    call = parse_completions({"model": "alias", "prompt": "Once", "logprobs": 1})
    choice = {"index": 0, "message": {"content": "upon"}, "finish_reason": "stop", "logprobs": {"content": likely}}
    body = conforming({"choices": [choice]})
    (written,) = rendering.whole(call, body, "alias", None)["choices"]
    assert written["text"] == "upon"
    for token in (written["logprobs"] or {}).get("tokens", ()):
        assert isinstance(token, str)
