"""Attempts without a count. One that reached its provider is estimated, and what it may have cost beyond that is kept;
one that a provider does not bill costs nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from routing.models import Provider
from tests.e2e.gateway import Gateway, Route, Row, asks, cost
from tests.simulator import Behaviour, Usage, faults

#: By the simulator's format: providers of the three kinds of upstream, of which litellm's SDK calls the last.
KINDS = {"openai": "openai", "anthropic": "anthropic", "gemini": "gemini", "sdk": "github"}
LIMITS: dict[str, Any] = {"retries": 0, "total_timeout_s": 3, "first_token_timeout_s": 1.5, "idle_timeout_s": 1.5}
SLOW = Behaviour(length=400, token_s=0.1, report_usage=False)

SENT: dict[str, tuple[str, Behaviour, bool, dict[str, str]]] = {
    "whole, silent": ("timeout", faults.silent(), False, {}),
    "whole, silent, at the client's limit": ("timeout", faults.silent(), False, {"x_gateway_timeout": "0.3"}),
    "whole, slow": ("timeout", faults.slow_answer(5), False, {}),
    "whole, reset": ("connection", faults.reset_before_headers(), False, {}),
    "whole, cut": ("connection", faults.cut_after(1), False, {}),
    "whole, malformed": ("malformed", faults.malformed_body(), False, {}),
    "whole, empty": ("empty", faults.empty_answer().but(report_usage=False), False, {}),
    "streamed, silent": ("timeout", faults.silent(), True, {}),
    "streamed, thinking": ("timeout", faults.slow_first_token(5), True, {}),
    "streamed, thinking, at the client's limit": (
        "timeout", faults.slow_first_token(5), True, {"x_gateway_timeout": "0.3"},
    ),
    "streamed, reset": ("connection", faults.reset_before_headers(), True, {}),
    "streamed, in the middle, at the client's limit": ("timeout", SLOW, True, {"x_gateway_timeout": "0.5"}),
    "streamed, too long": ("timeout", SLOW, True, {}),
    "streamed, stalled": ("timeout", faults.stall_after(2), True, {}),
    "streamed, cut": ("interrupted", faults.cut_after(2), True, {}),
    "streamed, reset in the middle": ("interrupted", faults.cut_after(2, "reset"), True, {}),
    "streamed, an error in the middle": ("server_error", faults.error_after(2), True, {}),
    "streamed, empty": ("empty", faults.empty_answer().but(report_usage=False), True, {}),
}  # fmt: skip


def route_to(gateway: Gateway, kind: str, **fields: Any) -> Route:
    route = gateway.route("openai" if kind == "sdk" else kind, **{**LIMITS, **fields})
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(litellm_provider=KINDS[kind])
    return route


def ask(gateway: Gateway, route: Route, *, streamed: bool, **headers: str) -> Any:
    body = asks("Tell me of the sea and of its many ships", model=route.alias, stream=streamed)
    return gateway.post(json.dumps(body).encode(), **headers)


def assert_estimated(gateway: Gateway, route: Route, outcome: str | None = None) -> Row:
    """The route's one attempt has cost what was received of it, and perhaps as much as was held."""
    entry = gateway.entry(route.alias)
    (attempt,) = gateway.attempts(route.alias)
    assert outcome in (None, attempt["outcome"])
    assert attempt["usage_source"] == entry["usage_source"] == "estimated"
    assert attempt["cost_usd"] == cost(attempt["input_tokens"], attempt["output_tokens"]) > 0
    assert attempt["at_most_usd"] == entry["hold_usd"] > attempt["cost_usd"]
    assert (entry["state"], entry["cost_usd"]) == ("posted", attempt["cost_usd"])
    return attempt


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_sent_and_not_counted_is_not_free(gateway: Gateway, kind: str) -> None:
    routes = {case: route_to(gateway, kind) for case in SENT}
    for case, (_, behaviour, _, _) in SENT.items():
        gateway.sim.behave(routes[case].providers[0], behaviour)
    with ThreadPoolExecutor(len(SENT)) as pool:
        for case, (_, _, streamed, headers) in SENT.items():
            pool.submit(ask, gateway, routes[case], streamed=streamed, **headers)
    for case, (outcome, _, _, _) in SENT.items():
        attempt = assert_estimated(gateway, routes[case])
        if kind == "sdk" and outcome == "server_error":
            outcome = "interrupted"  # noqa: PLW2901  of an error in a stream litellm keeps the words alone
        assert attempt["outcome"] == outcome, case


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_is_too_large_to_be_read_is_not_free(gateway: Gateway, streamed: bool) -> None:
    route = route_to(gateway, "openai", total_timeout_s=30, first_token_timeout_s=30)
    gateway.sim.behave(route.providers[0], faults.huge_line(10_000_000) if streamed else faults.gzip_bomb(80_000_000))
    ask(gateway, route, streamed=streamed)
    assert_estimated(gateway, route, "malformed")


def closes(client: socket.socket) -> None:
    client.close()


def resets(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_its_client_leaves_is_not_free(gateway: Gateway, kind: str) -> None:
    cases = [(leave, seen) for leave in (closes, resets) for seen in (b"", b'"content"')]
    routes = [route_to(gateway, kind, total_timeout_s=5, first_token_timeout_s=2) for _ in cases]
    for route, (_, seen) in zip(routes, cases, strict=True):
        gateway.sim.behave(route.providers[0], SLOW if seen else SLOW.but(first_token_s=1.5))

    def begin_and_leave(route: Route, leave: Callable[[socket.socket], None], seen: bytes) -> None:
        body = json.dumps(asks(model=route.alias, stream=True)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        client = gateway.send(head % len(body) + body)
        received = b""
        while seen not in received:
            received += client.recv(4096)
        assert gateway.sim.wait_until(lambda requests: any(r.provider == route.providers[0] for r in requests))
        leave(client)

    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(begin_and_leave, routes, *zip(*cases, strict=True)))
    for route, (_, seen) in zip(routes, cases, strict=True):
        attempt = assert_estimated(gateway, route, "client_closed")
        assert gateway.entry(route.alias)["http_status"] == 499
        assert (attempt["output_tokens"] > 0) >= bool(seen)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_a_stream_that_another_step_goes_on_with_is_not_free(gateway: Gateway, kind: str) -> None:
    route = gateway.route(kind, "openai", **LIMITS)
    gateway.sim.behave(route.providers[0], faults.cut_after(2).but(tokens=("One", " two", " three")))
    gateway.sim.behave(route.providers[1], Behaviour(text=" three four", usage=Usage(40, 9)))
    assert "four" in ask(gateway, route, streamed=True).text
    broken, went_on = gateway.attempts(route.alias)
    assert (broken["outcome"], broken["usage_source"]) == ("interrupted", "estimated")
    assert broken["at_most_usd"] > broken["cost_usd"] == cost(broken["input_tokens"], broken["output_tokens"]) > 0
    assert (went_on["usage_source"], went_on["at_most_usd"], went_on["cost_usd"]) == ("provider", None, cost(40, 9))
    entry = gateway.entry(route.alias)
    assert (entry["usage_source"], entry["cost_usd"]) == ("estimated", broken["cost_usd"] + went_on["cost_usd"])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_provider_refused_or_never_had_is_free(gateway: Gateway, kind: str, streamed: bool) -> None:
    route = route_to(gateway, kind, breaker_failures=1000)
    refusals = [
        faults.rate_limited(), faults.server_error(), faults.bad_gateway(), faults.unavailable(), faults.overloaded(),
        faults.gateway_timeout(), faults.invalid_key(), faults.permission_denied(), faults.model_not_found(),
        faults.context_length_exceeded(), faults.request_too_large(),
        *(() if kind == "gemini" else (faults.content_filtered(),)),  # which counts a prompt that it blocks
    ]  # fmt: skip
    gateway.sim.behave(route.providers[0], *refusals)
    for _ in refusals:
        assert ask(gateway, route, streamed=streamed).status_code >= 400
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(base_url="http://127.0.0.1:1/v1")
    assert ask(gateway, route, streamed=streamed).status_code >= 400
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as clients:
        for _ in range(2):  # nobody accepts them, so nobody else comes in
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        with gateway.orm():
            Provider.objects.filter(name=route.providers[0]).update(base_url=url, connect_timeout_s=0.3)
        assert ask(gateway, route, streamed=streamed).status_code >= 400
    gateway.wait_settled(route.alias, len(refusals) + 2)
    attempts = gateway.attempts(route.alias)
    assert [attempt["outcome"] for attempt in attempts][-2:] == ["connection", "timeout"]
    for attempt in attempts:
        charged = [attempt[name] for name in ("usage_source", "input_tokens", "cost_usd", "at_most_usd")]
        assert charged == ["none", 0, 0, None], attempt
    assert {entry["state"] for entry in gateway.entries(route.alias)} == {"voided"}
