"""What the operator finds in the log: a JSON line a request, and never a key, an authorization header or a prompt."""

from __future__ import annotations

import json
from decimal import Decimal

import openai
import pytest

from tests.clocks import eventually
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, Row, asks, cost
from tests.simulator import Behaviour, Usage, faults

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def the_line(gateway: Gateway, request_id: str) -> Row:
    """The one line of a request."""
    assert eventually(lambda: gateway.log_lines(event="request", request_id=request_id))
    (line,) = gateway.log_lines(event="request", request_id=request_id)
    return line


@STREAMED
def test_a_request_is_one_line_with_its_cost(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("anthropic")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1000, 100)))
    request_id = f"log-{route.alias}"
    answer = gateway.client().chat.completions.create(
        model=route.alias, stream=stream, extra_headers={"x-request-id": request_id}, **asks()
    )
    if isinstance(answer, openai.Stream):
        list(answer)
    line = the_line(gateway, request_id)
    expected = {
        "level": "info", "logger": "gateway.request", "key": "anonymous", "alias": route.alias,
        "served_alias": route.alias, "provider": route.providers[0], "model": "claude-sonnet-4-6", "attempts": 1,
        "fallback": False, "streamed": stream, "status": 200, "error_code": None, "input_tokens": 1000,
        "output_tokens": 100, "usage_source": "provider", "settled": True,
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert Decimal(line["cost_usd"]) == cost(1000, 100)
    assert isinstance(line["duration_ms"], int)
    assert set(line) >= {"ts", "hold_usd", "first_token_ms"}


def test_a_fallback_says_what_failed_on_the_way(gateway: Gateway) -> None:
    route = gateway.route("openai", "gemini", retries=0)
    gateway.sim.behave(route.providers[0], faults.unavailable())
    request_id = f"log-{route.alias}"
    gateway.client().chat.completions.create(model=route.alias, extra_headers={"x-request-id": request_id}, **asks())
    line = the_line(gateway, request_id)
    assert (line["attempts"], line["fallback"], line["served_alias"]) == (2, True, route.aliases[1])
    (failed,) = gateway.log_lines(event="attempt failed", request_id=request_id)
    assert (failed["provider"], failed["kind"], failed["status"]) == (route.providers[0], "server_error", 503)
    assert (failed["level"], failed["alert"]) == ("warning", False)


def test_a_wrong_provider_key_is_an_alert(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.invalid_key())
    gateway.client().chat.completions.create(model=route.alias, **asks())
    (failed,) = gateway.log_lines(event="attempt failed", provider=route.providers[0])
    assert (failed["level"], failed["alert"], failed["kind"]) == ("error", True, "authentication")


def test_a_refused_budget_says_budget(gateway: Gateway) -> None:
    route = gateway.route("openai")
    budget = gateway.budget(route, "0")
    with pytest.raises(openai.RateLimitError):
        gateway.client().chat.completions.create(model=route.alias, **asks())
    assert eventually(lambda: gateway.log_lines(budget=budget, code="budget_exceeded"))
    line = gateway.log_lines(budget=budget, code="budget_exceeded")[0]
    assert line["event"] == "budget refused a request"
    assert (line["level"], line["limit_usd"], line["spent_usd"]) == ("warning", "0", "0")


def test_an_overrun_is_logged_as_an_error(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(10, 90_000)))
    gateway.client().chat.completions.create(
        model=route.alias, extra_headers={"x-request-id": f"log-{route.alias}"}, **asks()
    )
    assert gateway.entry(route.alias)["overrun"] is True
    (line,) = gateway.log_lines(level="error", request_id=f"log-{route.alias}")
    assert line["event"].startswith("overrun")
    assert Decimal(line["cost_usd"]) == cost(10, 90_000)


def test_no_key_and_no_prompt_is_ever_logged_or_kept(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", "gemini", retries=0)
    ours, marker = gateway.key(), "prompt-marker-7d1f"
    client = gateway.client(api_key=ours)
    question = asks(f"say {marker}", tools=[{"type": "function", "function": {"name": marker}}])
    for provider in route.providers[:2]:
        gateway.sim.behave(provider, faults.invalid_key())
    client.chat.completions.create(model=route.alias, **question)
    gateway.sim.behave(route.providers[0], faults.cut_after(1).but(length=5))
    stream = client.chat.completions.create(model=route.alias, stream=True, **question)
    list(stream)  # the next step goes on with it
    for provider in route.providers:
        gateway.sim.behave(provider, faults.cut_after(1).but(length=5))
    stream = client.chat.completions.create(model=route.alias, stream=True, **question)
    with pytest.raises(openai.APIError):
        list(stream)
    for provider in route.providers:
        gateway.sim.behave(provider, faults.content_filtered())
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=route.alias, **question)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-alias", **question)
    gateway.post(json.dumps(question).encode()[:-1], authorization=f"Bearer {ours}")
    gateway.post(json.dumps({**question, "model": route.alias, "n": marker}).encode(), x_api_key=ours)

    sent = b"".join(request.raw for request in gateway.sim.requests)
    assert marker.encode() in sent  # it did go out, and the keys with it
    received_keys = str([request.headers for request in gateway.sim.requests])
    gateway.wait_settled(route.alias, 4)
    kept = str(gateway.entries(route.alias)) + str(gateway.attempts(route.alias))
    for secret in PROVIDER_KEYS.values():
        assert secret in received_keys
    for secret in (ours, marker, *PROVIDER_KEYS.values()):
        assert secret not in gateway.running.output
        assert secret not in kept
    assert "bearer" not in gateway.running.output.lower()


def test_every_line_that_a_request_leaves_is_json(gateway: Gateway) -> None:
    route = gateway.route("openai", retries=0)
    gateway.sim.behave(route.providers[0], faults.unavailable())
    before = len(gateway.running.output)
    with pytest.raises(openai.InternalServerError):
        gateway.client().chat.completions.create(model=route.alias, **asks())
    assert eventually(lambda: gateway.log_lines(event="request", alias=route.alias))
    lines = [json.loads(line) for line in gateway.running.output[before:].splitlines()]
    assert all(line.keys() >= {"ts", "level", "logger", "event"} for line in lines)
    ours = [line["event"] for line in lines if line["logger"].startswith("gateway.")]
    assert ours == ["attempt failed", "request"]
