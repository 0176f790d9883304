"""Somebody wants the gateway to serve nobody else: the short form of tests/torture/torture_abuse.py."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django.plugin import DjangoDbBlocker

from accounting.models import Budget
from gateway_project.embedded_postgres import EmbeddedPostgres
from routing.models import SignInTries
from tests.clocks import SLACK, eventually, within
from tests.e2e.abuse import ATTACKS, Cast, order
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, asks, http
from tests.e2e.launcher import RunningGateway
from tests.simulator import Behaviour, Simulator

ROOT = Path(__file__).parents[2]
LEAST_IDLE_S = 0.05 * SLACK  # what an idle p99 counts at least: below it, the machine's own noise decides
MOST_TIMES = 10  # as long as without the attack
IDLE_S, ATTACKED_S = (float(os.environ.get(name, short)) for name, short in (("ABUSE_IDLE_S", 0.5), ("ABUSE_S", 1.5)))
IS_LONG = "ABUSE_S" in os.environ


@pytest.fixture(scope="module")
def abused(
    tmp_path_factory: pytest.TempPathFactory,
    guarded_postgres: EmbeddedPostgres,
    sim: Simulator,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Gateway]:
    """Two workers with few connections, so that a few hundred clients can fill them."""
    running = RunningGateway.in_tree(
        tmp_path_factory.mktemp("abused"),
        DATABASE_URL=guarded_postgres.url(),
        GATEWAY_AUTH="required",
        WEB_CONCURRENCY="2",
        GATEWAY_KEY_CONCURRENCY="50",
        GUNICORN_CMD_ARGS="--timeout 20 --worker-connections 300 --worker-class tests.e2e.impatient.CrowdedWorker",
        **PROVIDER_KEYS,
    )
    try:
        running.wait_until_ready()
        gateway = Gateway(running, guarded_postgres.dsn(), sim, django_db_blocker)
        assert eventually(lambda: len(workers(gateway)) == 3)
        gateway.point_defaults_at_simulator()
        yield gateway
        gateway.close()
    finally:
        running.close()


class Attacker:
    """The attackers' process: they must share the gateway with the neighbours, and not the interpreter."""

    def __init__(self, gateway: Gateway) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.abuse"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        providers = self._hears()
        openai, stuck, gemini, anthropic = (
            gateway.route(wire, base_url=providers[of]).alias
            for wire, of in (
                ("openai", "openai"),
                ("openai", "stuck"),
                ("gemini", "gemini"),
                ("anthropic", "anthropic"),
            )
        )
        self._cast = Cast(gateway.url, gateway.key(), openai, stuck, gemini, anthropic)

    def begin(self, name: str, attackers: int) -> None:
        self._say(order(name, attackers, self._cast))
        assert self._hears() == "begun"

    def end(self) -> None:
        self._say("\n")
        assert self._hears() == "ended"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _hears(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def attacker(abused: Gateway) -> Iterator[Attacker]:
    with abused.orm():  # large texts are held at their bytes, and this is not about money
        Budget.objects.filter(name="global").update(limit_usd=10**7)
    attacker = Attacker(abused)
    yield attacker
    attacker.close()
    with abused.orm():  # other tests have the same database
        SignInTries.objects.all().delete()
        Budget.objects.filter(name="global").update(limit_usd=1000)
    abused.remove_routes()


class Neighbour:
    """Sends a small chat again and again, and asks for health, each on a new connection."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._raw = json.dumps({"model": gateway.route("openai").alias, **asks(max_tokens=5)}).encode()
        self._secret = gateway.key()

    def p99_s(self, for_s: float) -> float:
        """How long the neighbour waits at the 99th percentile. Nobody refuses him."""
        waits, ends_at = [], time.monotonic() + for_s
        while (began := time.monotonic()) < ends_at:
            assert self.gateway.post(self._raw, api_key=self._secret).status_code == 200
            waits.append(time.monotonic() - began)
            began = time.monotonic()
            assert http.get(f"{self.gateway.url}/health/live").status_code == 200
            waits.append(time.monotonic() - began)
        return statistics.quantiles(waits, n=100)[-1]


@pytest.fixture(scope="module")
def neighbour(abused: Gateway) -> Neighbour:
    return Neighbour(abused)


def workers(gateway: Gateway) -> set[int]:
    """gunicorn's processes; the master is one of them."""
    return {process.pid for process in gateway.running.descendants() if "gunicorn" in " ".join(process.cmdline())}


@pytest.mark.parametrize("name", ATTACKS)
def test_neighbours_hardly_notice(attacker: Attacker, neighbour: Neighbour, name: str) -> None:
    gateway = neighbour.gateway
    before, said = workers(gateway), len(gateway.running.output)
    idle_s = max(neighbour.p99_s(IDLE_S), LEAST_IDLE_S)
    _, few, many = ATTACKS[name]
    attacker.begin(name, many if IS_LONG else few)
    try:
        attacked_s = neighbour.p99_s(ATTACKED_S)
    finally:
        attacker.end()
    print(f"{name}: {attacked_s:.3f} s, {attacked_s / idle_s:.1f} times {idle_s:.3f} s")  # noqa: T201  for the long form
    assert workers(gateway) == before
    assert "WORKER TIMEOUT" not in gateway.running.output[said:]
    assert attacked_s <= MOST_TIMES * idle_s


def test_whoever_leaves_gives_the_place_back_at_once(abused: Gateway) -> None:
    """The provider works on, and its answer is waited for and charged, on no place of the key's."""
    stuck, well, secret = abused.route("openai"), abused.route("openai"), abused.key()
    abused.sim.behave(stuck.providers[0], forever=Behaviour(latency_s=8))
    body = json.dumps({"model": stuck.alias, **asks(max_tokens=5)}).encode()
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: localhost",
        f"api-key: {secret}",
        f"Content-Length: {len(body)}",
    )
    head = "\r\n".join((*lines, "", ""))
    clients: list[socket.socket] = []
    small = json.dumps({"model": well.alias, **asks(max_tokens=5)}).encode()

    def statuses() -> set[int]:
        return {abused.post(small, api_key=secret).status_code for _ in range(6)}

    def is_full() -> bool:
        """Each of the two workers has fifty places for a key. Who accepts a connection is for the kernel to say."""
        clients.extend(abused.send(head.encode() + body) for _ in range(40))
        return statuses() == {429}

    assert eventually(is_full)
    for client in clients:
        client.close()
    left_at = time.monotonic()
    assert eventually(lambda: statuses() == {200}, 5)
    assert within(time.monotonic() - left_at, 3)
    abused.wait_settled(stuck.alias, 100, within_s=20)
    assert {entry["state"] for entry in abused.entries(stuck.alias)} == {"posted"}
    assert all(entry["cost_usd"] > 0 for entry in abused.entries(stuck.alias))
