"""``x-gateway-timeout``: how long a client waits, all attempts together."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from tests.clocks import within
from tests.e2e.gateway import Gateway, asks, cost, text_of
from tests.simulator import Behaviour, faults


def header(value: str) -> dict[str, Any]:
    return {"extra_headers": {"x-gateway-timeout": value}}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_silent_provider_is_waited_for_no_longer_than_the_client_waits(gateway: Gateway, streamed: bool) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], faults.silent())
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as raised:
        gateway.client().chat.completions.create(model=route.alias, stream=streamed, **asks(), **header("0.5"))
    assert within(time.monotonic() - began, 2, least_s=0.5)
    assert (raised.value.status_code, raised.value.code) == (504, "all_models_failed")
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["timeout"], "no time is left for another step"
    assert gateway.sim.requests_to(route.providers[1]) == []
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["usage_source"]) == ("posted", 504, "estimated")
    assert entry["cost_usd"] == cost(entry["input_tokens"], 0) > 0, "the provider has the prompt, and bills it"


def test_a_retry_that_would_come_too_late_is_not_waited_for(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], faults.rate_limited(retry_after_s=3))
    began = time.monotonic()
    answer = gateway.client().chat.completions.create(model=route.alias, **asks(), **header("2"))
    assert within(time.monotonic() - began, 2)
    assert answer.model == route.aliases[1]
    assert len(gateway.sim.requests_to(route.providers[0])) == 1


def test_a_stream_ends_when_the_client_no_longer_waits(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], Behaviour(length=100, token_s=0.1))
    began = time.monotonic()
    received: list[Any] = []
    stream = gateway.client().chat.completions.create(model=route.alias, stream=True, **asks(), **header("1"))
    with pytest.raises(openai.APIError) as raised:
        received.extend(stream)
    assert within(time.monotonic() - began, 2.5, least_s=1)
    assert raised.value.code == "stream_interrupted"
    assert 3 <= len(text_of(received).split()) <= 11
    assert gateway.sim.requests_to(route.providers[1]) == [], "nobody goes on when nobody waits"
    assert gateway.entry(route.alias)["error_code"] == "stream_interrupted"


@pytest.mark.parametrize(
    ("behaviour", "header_s", "streamed"),
    [
        pytest.param(faults.silent(), "0.2", False, id="whole"),
        pytest.param(faults.silent(), "0.2", True, id="before the first token"),
        pytest.param(Behaviour(length=100, token_s=0.1), "0.6", True, id="in the middle"),
    ],
)
def test_a_client_in_a_hurry_opens_no_breaker_for_the_others(
    gateway: Gateway, behaviour: Behaviour, header_s: str, streamed: bool
) -> None:
    route = gateway.route("openai", "anthropic", breaker_failures=1)
    # Until it is told otherwise: on a busy machine the client's time may pass before the provider reads the request.
    gateway.sim.behave(route.providers[0], forever=behaviour)
    ask = {"model": route.alias, "stream": streamed, **asks(), **header(header_s)}
    with pytest.raises(openai.APIError):
        text_of(gateway.client().chat.completions.create(**ask))
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["timeout"]
    assert gateway.log_lines(event="breaker opened", provider=route.providers[0]) == []
    gateway.sim.behave(route.providers[0], forever=Behaviour())
    patient = gateway.client().chat.completions.create(model=route.alias, **asks())
    assert patient.model == route.alias


def test_enough_time_changes_nothing(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", retries=0)
    gateway.sim.behave(route.providers[0], faults.unavailable())
    answer = gateway.client().chat.completions.create(model=route.alias, **asks(), **header("3600"))
    assert answer.model == route.aliases[1]


def test_the_providers_own_limit_is_not_widened(gateway: Gateway) -> None:
    route = gateway.route("openai", total_timeout_s=0.4)
    gateway.sim.behave(route.providers[0], faults.silent())
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError):
        gateway.client().chat.completions.create(model=route.alias, **asks(), **header("60"))
    assert within(time.monotonic() - began, 2)


@pytest.mark.parametrize("value", ["", "soon", "0", "0.09", "-1", "nan", "inf", "3601", "1_0", "1e9", "5s"])
def test_a_wrong_value_is_refused(gateway: Gateway, value: str) -> None:
    route = gateway.route("openai")
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as raised:
        gateway.client().chat.completions.create(model=route.alias, **asks(), **header(value))
    assert (raised.value.code, raised.value.param) == ("invalid_value", "x-gateway-timeout")
    assert "from 0.1 to 3600" in raised.value.message
