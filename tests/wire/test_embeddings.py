"""Embeddings, as each kind of upstream asks for them, against the simulator."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.catalog import Provider as CatalogProvider
from routing.catalog import Step
from routing.endpoints.embeddings.request import parse_embeddings
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError
from routing.upstreams.embeddings import _asked, estimated_usage
from routing.upstreams.providers import facts_of
from routing.upstreams.registry import upstream_for
from tests.simulator import Behaviour, Simulator, faults
from tests.simulator.openai_embeddings import vector
from tests.wire.upstream_calls import call_to


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


BODY: dict[str, Any] = {"model": "alias", "input": ["first", "second"]}


def step(provider: str, model: str) -> Step:
    deployment = Deployment(provider, provider, model, None, Timeouts())
    return Step("alias", None, CatalogProvider(provider, provider, True, ("env:A",), 1, 5, 0.5, 30), deployment)


def embed(sim: Simulator, wire: str, body: dict[str, Any], **options: Any) -> Any:
    options.setdefault("model", "text-embedding-3-small" if wire == "openai" else "gemini-embedding-001")
    request = call_to(sim, wire, body, **options)
    return upstream_for(request.deployment.litellm_provider).embed(request)


@pytest.mark.parametrize("wire", ["openai", "gemini"])
def test_every_text_gets_its_vector_in_the_order_of_the_inputs(sim: Simulator, wire: str) -> None:
    answer = embed(sim, wire, BODY)
    assert [item["index"] for item in answer.body["data"]] == [0, 1]
    assert [item["embedding"] for item in answer.body["data"]] == [vector("first"), vector("second")]


@pytest.mark.parametrize("wire", ["openai", "gemini"])
def test_vectors_come_in_base64_when_the_client_asks_for_it(sim: Simulator, wire: str) -> None:
    answer = embed(sim, wire, {**BODY, "encoding_format": "base64", "dimensions": 4})
    for item, text in zip(answer.body["data"], BODY["input"], strict=True):
        assert struct.unpack("<4f", base64.b64decode(item["embedding"])) == pytest.approx(vector(text, 4))


def test_tokens_go_to_openai_as_they_are_and_to_others_as_their_text(sim: Simulator) -> None:
    tokens = {"model": "alias", "input": [[15339, 1917], [15339]]}
    assert embed(sim, "openai", tokens).body["data"][0]["embedding"] == vector([15339, 1917])
    assert embed(sim, "gemini", tokens).body["data"][0]["embedding"] == vector("hello world")


def test_tokens_that_no_vocabulary_has_are_the_clients_fault(sim: Simulator) -> None:
    with pytest.raises(UpstreamError) as refused:
        embed(sim, "gemini", {"model": "alias", "input": [9_999_999]})
    assert refused.value.kind is FailureKind.BAD_REQUEST
    assert sim.requests == []


def test_more_texts_than_a_provider_takes_are_asked_for_in_several_calls(sim: Simulator) -> None:
    texts = [f"text {number}" for number in range(250)]
    answer = embed(sim, "gemini", {"model": "alias", "input": texts})
    assert [len(request.body["requests"]) for request in sim.requests if request.body] == [100, 100, 50]
    assert [item["embedding"] for item in answer.body["data"]] == [vector(text) for text in texts]


def test_the_counts_of_several_calls_are_added(sim: Simulator) -> None:
    answer = embed(sim, "openai", {"model": "alias", "input": ["one two"] * 2050})
    assert len(sim.requests) == 2
    assert answer.usage.input_tokens == 4100
    assert answer.body["usage"] == {"prompt_tokens": 4100, "total_tokens": 4100}


def test_a_failure_of_a_later_call_has_what_the_earlier_calls_consumed(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(), faults.rate_limited())
    with pytest.raises(UpstreamError) as failed:
        embed(sim, "openai", {"model": "alias", "input": ["one two"] * 2050})
    assert failed.value.kind is FailureKind.RATE_LIMITED
    assert failed.value.usage is not None
    assert failed.value.usage.input_tokens == 4096


def test_one_call_without_a_count_leaves_the_whole_to_be_estimated(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(), Behaviour(report_usage=False))
    assert embed(sim, "openai", {"model": "alias", "input": ["one two"] * 2050}).usage is None


def test_an_answer_with_a_vector_too_few_is_malformed(sim: Simulator) -> None:
    sim.behave("openai", Behaviour(body={"object": "list", "data": [{"index": 0, "embedding": [0.1]}]}))
    with pytest.raises(UpstreamError) as failed:
        embed(sim, "openai", BODY)
    assert failed.value.kind is FailureKind.MALFORMED
    assert failed.value.consumed


def test_anthropic_makes_no_embeddings_and_is_not_asked(sim: Simulator) -> None:
    with pytest.raises(UpstreamError) as refused:
        embed(sim, "anthropic", BODY)
    assert refused.value.kind is FailureKind.CAPABILITY
    assert sim.requests == []


def test_litellm_is_asked_for_the_embeddings_of_its_other_providers(sim: Simulator) -> None:
    request = call_to(sim, "openai", BODY, model="voyage-3-large")
    deployment = replace(request.deployment, litellm_provider="voyage", base_url=sim.base_url("openai") + "/embeddings")
    answer = upstream_for("voyage").embed(replace(request, deployment=deployment))
    assert [item["embedding"] for item in answer.body["data"]] == [vector("first"), vector("second")]
    assert answer.usage is not None
    assert answer.usage.input_tokens == 2


def test_an_estimate_counts_texts_and_tokens() -> None:
    assert estimated_usage({"input": "hello world"}, "text-embedding-3-small").input_tokens == 2
    assert estimated_usage({"input": [[1, 2, 3], [4]]}, "text-embedding-3-small").input_tokens == 4


@given(
    inputs=st.lists(
        st.one_of(st.text(min_size=1, max_size=200), st.lists(st.integers(0, 100_255), min_size=1, max_size=50)),
        min_size=1,
        max_size=20,
    ),
    provider=st.sampled_from(["openai", "gemini", "mistral", "voyage", "hosted_vllm"]),
)
def test_nothing_that_is_sent_has_more_tokens_than_were_held(inputs: list[Any], provider: str) -> None:
    """No tokenizer makes more tokens of a text than it has bytes, and a few for each input."""
    body = {"model": "alias", "input": inputs}
    at = step(provider, "m")
    held = parse_embeddings(body).ceiling(at).input_tokens
    try:
        sent = _asked(body, at.deployment, facts_of(provider, "m", None)).inputs
    except UpstreamError:
        return  # tokens that are no text are refused
    assert held >= sum(len(each.encode()) if isinstance(each, str) else len(each) for each in sent) + 3 * len(sent)


@pytest.mark.parametrize(
    ("vector", "asked"),
    [("no base64 at all!", "float"), ("AAA", "float"), ([1e300], "base64"), ([float(2**128)], "base64")],
)
def test_a_vector_that_is_none_is_the_providers_fault(sim: Simulator, vector: Any, asked: str) -> None:
    sim.behave("openai", Behaviour(body={"data": [{"index": 0, "embedding": vector}], "usage": {"prompt_tokens": 3}}))
    with pytest.raises(UpstreamError) as failed:
        embed(sim, "openai", {"model": "alias", "input": "a", "encoding_format": asked})
    assert (failed.value.kind, failed.value.consumed) == (FailureKind.MALFORMED, True)
    assert failed.value.usage is not None
    assert failed.value.usage.input_tokens == 3
