"""The contract's error table, row by row: what the official client raises, and that a refusal writes nothing.

The envelope is OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, asks, cost, text_of
from tests.simulator import Behaviour, Usage, faults


def refused(gateway: Gateway, alias: str, *, client: openai.OpenAI | None = None, **parameters: Any) -> Any:
    """The error that the official client raises for a request."""
    with pytest.raises(openai.APIStatusError) as raised:
        (client or gateway.client()).chat.completions.create(model=alias, **{**asks(), **parameters})
    return raised.value


def raised_for(response: httpx.Response) -> openai.APIStatusError:
    """What the official client makes of an answer."""
    return openai.OpenAI(api_key="dummy")._make_status_error_from_response(response)


def assert_is(
    error: Any,
    raised: type[openai.APIStatusError],
    status: int,
    kind_and_code: str,
    param: str | None = None,
    **headers: str | None,
) -> None:
    """`kind_and_code`: the envelope's type and code, as `type/code`. A header that is None must not be there."""
    assert error.body.keys() >= {"message", "type", "param", "code"}
    assert error.__class__ is raised
    assert (error.status_code, f"{error.type}/{error.code}", error.param) == (status, kind_and_code, param)
    assert error.response.headers["content-type"] == "application/json"
    assert error.response.headers["x-request-id"]
    expected = {name.replace("_", "-"): value for name, value in headers.items()}
    assert {name: error.response.headers.get(name) for name in expected} == expected


def tomorrow() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


# --- the request is wrong ---------------------------------------------------------------------------------


def test_a_body_that_is_not_json_is_a_400_invalid_json(gateway: Gateway) -> None:
    with gateway.nothing_written():
        error = raised_for(gateway.post(b'{"model": "gpt-4o", "messages": ['))
    assert_is(error, openai.BadRequestError, 400, "invalid_request_error/invalid_json")


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": [{"content": "Hi"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"model": None}, "missing_required_parameter", "model"),
        ({"model": 7}, "invalid_value", "model"),
        ({"messages": "Hi"}, "invalid_value", "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "invalid_value", "messages[0].content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "invalid_value", "messages[0].content[0]"),
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": 0}, "invalid_value", "max_completion_tokens"),
        ({"max_tokens": 9, "max_completion_tokens": 9}, "invalid_value", "max_tokens"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 1.5}, "invalid_value", "n"),
        ({"stream": "yes"}, "invalid_value", "stream"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"user": 7}, "invalid_value", "user"),
        ({"metadata": []}, "invalid_value", "metadata"),
        ({"tools": {}}, "invalid_value", "tools"),
    ],
)
def test_a_missing_or_wrong_field_is_a_400_that_names_the_field(
    gateway: Gateway, parameters: dict[str, Any], code: str, param: str
) -> None:
    with gateway.nothing_written():
        error = raised_for(gateway.post(json.dumps({"model": "gpt-4o", **asks(), **parameters}).encode()))
    assert_is(error, openai.BadRequestError, 400, f"invalid_request_error/{code}", param)


def test_a_body_that_is_too_large_is_a_413(guarded_gateway: Gateway) -> None:
    client = guarded_gateway.client(api_key=guarded_gateway.key())
    with guarded_gateway.nothing_written():
        error = refused(guarded_gateway, "gpt-4o", client=client, **asks("x" * 1_100_000))
    assert_is(error, openai.APIStatusError, 413, "invalid_request_error/request_too_large")


def test_an_unknown_alias_is_a_404_that_lists_the_aliases(gateway: Gateway) -> None:
    with gateway.nothing_written():
        error = refused(gateway, "gpt-5-nano")
    assert_is(error, openai.NotFoundError, 404, "invalid_request_error/model_not_found", "model")
    assert error.body["message"] == (
        "The model 'gpt-5-nano' does not exist. Use one of: claude-sonnet, gpt-4o, gemini-pro, gemini-flash."
    )


# --- the key is wrong ---------------------------------------------------------------------------------------


def test_a_request_without_a_key_is_a_401(guarded_gateway: Gateway) -> None:
    with guarded_gateway.nothing_written():
        error = raised_for(guarded_gateway.post(json.dumps({"model": "gpt-4o", **asks()}).encode()))
    assert_is(error, openai.AuthenticationError, 401, "invalid_request_error/invalid_api_key")
    assert error.response.headers["www-authenticate"] == "Bearer"


def test_unknown_disabled_and_expired_keys_are_a_401_that_does_not_repeat_them(guarded_gateway: Gateway) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    secrets = ["dummy", guarded_gateway.key(enabled=False), guarded_gateway.key(expires_at=past)]
    for secret in secrets:
        with guarded_gateway.nothing_written():
            error = refused(guarded_gateway, "gpt-4o", client=guarded_gateway.client(api_key=secret))
        assert_is(error, openai.AuthenticationError, 401, "invalid_request_error/invalid_api_key")
        assert secret not in str(error.body)


def test_a_key_that_may_not_use_the_alias_is_a_403(gateway: Gateway) -> None:
    client = gateway.client(api_key=gateway.key(allowed_aliases=["gemini-flash"]))
    with gateway.nothing_written():
        error = refused(gateway, "gpt-4o", client=client)
    assert_is(error, openai.PermissionDeniedError, 403, "permission_error/model_not_allowed", "model")
    assert client.chat.completions.create(model="gemini-flash", **asks()).model == "gemini-flash"


def test_a_request_over_a_rate_limit_of_ours_is_a_429_that_says_when_to_retry(gateway: Gateway) -> None:
    route = gateway.route("openai")
    client = gateway.client(api_key=gateway.key(requests_per_minute=1))
    # The minute may end once among these four requests, so at least two of them are over the limit.
    answers = [_outcome(client, route) for _ in range(4)]
    limited = [error for error in answers if error is not None]
    assert len(limited) >= 2
    assert len(gateway.entries(route.alias)) == 4 - len(limited)
    for error in limited:
        assert_is(error, openai.RateLimitError, 429, "rate_limit_error/rate_limit_exceeded")
        assert 1 <= int(error.response.headers["retry-after"]) <= 60
        assert "x-should-retry" not in error.response.headers


def _outcome(client: openai.OpenAI, route: Route) -> Any:
    try:
        client.chat.completions.create(model=route.alias, **asks())
    except openai.APIStatusError as error:
        return error
    return None


# --- the money is not there -------------------------------------------------------------------------------


def test_a_request_under_a_spent_budget_is_a_429_that_says_when_the_budget_resets(gateway: Gateway) -> None:
    route = gateway.route("openai", cap=100)
    budget = gateway.budget(route, "0.01")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1000, 800)))
    gateway.client().chat.completions.create(model=route.alias, **asks())  # it costs 0.010566
    with gateway.nothing_written():
        error = refused(gateway, route.alias, client=gateway.client(max_retries=2))
    assert_is(
        error, openai.RateLimitError, 429, "insufficient_quota/budget_exceeded",
        x_should_retry="false",
    )  # fmt: skip
    left_s = (tomorrow() - datetime.now(UTC)).total_seconds()
    assert left_s - 1 <= int(error.response.headers["retry-after"]) <= left_s + 30
    assert cost(1000, 800) == Decimal("0.010566")
    assert error.body["budget"] == budget
    assert (error.body["limit_usd"], error.body["spent_usd"], error.body["held_usd"]) == ("0.01", "0.010566", "0")
    assert datetime.fromisoformat(error.body["resets_at"]) == tomorrow()
    # The client was told not to retry, so the log has one line and not three.
    assert len(gateway.log_lines(event="budget refused a request", code="budget_exceeded", budget=budget)) == 1


def test_a_budget_of_nothing_refuses_every_request(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.budget(route, "0")
    with gateway.nothing_written():
        error = refused(gateway, route.alias)
    assert_is(error, openai.RateLimitError, 429, "insufficient_quota/budget_exceeded", x_should_retry="false")


def test_a_request_that_fits_once_the_running_ones_settle_may_be_retried(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.budget(route, "0.015")  # room for one hold of 0.0109, not for two
    gateway.sim.behave(route.providers[0], faults.slow_answer(1.5))
    running = threading.Thread(
        target=lambda: gateway.client().chat.completions.create(model=route.alias, **asks("first"))
    )
    running.start()
    assert eventually(lambda: gateway.sim.requests_to(route.providers[0]))
    with gateway.nothing_written():
        error = refused(gateway, route.alias)
    assert_is(
        error, openai.RateLimitError, 429, "insufficient_quota/budget_in_flight",
        retry_after="1", x_should_retry=None,
    )  # fmt: skip
    assert Decimal(error.body["held_usd"]) == gateway.entries(route.alias)[0]["hold_usd"]
    # The official client retries once a second, and succeeds.
    answer = gateway.client(max_retries=3).chat.completions.create(model=route.alias, **asks("second"))
    assert answer.choices[0].message.content == "You said: second"
    running.join()
    assert [entry["state"] for entry in gateway.entries(route.alias)] == ["posted", "posted"]


def test_a_request_larger_than_the_whole_budget_learns_what_would_fit(gateway: Gateway) -> None:
    route = gateway.route("openai", cap=4096)
    budget = gateway.budget(route, "0.01")
    with gateway.nothing_written():
        error = refused(gateway, route.alias)
    assert_is(
        error, openai.RateLimitError, 429, "insufficient_quota/request_exceeds_budget",
        x_should_retry="false", retry_after=None,
    )  # fmt: skip
    assert (error.body["budget"], error.body["spent_usd"]) == (budget, "0")
    fits = int(error.body["message"].split("Set max_tokens to ")[1].split(" ")[0])
    with gateway.nothing_written():
        refused(gateway, route.alias, max_tokens=fits + 1)
    answer = gateway.client().chat.completions.create(model=route.alias, max_tokens=fits, **asks())
    assert answer.choices[0].message.content == "You said: Say hello"


def test_a_model_without_a_price_is_a_403_under_a_hard_budget(gateway: Gateway) -> None:
    route = gateway.route("openai", priced=False)
    with gateway.nothing_written():
        error = refused(gateway, route.alias)
    assert_is(error, openai.PermissionDeniedError, 403, "permission_error/model_unpriced", "model")
    assert route.providers[0] in error.body["message"]


# --- the provider says no -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, openai.BadRequestError), (413, openai.APIStatusError), (422, openai.UnprocessableEntityError)],
)
def test_a_rejection_by_the_provider_reaches_the_client_in_the_provider_s_words(
    gateway: Gateway, status: int, kind: type[openai.APIStatusError]
) -> None:
    route = gateway.route("openai", "openai")
    said = {"message": "No such voice: 'x'.", "type": "invalid_request_error", "param": "voice", "code": "bad_voice"}
    gateway.sim.behave(route.providers[0], Behaviour(status=status, body={"error": said}))
    error = refused(gateway, route.alias)
    assert_is(error, kind, status, "invalid_request_error/bad_voice", "voice")
    assert error.body == said
    assert [request.provider for request in gateway.sim.requests] == [route.providers[0]]  # no retry, no fallback
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["error_code"]) == ("voided", status, "bad_voice")
    assert entry["cost_usd"] == 0
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["bad_request"]


@pytest.mark.parametrize("wire", ["anthropic", "gemini"])
def test_a_rejection_in_another_format_becomes_an_openai_error(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire, "openai")
    gateway.sim.behave(route.providers[0], faults.context_length_exceeded())
    error = refused(gateway, route.alias)
    assert error.__class__ is openai.BadRequestError
    assert (error.type, error.code) == ("invalid_request_error", "context_length_exceeded")
    assert len(gateway.sim.requests) == 1


# --- every step failed ----------------------------------------------------------------------------------------


def test_when_all_steps_fail_the_client_gets_a_502_with_all_attempts(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", retries=0)
    first, second = route.providers
    gateway.sim.behave(first, faults.unavailable())
    gateway.sim.behave(second, faults.invalid_key())
    error = refused(gateway, route.alias, client=gateway.client(max_retries=2))
    assert_is(
        error, openai.InternalServerError, 502, "upstream_error/all_models_failed",
        x_should_retry="false", x_gateway_attempts="2", x_gateway_alias=route.alias,
    )  # fmt: skip
    assert error.body["attempts"] == [
        {"alias": route.aliases[0], "provider": first, "kind": "server_error", "status": 503},
        {"alias": route.aliases[1], "provider": second, "kind": "authentication", "status": 401},
    ]
    assert "http" not in error.response.text
    assert "sk-" not in error.response.text
    assert len(gateway.sim.requests) == 2  # the client believed x-should-retry
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["cost_usd"]) == ("voided", 502, 0)


def test_when_all_steps_time_out_the_client_gets_a_504(gateway: Gateway) -> None:
    route = gateway.route("openai", "gemini", total_timeout_s=0.3, first_token_timeout_s=0.3)
    for provider in route.providers:
        gateway.sim.behave(provider, faults.silent(5))
    error = refused(gateway, route.alias)
    assert_is(
        error, openai.InternalServerError, 504, "upstream_error/all_models_failed",
        x_should_retry="false", retry_after=None,
    )  # fmt: skip
    assert [attempt["kind"] for attempt in error.body["attempts"]] == ["timeout", "timeout"]


def test_when_all_steps_are_rate_limited_the_client_gets_a_429_with_the_shortest_wait(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", retries=0)
    gateway.sim.behave(route.providers[0], faults.rate_limited(retry_after_s=20))
    gateway.sim.behave(route.providers[1], faults.rate_limited(retry_after_s=7))
    error = refused(gateway, route.alias)
    assert_is(
        error, openai.RateLimitError, 429, "upstream_error/all_models_failed",
        x_should_retry="false", retry_after="7",
    )  # fmt: skip
    assert [attempt["status"] for attempt in error.body["attempts"]] == [429, 429]


def test_a_stream_that_all_steps_fail_is_an_error_and_not_a_stream(gateway: Gateway) -> None:
    route = gateway.route("openai", retries=0)
    gateway.sim.behave(route.providers[0], faults.cut_after(0))
    error = refused(gateway, route.alias, stream=True)
    assert_is(error, openai.InternalServerError, 502, "upstream_error/all_models_failed", x_should_retry="false")


# --- a stream breaks after its first content ------------------------------------------------------------------


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("fault", [faults.cut_after(3), faults.cut_after(3, "reset"), faults.error_after(3)])
def test_a_broken_stream_ends_with_an_error_event_and_without_done(
    gateway: Gateway, wire: str, fault: Behaviour
) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], fault.but(length=8))
    received: list[Any] = []
    stream = gateway.client().chat.completions.create(model=route.alias, stream=True, **asks())
    with pytest.raises(openai.APIError, match="incomplete") as raised:
        received.extend(chunk for chunk in stream)
    assert raised.value.code == "stream_interrupted"
    assert raised.value.type == "upstream_error"
    assert len(text_of(received).split()) == 3
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["error_code"]) == ("posted", "stream_interrupted")
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"]) > 0


def test_the_bytes_of_a_broken_stream_end_with_the_error(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(1).but(length=8))
    answer = gateway.post(json.dumps({"model": route.alias, "stream": True, **asks()}).encode())
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert json.loads(events[-1])["error"]["code"] == "stream_interrupted"
    assert "[DONE]" not in answer.text
