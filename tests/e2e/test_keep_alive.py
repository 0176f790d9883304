"""Comments that keep a stream's client while there is nothing to send it: what they are for, and what still holds.

Under both kinds of workers, each with a gateway of its own."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import within
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, Route, asks, cost, http, text_of
from tests.e2e.launcher import RunningGateway
from tests.simulator import Behaviour, Simulator, ToolCall, Usage, faults

LONG = 60.0  # a first-token limit that nobody meets here
EDIT = ToolCall("edit", json.dumps({"file": "a.py", "text": "x " * 60}))
TOOL = {"type": "function", "function": {"name": "edit", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module", params=["gevent", "gthread"])
def own_gateway(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    sim: Simulator,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Gateway]:
    data_dir = tmp_path_factory.mktemp(f"keep-alive-{request.param}") / "data"
    running = RunningGateway.in_tree(data_dir, GATEWAY_WORKER_CLASS=request.param, **PROVIDER_KEYS)
    try:
        running.wait_until_ready()
        gateway = Gateway(running, EmbeddedPostgres(data_dir / "postgres").dsn(), sim, django_db_blocker)
        yield gateway
        gateway.close()
    finally:
        running.close()


@pytest.fixture
def gateway(own_gateway: Gateway) -> Iterator[Gateway]:
    own_gateway.sim.reset()
    yield own_gateway
    own_gateway.remove_routes()


class Stream:
    """An answer as it came: the moment of each frame, from the request on."""

    def __init__(self, gateway: Gateway, route: Route, **parameters: Any) -> None:
        body = {"model": route.alias, "stream": True, **asks(), **parameters}
        began = time.monotonic()
        self.frames: list[tuple[float, str]] = []
        with http.stream("POST", f"{gateway.url}/v1/chat/completions", json=body, timeout=60) as answer:
            self.status, self.headers = answer.status_code, dict(answer.headers)
            self.begun_s = time.monotonic() - began
            self.frames = [(time.monotonic() - began, line) for line in answer.iter_lines() if line]

    @property
    def comments_s(self) -> list[float]:
        return [at_s for at_s, line in self.frames if line == ": keep-alive"]

    @property
    def events(self) -> list[Any]:
        lines = [line.removeprefix("data: ") for _, line in self.frames if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def text(self) -> str:
        choices = [choice for event in self.events if event != "[DONE]" for choice in event["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    def longest_silence_s(self) -> float:
        moments = [self.begun_s, *(at_s for at_s, _ in self.frames)]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))


def test_an_answer_without_content_for_long_begins_with_comments(gateway: Gateway) -> None:
    route = gateway.route("openai", first_token_timeout_s=LONG)
    gateway.sim.behave(route.providers[0], faults.slow_answer(12))
    seen = Stream(gateway, route)
    assert (seen.status, seen.headers["x-gateway-alias"], seen.headers["x-gateway-attempts"]) == (200, route.alias, "1")
    assert "x-gateway-provider" not in seen.headers
    assert within(seen.begun_s, 8.5, least_s=7.5)
    assert within(seen.longest_silence_s(), 2.5)
    assert len(seen.comments_s) >= 2
    assert (seen.text, seen.events[-1]) == ("You said: Say hello", "[DONE]")
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["usage_source"]) == ("posted", 200, "provider")


def test_the_official_client_does_not_see_them(gateway: Gateway) -> None:
    route = gateway.route("openai", first_token_timeout_s=LONG)
    gateway.sim.behave(route.providers[0], faults.slow_answer(9))
    assert text_of(gateway.client().chat.completions.create(model=route.alias, stream=True, **asks())) == (
        "You said: Say hello"
    )


def test_a_fallback_is_possible_while_only_comments_were_sent(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", first_token_timeout_s=9.5)
    gateway.sim.behave(route.providers[0], faults.silent())
    seen = Stream(gateway, route)
    assert len(seen.comments_s) >= 1
    assert (seen.text, seen.events[-1]) == ("You said: Say hello", "[DONE]")
    assert {event["model"] for event in seen.events if event != "[DONE]"} == {route.aliases[1]}
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["timeout", "answered"]


def test_when_nobody_answers_an_answer_that_has_begun_the_error_is_its_only_event(gateway: Gateway) -> None:
    route = gateway.route("openai", first_token_timeout_s=9)
    gateway.sim.behave(route.providers[0], faults.silent())
    seen = Stream(gateway, route)
    (event,) = seen.events
    assert (seen.status, event["error"]["code"]) == (200, "all_models_failed")
    assert [attempt["kind"] for attempt in event["error"]["attempts"]] == ["timeout"]
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["http_status"], entry["error_code"]) == ("posted", 200, "all_models_failed")
    assert entry["cost_usd"] == cost(entry["input_tokens"], 0) > 0


def test_a_client_that_leaves_while_it_gets_comments_is_noticed(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", first_token_timeout_s=LONG)
    gateway.sim.behave(route.providers[0], faults.silent(40))
    body = json.dumps({"model": route.alias, "stream": True, **asks()}).encode()
    client = gateway.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body, 20
    )
    received = b""
    while b": keep-alive" not in received:
        received += client.recv(4096)
    left_at = time.monotonic()
    client.close()
    gateway.wait_settled(route.alias)
    assert within(time.monotonic() - left_at, 3)
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["error_code"], entry["attempts"]) == (499, "client_closed", 1)
    assert gateway.sim.requests_to(route.providers[1]) == []


def test_a_tool_call_that_is_held_back_is_no_silence(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], Behaviour(tool_calls=(EDIT,), token_s=0.25))
    seen = Stream(gateway, route, tools=[TOOL])
    assert seen.frames[-1][0] > 4
    assert within(seen.longest_silence_s(), 2.5)
    assert len(seen.comments_s) >= 1
    deltas = [choice["delta"] for event in seen.events if event != "[DONE]" for choice in event["choices"]]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls") or ()]
    assert "".join(call.get("arguments") or "" for call in calls) == EDIT.arguments
    assert seen.events[-1] == "[DONE]"


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("ping_s", [0, 0.3], ids=["silent", "pinging"])
def test_a_pause_in_mid_stream_is_no_silence_for_the_client(gateway: Gateway, wire: str, ping_s: float) -> None:
    route = gateway.route(wire)
    counted = Usage(7, 3)
    gateway.sim.behave(
        route.providers[0], faults.stall_after(1, 5).but(tokens=("a", "b", "c"), usage=counted, ping_s=ping_s)
    )
    seen = Stream(gateway, route)
    assert (seen.text, seen.events[-1]) == ("abc", "[DONE]")
    assert within(seen.longest_silence_s(), 2.5)
    assert len(seen.comments_s) == 2
    assert gateway.entry(route.alias)["cost_usd"] == cost(7, 3)


def test_comments_do_not_keep_a_provider_that_stalls(gateway: Gateway) -> None:
    route = gateway.route("openai", idle_timeout_s=3)
    gateway.sim.behave(route.providers[0], faults.stall_after(1, 30))
    seen = Stream(gateway, route)
    assert seen.events[-1]["error"]["code"] == "stream_interrupted"
    assert within(seen.frames[-1][0], 4, least_s=3)
    assert len(seen.comments_s) == 1


def test_a_step_that_takes_long_to_go_on_with_an_answer_is_no_silence(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(2).but(tokens=("one ", "two ", "three")))
    gateway.sim.behave(route.providers[1], faults.slow_answer(5).but(tokens=("three",)))
    seen = Stream(gateway, route)
    assert (seen.text, seen.events[-1]) == ("one two three", "[DONE]")
    assert within(seen.longest_silence_s(), 2.5)
