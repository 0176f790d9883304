"""Claude Code, Codex and gemini-cli, unmodified, work twenty steps through the gateway, whoever the provider is and if
it dies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.clients import session
from tests.clients.agents import Agent, ClaudeCode, Codex, GeminiCli
from tests.e2e.gateway import WIRES, Gateway, Route, price
from tests.prices import LONG_AGO
from tests.simulator import faults

REQUESTS = session.STEPS + 1
LIVED = 9  # requests that a provider answers before it dies
PROGRAMS: dict[str, Callable[[Path], Agent]] = {"claude": ClaudeCode, "codex": Codex, "gemini": GeminiCli}


@pytest.fixture(params=PROGRAMS)
def agent(request: pytest.FixtureRequest, programs: Path) -> Agent:
    return PROGRAMS[request.param](programs / request.param)


@pytest.fixture
def work(gateway: Gateway, agent: Agent, folder: Path, tmp_path: Path) -> Callable[[Route], str]:
    home = tmp_path / "home"
    home.mkdir()
    return lambda route: agent.work(gateway.url, route.alias, folder, home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("wire", ["anthropic", "openai", "gemini"])
def test_twenty_steps_are_done_and_cost_what_the_provider_billed(
    gateway: Gateway, agent: Agent, work: Callable[[Route], str], folder: Path, wire: str
) -> None:
    route = route_of(gateway, wire, cap=None)
    gateway.sim.behave(route.providers[0], *session.behaviours(agent.call_of, folder))
    assert work(route) == session.END
    session.assert_done(folder)
    assert billed_of(gateway, route) == [REQUESTS]
    assert spent(gateway, route) == session.cost_of(REQUESTS)


@pytest.mark.parametrize(
    "wires", [("anthropic", "openai"), ("openai", "gemini"), ("gemini", "anthropic")], ids="-".join
)
def test_a_provider_that_dies_between_two_steps_is_not_noticed(
    gateway: Gateway, agent: Agent, work: Callable[[Route], str], folder: Path, wires: tuple[str, str]
) -> None:
    route = route_of(gateway, *wires, cap=None)
    steps = session.behaviours(agent.call_of, folder)
    gateway.sim.behave(route.providers[0], *steps[:LIVED], forever=faults.server_error())
    gateway.sim.behave(route.providers[1], *steps[LIVED:])
    assert work(route) == session.END
    session.assert_done(folder)
    assert billed_of(gateway, route) == [LIVED, REQUESTS - LIVED]
    assert spent(gateway, route) == session.cost_of(REQUESTS)


# Gemini sends a call whole, so nothing breaks in the middle of it.
@pytest.mark.parametrize("wires", [("anthropic", "openai"), ("openai", "gemini")], ids="-".join)
def test_a_provider_that_dies_in_the_middle_of_a_tool_call_is_not_noticed(
    gateway: Gateway, agent: Agent, work: Callable[[Route], str], folder: Path, wires: tuple[str, str]
) -> None:
    route = route_of(gateway, *wires, cap=None)
    steps = session.behaviours(agent.call_of, folder)
    gateway.sim.behave(route.providers[0], *steps[:LIVED], steps[LIVED].but(cut_after=1), forever=faults.unavailable())
    gateway.sim.behave(route.providers[1], *steps[LIVED:])
    assert work(route) == session.END
    session.assert_done(folder)
    broken = [
        attempt for attempt in gateway.attempts(route.alias) if attempt["cost_usd"] and attempt["outcome"] != "answered"
    ]
    assert len(broken) == 1
    assert spent(gateway, route) == session.cost_of(REQUESTS) + broken[0]["cost_usd"]


def route_of(gateway: Gateway, *wires: str, **fields: Any) -> Route:
    """Codex offers OpenAI's search with each request, so its fee must be known under a hard budget."""
    route = gateway.route(*wires, **fields)
    with gateway.orm():
        for name, wire in zip(route.providers, wires, strict=True):
            price(name, WIRES[wire][1], LONG_AGO + timedelta(days=1), search="0.01")
    return route


def billed_of(gateway: Gateway, route: Route) -> list[int]:
    """How many answers each provider has given in full."""
    return [sum(got.status == 200 for got in gateway.sim.requests_to(name)) for name in route.providers]


def spent(gateway: Gateway, route: Route) -> Decimal:
    gateway.wait_settled(route.alias)
    return sum((entry["cost_usd"] for entry in gateway.entries(route.alias)), Decimal(0))
