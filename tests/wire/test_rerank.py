"""Rerankings: each provider's own format, costs against litellm's, and that nothing costs more than was held."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.pricing import PriceList, cost_usd
from accounting.usage import Usage
from routing.catalog import Provider, Step
from routing.endpoints.moderations.request import parse_moderations
from routing.endpoints.rerank.request import parse_rerank
from routing.serving.call import Unbounded
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams import price_map, rerank
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError
from routing.upstreams.litellm_import import load
from routing.upstreams.registry import upstream_for
from tests.simulator import Behaviour, Simulator
from tests.simulator.cohere_rerank import searches
from tests.wire.upstream_calls import call_to

PRICES = PriceList.of({"standard": {"search": "0.002", "input": "5", "output": "0"}})
BODY: dict[str, Any] = {"model": "alias", "query": "the cat", "documents": ["a dog", {"text": "the cat"}], "top_n": 2}
RESULTS = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]


def step(provider: str, model: str) -> Step:
    deployment = Deployment(provider, provider, model, None, Timeouts())
    return Step("alias", None, Provider(provider, provider, True, ("env:A",), 1, 5, 0.5, 30), deployment)


@pytest.mark.parametrize(
    ("provider", "model", "answer", "sent", "usage"),
    [
        ("cohere", "rerank-v3.5", {"id": "1", "results": RESULTS, "meta": {"billed_units": {"search_units": 1}}},
         {"top_n": 2}, Usage(quantities={"search": Decimal(1)})),
        ("cohere", "rerank-v5.0-pro", {"id": "1", "results": RESULTS, "meta": {"tokens": {"input_tokens": 9}}},
         {"top_n": 2}, Usage(input_tokens=9)),
        ("jina_ai", "jina-reranker-m0", {"results": RESULTS, "usage": {"total_tokens": 9}},
         {"top_n": 2, "return_documents": False}, Usage(input_tokens=9)),
        ("voyage", "rerank-2.5", {"data": RESULTS, "usage": {"total_tokens": 9}}, {"top_k": 2}, Usage(input_tokens=9)),
        ("infinity", "bge", {"id": "1", "results": RESULTS, "usage": {"prompt_tokens": 9, "total_tokens": 9}},
         {"top_n": 2}, Usage(input_tokens=9)),
        ("hosted_vllm", "bge", {"id": "1", "results": RESULTS, "usage": {"total_tokens": 9}},
         {"top_n": 2}, Usage(input_tokens=9)),
        ("together_ai", "Salesforce/Llama-Rank-V1", {"id": "1", "results": RESULTS, "usage": {"total_tokens": 9}},
         {"top_n": 2}, Usage(input_tokens=9)),
    ],
)  # fmt: skip
def test_each_provider_is_asked_in_its_own_format(
    provider: str, model: str, answer: dict[str, Any], sent: dict[str, Any], usage: Usage
) -> None:
    with Simulator() as sim:
        sim.behave("cohere", forever=Behaviour(body=answer))
        sim.behave("openai", forever=Behaviour(body=answer))
        request = call_to(sim, "openai", BODY, model=model)
        deployment = replace(request.deployment, litellm_provider=provider)
        # A name that the simulator's rules know nothing of, so that each provider's own fields pass.
        ranked = upstream_for(provider).rerank(replace(request, deployment=deployment))
        (asked,) = sim.requests
    assert [each["index"] for each in ranked.body["results"]] == [1, 0]
    assert ranked.usage == usage
    assert asked.body == {"model": model, "query": "the cat", "documents": ["a dog", "the cat"], **sent}
    assert asked.headers["authorization"].startswith("Bearer sk-")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
@pytest.mark.parametrize("provider", ["cohere", "jina_ai", "hosted_vllm"])
def test_an_answer_with_a_score_that_is_no_number_is_none(provider: str, score: float) -> None:
    answer = {"id": "1", "results": [*RESULTS, {"index": 0, "relevance_score": score}], "usage": {"total_tokens": 9}}
    with Simulator() as sim:
        sim.behave("cohere", forever=Behaviour(body=answer))
        sim.behave("openai", forever=Behaviour(body=answer))
        request = call_to(sim, "openai", BODY, model="any")
        deployment = replace(request.deployment, litellm_provider=provider)
        with pytest.raises(UpstreamError) as refused:
            upstream_for(provider).rerank(replace(request, deployment=deployment))
    assert (refused.value.kind, refused.value.consumed) == (FailureKind.MALFORMED, True)


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "gemini", "groq"])
def test_a_provider_that_does_not_rank_is_not_asked(provider: str) -> None:
    with Simulator() as sim:
        request = call_to(sim, "openai", BODY)
        deployment = replace(request.deployment, litellm_provider=provider)
        with pytest.raises(UpstreamError) as refused:
            upstream_for(provider).rerank(replace(request, deployment=deployment))
        assert refused.value.kind is FailureKind.CAPABILITY
        assert sim.requests == []


@pytest.mark.parametrize(
    ("provider", "model", "billed"),
    [
        ("cohere", "rerank-v3.5", {"search_units": 3}),
        ("cohere", "rerank-v4.0-pro", {"search_units": 1}),
        ("azure_ai", "cohere-rerank-v4.0-fast", {"search_units": 7}),
        ("jina_ai", "jina-reranker-m0", {"total_tokens": 12_345}),
        ("voyage", "rerank-2.5-lite", {"total_tokens": 12_345}),
    ],
)
def test_a_ranking_costs_what_litellm_says(provider: str, model: str, billed: dict[str, int]) -> None:
    litellm = load()
    deployment = step(provider, model).deployment
    price, usage = price_map.price_of(provider, model), rerank._usage({"billed_units": billed}, deployment)
    assert price is not None
    assert usage is not None
    answer = litellm.types.rerank.RerankResponse(id="1", results=RESULTS, meta={"billed_units": billed})
    theirs = litellm.completion_cost(
        completion_response=answer, model=f"{provider}/{model}", call_type="rerank", custom_llm_provider=provider
    )
    assert cost_usd(usage, price) == pytest.approx(Decimal(str(theirs)), abs=Decimal("1e-12"))


def test_a_moderation_has_a_price_of_nothing_in_the_map() -> None:
    price = price_map.price_of("openai", "omni-moderation-latest")
    assert price is not None
    assert cost_usd(Usage(input_tokens=1000), price) == Decimal(0)
    call = parse_moderations({"model": "alias", "input": "hello"})
    assert Ceiling.of(call, step("openai", "omni-moderation-latest"), price, Room()).hold_usd == Decimal(0)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
LONG = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 80))


def explore(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        query=TEXTS | LONG,
        documents=st.lists(TEXTS | LONG | st.builds(lambda text: {"text": text}, TEXTS), min_size=1, max_size=8),
        times=st.sampled_from([1, 30]),
        model=st.sampled_from([("cohere", "rerank-v3.5"), ("cohere", "unheard-of"), ("jina_ai", "m"), ("voyage", "m")]),
    )
    def holds(query: str, documents: list[Any], times: int, model: tuple[str, str]) -> None:
        call = parse_rerank({"model": "alias", "query": query, "documents": documents * times})
        ceiling = Ceiling.of(call, step(*model), PRICES, Room())
        assert ceiling.unbounded is None
        assert ceiling.hold_usd is not None
        texts = [rerank.text_of(each) for each in documents * times]
        if model[0] == "cohere":
            bill = cost_usd(Usage(quantities={"search": Decimal(searches(query, texts))}), PRICES)
        else:
            tokens = sum(len(text.encode()) + len(query.encode()) + 8 for text in texts)
            bill = cost_usd(Usage(input_tokens=tokens), PRICES)
        assert bill is not None
        assert ceiling.hold_usd >= bill

    holds()


def test_nothing_that_is_ranked_can_cost_more_than_was_held() -> None:
    explore(80)


def test_a_document_with_a_number_beyond_all_floats_is_counted_all_the_same() -> None:
    call = parse_rerank({**BODY, "documents": [{"text": "a", "weight": float("inf")}]})
    with pytest.raises(Unbounded, match="how much"):
        call.ceiling(step("cohere", "rerank-v3.5"))
    assert call.estimate({}, step("jina_ai", "jina-reranker-m0")).input_tokens > 0
