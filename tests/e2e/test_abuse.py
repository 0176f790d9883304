"""Somebody wants the gateway to serve nobody else: the short form of tests/torture/torture_abuse.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker

from accounting.models import Budget
from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually
from tests.e2e.abuse import ATTACKS, Cast, Neighbour, suffer
from tests.e2e.gateway import PROVIDER_KEYS, Gateway
from tests.e2e.launcher import RunningGateway
from tests.simulator import Behaviour, Simulator

MOST_TIMES = 10  # as long as without the attack
IDLE_S, ATTACKED_S = (float(os.environ.get(name, short)) for name, short in (("ABUSE_IDLE_S", 0.5), ("ABUSE_S", 1.5)))
#: How many times the attackers of a short form.
MORE = int(os.environ.get("ABUSE_ATTACKERS", "1"))


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


@pytest.fixture(scope="module")
def cast(abused: Gateway) -> Cast:
    openai, stuck, gemini, anthropic = map(abused.route, ("openai", "openai", "gemini", "anthropic"))
    abused.sim.behave(stuck.providers[0], Behaviour(latency_s=60))
    with abused.orm():  # large texts are held at their bytes, and this is not about money
        Budget.objects.update(limit_usd=10**7)
    return Cast(abused, abused.key(), openai.alias, stuck.alias, gemini.alias, anthropic.alias)


@pytest.fixture(scope="module")
def neighbour(abused: Gateway) -> Neighbour:
    return Neighbour(abused, abused.route("openai").alias, abused.key())


def workers(gateway: Gateway) -> set[int]:
    """gunicorn's processes; the master is one of them."""
    return {process.pid for process in gateway.running.descendants() if "gunicorn" in " ".join(process.cmdline())}


@pytest.mark.parametrize("name", ATTACKS)
def test_neighbours_hardly_notice(cast: Cast, neighbour: Neighbour, name: str) -> None:
    attack, attackers = ATTACKS[name]
    before, said = workers(cast.gateway), len(cast.gateway.running.output)
    times = suffer(cast, neighbour, attack, attackers=attackers * MORE, idle_s=IDLE_S, for_s=ATTACKED_S)
    print(f"{name}: {times:.1f} times as long")  # noqa: T201  the long form shows it
    assert workers(cast.gateway) == before
    assert "WORKER TIMEOUT" not in cast.gateway.running.output[said:]
    assert times <= MOST_TIMES
