"""OpenAI's Responses as each kind of upstream asks for them, against the simulator; and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from accounting.pricing import cost_usd
from accounting.usage import Tier, Usage
from routing.upstreams import price_map
from routing.upstreams.base import FailureKind, UpstreamError, UpstreamRequest
from routing.upstreams.litellm_import import load
from routing.upstreams.openai_responses import _finish_reason, failure_of
from routing.upstreams.registry import upstream_for
from routing.upstreams.responses_dialect import NoSuchPath, native, speaks
from routing.upstreams.usage import usage_of_response
from tests.simulator import Behaviour, Simulator, faults
from tests.wire.upstream_calls import call, call_to, read, text_of

BODY: dict[str, Any] = {"model": "gpt-4o", "input": "Say hello", "max_output_tokens": 200}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def ask(request: UpstreamRequest) -> Any:
    return upstream_for(request.deployment.litellm_provider).responses(request)


def test_a_stream_says_in_chats_words_what_its_own_events_say(sim: Simulator) -> None:
    request = call_to(sim, "openai", BODY)
    chunks = read(upstream_for("openai").responses_stream(request))
    assert text_of(chunks) == "You said: Say hello"
    assert [chunk["native"]["type"] for chunk in chunks][-1] == "response.completed"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {"response.created", "response.output_item.done"} <= {chunk["native"]["type"] for chunk in chunks}


@pytest.mark.parametrize(
    ("fault", "kind", "consumed"),
    [
        (faults.rate_limited(), FailureKind.RATE_LIMITED, False),
        (faults.context_length_exceeded(), FailureKind.CONTEXT_WINDOW, False),
        (faults.invalid_key(), FailureKind.AUTHENTICATION, False),
        (faults.malformed_body(), FailureKind.MALFORMED, True),
        (faults.empty_answer(), FailureKind.EMPTY, True),
    ],
)
def test_a_failure_is_told_as_in_a_chat(sim: Simulator, fault: Behaviour, kind: FailureKind, consumed: bool) -> None:
    sim.behave("openai", fault)
    with pytest.raises(UpstreamError) as failed:
        ask(call_to(sim, "openai", BODY))
    assert (failed.value.kind, failed.value.consumed) == (kind, consumed)


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"type": "error", "code": "server_error", "message": "x", "param": None}, FailureKind.OVERLOADED),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "x"}}, FailureKind.BAD_REQUEST),
        (
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "x"}}},
            FailureKind.RATE_LIMITED,
        ),
        ({"object": "response", "status": "failed", "error": {"code": "server_error", "message": "x"}},
         FailureKind.OVERLOADED),
        ({"error": {"message": "No such model", "type": "server_error"}}, FailureKind.OVERLOADED),
    ],
)  # fmt: skip
def test_each_way_to_say_that_it_failed_is_understood(payload: Any, kind: FailureKind) -> None:
    found = failure_of(payload, "")
    assert found is not None
    assert found.kind is kind


@pytest.mark.parametrize("path", ["", "/openai/v1", "/openai/deployments/my-gpt"])
def test_azure_is_asked_at_its_newest_address_with_its_own_header(sim: Simulator, path: str) -> None:
    answer = ask(call(f"{sim.url}/p/azure-1{path}", BODY, provider="azure", model="my-gpt"))
    assert answer.body["output"][0]["content"][0]["text"] == "You said: Say hello"
    (request,) = sim.requests
    assert request.path == "/p/azure-1/openai/v1/responses"
    assert request.headers["api-key"]
    assert "authorization" not in request.headers


def test_azure_without_such_an_address_is_not_asked_so_again(sim: Simulator) -> None:
    request = call(None, BODY, provider="azure", model="my-gpt")
    assert speaks(request.deployment)
    with pytest.raises(NoSuchPath):
        ask(request)
    assert not speaks(request.deployment)
    assert sim.requests == []


def test_a_model_that_is_not_there_does_not_make_its_server_one_without_this_path(sim: Simulator) -> None:
    sim.behave("openai", faults.model_not_found())
    request = call_to(sim, "openai", BODY)
    with pytest.raises(UpstreamError) as failed:
        ask(request)
    assert failed.value.kind is FailureKind.NOT_FOUND
    assert speaks(request.deployment)


def test_xai_is_not_sent_what_it_refuses() -> None:
    request = call(None, provider="xai", model="grok-4")
    asked = native({"model": "alias", "input": "a", "metadata": {"a": "b"}, "store": False}, request.deployment)
    assert asked == {"model": "grok-4", "input": "a", "store": False}


# --- what it costs ----------------------------------------------------------------------------------------------


def response(usage: dict[str, Any], *kinds: str) -> dict[str, Any]:
    items = {
        "search": {"id": "ws_1", "type": "web_search_call", "status": "completed",
                   "action": {"type": "search", "query": "a"}},
        "open": {"id": "ws_2", "type": "web_search_call", "status": "completed",
                 "action": {"type": "open_page", "url": "https://x.org"}},
        "file": {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["a"]},
        "code": {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "container_id": "c", "code": "1",
                 "outputs": None},
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5",
        "output": [items[kind] for kind in kinds], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": usage,
    }  # fmt: skip


def counts(read: int, said: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": read + said,
    }


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4.1", "gpt-4o", "o3"])
@pytest.mark.parametrize("tier", [None, "flex", "priority"])
@pytest.mark.parametrize(
    "usage",
    [counts(1_000, 50), counts(1_000, 50, cached=700), counts(90_000, 9_000, cached=1, reasoning=8_000)],
    ids=["plain", "cached", "reasoning"],
)
def test_a_response_costs_what_litellm_says(model: str, tier: str | None, usage: dict[str, Any]) -> None:
    assert _ours(model, response(usage), tier) == _litellms(model, response(usage), tier)


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4.1", "o3"])
def test_searches_cost_what_litellm_says(model: str) -> None:
    said = response(counts(1_000, 50), "search", "search", "search")
    assert _ours(model, said, None) == _litellms(model, said, None)


def _ours(model: str, said: dict[str, Any], tier: str | None) -> Decimal | None:
    price, usage = price_map.price_of("openai", model), usage_of_response(said, {})
    assert price is not None
    assert usage is not None
    return cost_usd(usage, price, tier=Tier(tier) if tier else Tier.STANDARD)


def _litellms(model: str, said: dict[str, Any], tier: str | None) -> Decimal:
    from litellm.types.llms.openai import ResponsesAPIResponse

    answer = ResponsesAPIResponse(**{**said, "model": model, "service_tier": tier})
    usd = load().completion_cost(
        completion_response=answer, model=model, custom_llm_provider="openai", call_type="responses", service_tier=tier
    )
    return Decimal(str(usd)).quantize(Decimal("1e-12"))


def test_only_what_has_a_fee_is_counted() -> None:
    said = response(counts(10, 5), "search", "open", "open", "file", "file", "code", "code")
    usage = usage_of_response(said, {"tools": [{"type": "web_search", "search_context_size": "high"}]})
    assert usage == Usage(
        input_tokens=10,
        output_tokens=5,
        quantities={
            "search:high": Decimal(1), "tool_call:file_search": Decimal(2), "tool_call:code_interpreter": Decimal(1),
        },
    )  # fmt: skip


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1, "output_tokens": 2}, {"input_tokens": "many"}])
def test_an_absurd_count_is_none(usage: Any) -> None:
    assert usage_of_response({"usage": usage, "output": []}, {}) is None


@pytest.mark.parametrize(
    "item", [{"type": "shell_call", "environment": "x"}, {"type": ["a"]}, {"type": "web_search_call", "action": 5}, 5]
)
def test_an_odd_item_does_not_lose_the_count(item: Any) -> None:
    usage = usage_of_response({"usage": {"input_tokens": 3, "output_tokens": 2}, "output": [item]}, {"tools": []})
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 2)


@pytest.mark.parametrize("details", ["max_output_tokens", 5, ["a"]])
def test_an_odd_end_is_one_of_length(details: Any) -> None:
    assert _finish_reason({"status": "incomplete", "incomplete_details": details}) == "length"
