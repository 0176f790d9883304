"""The fallback chain as a client sees it: which provider answers, what the headers say, what the books keep."""

from __future__ import annotations

import base64
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from django.db.models.functions import Now

from accounting.models import LedgerEntry
from routing.models import Fallback, ModelAlias, Provider
from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, asks, cost, text_of
from tests.media import wav
from tests.simulator import Behaviour, Usage, faults

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
FORMATS = pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
#: (fault, its outcome on the books, how often the deployment is called), from the contract's "When the cascade moves".
FAULTS = {
    "429": (faults.rate_limited(), "rate_limited", 2),
    "429, patience asked for": (faults.rate_limited(retry_after_s=0.2), "rate_limited", 2),
    "429, too much patience": (faults.rate_limited(retry_after_s=30), "rate_limited", 1),
    "500": (faults.server_error(), "server_error", 2),
    "502 with a page": (faults.bad_gateway(), "server_error", 2),
    "503": (faults.unavailable(), "server_error", 2),
    "504 with a page": (faults.gateway_timeout(), "server_error", 2),
    "overloaded": (faults.overloaded(), "server_error", 2),
    "reset": (faults.reset_before_headers(), "connection", 2),
    "silent": (faults.silent(5), "timeout", 1),
    "wrong key": (faults.invalid_key(), "authentication", 1),
    "not permitted": (faults.permission_denied(), "authentication", 1),
    "no such model": (faults.model_not_found(), "not_found", 1),
    "not JSON": (faults.malformed_body(), "malformed", 1),
    "empty": (faults.empty_answer(), "empty", 1),
}


def ask(gateway: Gateway, route: Route, *, stream: bool = False, **parameters: Any) -> tuple[str, dict[str, str]]:
    """The text of the answer and the gateway's headers."""
    answer = gateway.client().chat.completions.with_raw_response.create(
        model=route.alias, stream=stream, **{**asks(), **parameters}
    )
    parsed = answer.parse()
    text = text_of(parsed) if isinstance(parsed, openai.Stream) else parsed.choices[0].message.content or ""
    return text, {name.removeprefix("x-gateway-"): value for name, value in answer.headers.items()}


def called(gateway: Gateway) -> list[str]:
    """The providers in the order in which they were called."""
    return [request.provider for request in gateway.sim.requests]


@pytest.mark.parametrize(
    ("wire", "stream"), [("openai", False), ("openai", True), ("anthropic", True), ("gemini", False)]
)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_step_is_followed_by_the_next_and_the_client_does_not_notice(
    gateway: Gateway, fault: str, wire: str, stream: bool
) -> None:
    behaviour, outcome, tries = FAULTS[fault]
    route = gateway.route(wire, "openai", first_token_timeout_s=0.3, total_timeout_s=0.4 if fault == "silent" else 60)
    first, second = route.providers
    gateway.sim.behave(first, forever=behaviour)
    text, headers = ask(gateway, route, stream=stream)
    assert text == "You said: Say hello"
    assert called(gateway) == [first] * tries + [second]
    assert (headers["alias"], headers["provider"], headers["fallback"]) == (route.aliases[1], second, "true")
    assert headers["attempts"] == str(tries + 1)
    entry = gateway.entry(route.alias)
    assert (entry["served_alias"], entry["provider"], entry["fallback"]) == (route.aliases[1], second, True)
    assert (entry["attempts"], entry["state"], entry["http_status"]) == (tries + 1, "posted", 200)
    outcomes = [attempt["outcome"] for attempt in gateway.attempts(route.alias)]
    assert outcomes == [outcome] * tries + ["answered"]


@STREAMED
def test_a_failure_that_passes_is_answered_by_the_same_provider(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.server_error())
    text, headers = ask(gateway, route, stream=stream)
    assert text == "You said: Say hello"
    assert called(gateway) == [route.providers[0]] * 2
    assert (headers["attempts"], headers["fallback"]) == ("2", "false")
    assert gateway.entry(route.alias)["fallback"] is False


@STREAMED
def test_a_refused_connection_is_followed_by_the_next_step(gateway: Gateway, stream: bool) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound but not listening, so that no other process takes the port
        route = gateway.route("openai", "openai")
        with gateway.orm():
            Provider.objects.filter(name=route.providers[0]).update(
                base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
            )
        text, headers = ask(gateway, route, stream=stream)
    assert (text, headers["attempts"]) == ("You said: Say hello", "3")
    gateway.wait_settled(route.alias)
    outcomes = [(attempt["outcome"], attempt["http_status"]) for attempt in gateway.attempts(route.alias)]
    assert outcomes == [("connection", None), ("connection", None), ("answered", 200)]


@FORMATS
def test_a_provider_that_thinks_for_long_and_shows_that_it_lives_is_waited_for(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire, "openai", first_token_timeout_s=0.5)
    gateway.sim.behave(route.providers[0], faults.slow_first_token(2).but(ping_s=0.2))
    text, headers = ask(gateway, route, stream=True)
    assert (text, headers["provider"], headers["attempts"]) == ("You said: Say hello", route.providers[0], "1")
    assert gateway.entry(route.alias)["usage_source"] == "provider"


@pytest.mark.parametrize(("model", "answers"), [("gpt-5", True), ("gpt-4o", False)])
def test_a_model_that_thinks_in_silence_is_waited_for_longer_than_others(
    gateway: Gateway, model: str, answers: bool
) -> None:
    route = gateway.route("openai", "anthropic", model=model, first_token_timeout_s=0.5)
    gateway.sim.behave(route.providers[0], faults.slow_answer(1.5))
    _, headers = ask(gateway, route, stream=True)
    assert (headers["provider"] == route.providers[0]) is answers


@FORMATS
@pytest.mark.parametrize(
    "fault", [faults.cut_after(0), faults.stall_after(0), faults.slow_first_token(5), faults.error_after(0)]
)
def test_a_stream_that_fails_before_its_first_content_is_invisible(
    gateway: Gateway, wire: str, fault: Behaviour
) -> None:
    route = gateway.route(wire, "anthropic", retries=0, first_token_timeout_s=0.4)
    gateway.sim.behave(route.providers[0], forever=fault)
    chunks = list(gateway.client().chat.completions.create(model=route.alias, stream=True, **asks()))
    assert text_of(chunks) == "You said: Say hello"
    assert {chunk.model for chunk in chunks} == {route.aliases[1]}
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert called(gateway) == list(route.providers)


def test_the_chain_is_taken_in_its_order(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", "gemini", "openai", retries=0)
    for provider in route.providers[:3]:
        gateway.sim.behave(provider, faults.unavailable())
    text, headers = ask(gateway, route)
    assert text == "You said: Say hello"
    assert called(gateway) == list(route.providers)
    assert headers["attempts"] == "4"
    attempts = gateway.attempts(route.alias)
    assert [attempt["position"] for attempt in attempts] == [1, 2, 3, 4]
    assert [attempt["provider"] for attempt in attempts] == list(route.providers)
    assert [attempt["alias"] for attempt in attempts] == list(route.aliases)
    assert [attempt["http_status"] for attempt in attempts] == [503, 503, 503, 200]


#: Claude hears no sound.
_SOUND: list[Any] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is said?"},
            {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(1)).decode(), "format": "wav"}},
        ],
    }
]


@STREAMED
def test_a_step_that_cannot_take_the_request_is_passed_by(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai", "anthropic", "openai", retries=0)
    gateway.sim.behave(route.providers[0], faults.unavailable())
    _, headers = ask(gateway, route, stream=stream, messages=_SOUND)
    assert called(gateway) == [route.providers[0], route.providers[2]]
    assert (headers["provider"], headers["attempts"]) == (route.providers[2], "3")
    outcomes = [attempt["outcome"] for attempt in gateway.attempts(route.alias)]
    assert outcomes == ["server_error", "capability", "answered"]


@STREAMED
def test_when_no_step_can_take_the_request_the_client_hears_what_is_in_the_way(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("anthropic")
    with pytest.raises(openai.BadRequestError) as raised:
        ask(gateway, route, stream=stream, messages=_SOUND)
    assert raised.value.param == "messages[0].content[1]"
    assert called(gateway) == []
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["cost_usd"], entry["http_status"]) == ("voided", 0, 400)


def test_only_the_answer_is_paid_at_the_fallbacks_price(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", retries=0)
    gateway.sim.behave(route.providers[0], faults.server_error())
    gateway.sim.behave(route.providers[1], Behaviour(text="Hi", usage=Usage(1000, 200)))
    _, headers = ask(gateway, route)
    attempts = gateway.attempts(route.alias)
    assert [attempt["cost_usd"] for attempt in attempts] == [0, cost(1000, 200)]
    assert gateway.entry(route.alias)["cost_usd"] == cost(1000, 200)
    assert headers["cost-usd"] == f"{cost(1000, 200):f}"


def test_a_fallback_dearer_than_the_hold_is_held_for_too(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", retries=0)
    with gateway.orm():
        ModelAlias.objects.filter(name=route.aliases[1]).update(output_cap_tokens=4096)
    gateway.sim.behave(route.providers[0], faults.server_error())
    ask(gateway, route)
    first, second = gateway.sim.requests
    assert first.body is not None
    assert second.body is not None
    assert (first.body["max_tokens"], second.body["max_tokens"]) == (1024, 4096)
    assert gateway.entry(route.alias)["hold_usd"] > cost(0, 4096)


def test_a_fallback_that_the_budget_has_no_room_for_is_not_called(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", retries=0)
    with gateway.orm():
        ModelAlias.objects.filter(name=route.aliases[1]).update(output_cap_tokens=4096)
    gateway.budget(route, "0.02", scope_value=route.aliases[1])
    gateway.sim.behave(route.providers[0], faults.server_error())
    with pytest.raises(openai.InternalServerError) as raised:
        ask(gateway, route)
    assert raised.value.status_code == 502
    assert called(gateway) == [route.providers[0]]
    assert gateway.entry(route.alias)["cost_usd"] == 0
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["server_error", "no_room"]
    assert [line["alert"] for line in gateway.log_lines(event="attempt failed", alias=route.aliases[1])] == [False]


def test_a_request_whose_hold_was_expired_meanwhile_asks_nobody_else_and_says_so(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", retries=0)
    with gateway.orm():
        ModelAlias.objects.filter(name=route.aliases[1]).update(output_cap_tokens=4096)
    gateway.sim.behave(route.providers[0], faults.server_error().but(latency_s=3.0))
    client = gateway.client()
    with ThreadPoolExecutor() as threads:
        running = threads.submit(lambda: client.chat.completions.create(model=route.alias, **asks()))
        assert gateway.sim.wait_until(lambda requests: requests)
        with gateway.orm():
            LedgerEntry.objects.filter(alias=route.alias).update(expires_at=Now())
        assert eventually(lambda: gateway.entry(route.alias)["state"] == "unknown")
        with pytest.raises(openai.InternalServerError) as raised:
            running.result()
    assert (raised.value.status_code, raised.value.code) == (503, "hold_lost")
    assert called(gateway) == [route.providers[0]]
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["server_error", "hold_lost"]
    assert (gateway.entry(route.alias)["state"], gateway.entry(route.alias)["error_code"]) == ("voided", "hold_lost")


@pytest.mark.parametrize("scope", ["provider", "alias"])
def test_a_budget_made_meanwhile_bounds_a_fallback_when_it_is_its_provider_s(
    guarded_gateway: Gateway, scope: str
) -> None:
    """The budget of the alias that was asked for counts its own deployments, and none of another alias."""
    gateway = guarded_gateway  # one worker: both requests see the same configuration
    route, other = gateway.route("openai", "openai", retries=0), gateway.route("openai")
    first, second = route.providers
    client = gateway.client(api_key=gateway.key())
    gateway.sim.behave(first, faults.server_error().but(latency_s=1.0))
    with ThreadPoolExecutor() as threads:
        running = threads.submit(lambda: client.chat.completions.create(model=route.alias, **asks()))
        assert gateway.sim.wait_until(lambda requests: requests)
        gateway.budget(route, "0.001", scope=scope, scope_value=second if scope == "provider" else route.alias)
        client.chat.completions.create(model=other.alias, **asks())
        if scope == "provider":
            with pytest.raises(openai.InternalServerError):
                running.result()
            assert called(gateway) == [first, other.providers[0]]
            assert gateway.entry(route.alias)["cost_usd"] == 0
        else:
            assert running.result().choices[0].message.content == "You said: Say hello"
            assert called(gateway) == [first, other.providers[0], second]


@STREAMED
@FORMATS
@pytest.mark.parametrize("fault", [faults.context_length_exceeded(), faults.content_filtered()])
def test_a_request_that_the_provider_rejects_goes_nowhere_else(
    gateway: Gateway, fault: Behaviour, wire: str, stream: bool
) -> None:
    route = gateway.route(wire, "openai")
    gateway.sim.behave(route.providers[0], forever=fault)
    with pytest.raises(openai.BadRequestError):
        ask(gateway, route, stream=stream)
    assert called(gateway) == [route.providers[0]]
    entry = gateway.entry(route.alias)
    assert (entry["attempts"], entry["http_status"], entry["output_tokens"]) == (1, 400, 0)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("context_window", faults.context_length_exceeded()), ("content_policy", faults.content_filtered())],
)
def test_a_rejection_takes_the_chain_that_was_made_for_it(gateway: Gateway, kind: str, fault: Behaviour) -> None:
    route, other = gateway.route("openai", "openai"), gateway.route("gemini")
    with gateway.orm():
        alias, target = (ModelAlias.objects.get(name=name) for name in (route.alias, other.alias))
        Fallback.objects.create(alias=alias, kind=kind, position=1, target=target)
    gateway.sim.behave(route.providers[0], fault)
    text, headers = ask(gateway, route)
    assert text == "You said: Say hello"
    assert called(gateway) == [route.providers[0], other.providers[0]]
    assert (headers["alias"], headers["fallback"]) == (other.alias, "true")


def test_a_provider_without_its_key_is_passed_over(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(key_reference="env:NOBODY_SET_THIS")
    text, headers = ask(gateway, route)
    assert text == "You said: Say hello"
    assert called(gateway) == [route.providers[1]]
    assert headers["attempts"] == "2"
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["no_key", "answered"]
    (line,) = gateway.log_lines(event="attempt failed", provider=route.providers[0])
    assert (line["level"], line["alert"], line["kind"]) == ("error", True, "no_key")


def test_a_deployment_that_keeps_failing_is_skipped_until_its_cool_down_ends(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway  # one worker, so its breakers are the gateway's
    route = gateway.route("openai", "openai", retries=0, breaker_failures=2, breaker_cooldown_s=0.5)
    first, second = route.providers
    gateway.sim.behave(first, faults.unavailable(), faults.unavailable())
    client = gateway.client(api_key=gateway.key())
    for _ in range(3):
        client.chat.completions.create(model=route.alias, **asks())
    assert called(gateway) == [first, second, first, second, second]
    assert [a["outcome"] for a in gateway.attempts(route.alias)][-2:] == ["breaker_open", "answered"]

    def is_back() -> bool:
        client.chat.completions.create(model=route.alias, **asks())
        return called(gateway)[-1] == first

    assert eventually(is_back)


def test_the_steps_of_a_chain_may_be_swapped_between_two_requests(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", "openai", retries=0)
    first, second, third = route.providers
    gateway.sim.behave(first, forever=faults.unavailable())
    _, before = ask(gateway, route)
    with gateway.orm():
        steps = list(Fallback.objects.filter(alias__name=route.alias))
        steps[0].target, steps[1].target = steps[1].target, steps[0].target
        Fallback.objects.filter(alias__name=route.alias).delete()
        Fallback.objects.bulk_create(steps)
    _, after = ask(gateway, route)
    assert (before["provider"], after["provider"]) == (second, third)
