"""The gateway that the end-to-end tests share, and a stricter one with a Postgres that tests may stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.e2e.gateway import PROVIDER_KEYS, Gateway
from tests.e2e.launcher import RunningGateway
from tests.simulator import Simulator


@pytest.fixture(scope="session")
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="session")
def shared_gateway(
    tmp_path_factory: pytest.TempPathFactory, sim: Simulator, django_db_blocker: DjangoDbBlocker
) -> Iterator[Gateway]:
    """Two workers, open to every key, as `make run` serves on a developer's machine."""
    data_dir = tmp_path_factory.mktemp("gateway") / "data"
    keys = str(tmp_path_factory.getbasetemp())  # where the tests write keys into files
    running = RunningGateway.in_tree(data_dir, WEB_CONCURRENCY="2", GATEWAY_KEY_DIR=keys, **PROVIDER_KEYS)
    try:
        running.wait_until_ready()
        gateway = Gateway(running, EmbeddedPostgres(data_dir / "postgres").dsn(), sim, django_db_blocker)
        gateway.point_defaults_at_simulator()
        yield gateway
        gateway.close()
    finally:
        running.close()


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    shared_gateway.sim.reset()
    yield shared_gateway
    shared_gateway.remove_routes()


@pytest.fixture(scope="session")
def guarded_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("guarded") / "postgres", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def guarded_shared_gateway(
    tmp_path_factory: pytest.TempPathFactory,
    guarded_postgres: EmbeddedPostgres,
    sim: Simulator,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Gateway]:
    """One worker, as in a deployment: keys are required, bodies are small, and pages of some origins may call."""
    running = RunningGateway.in_tree(
        tmp_path_factory.mktemp("guarded-gateway"),
        DATABASE_URL=guarded_postgres.url(),
        GATEWAY_AUTH="required",
        GATEWAY_MAX_BODY_BYTES="1048576",
        CORS_ALLOWED_ORIGINS="https://app.example,https://*.pages.example",
        **PROVIDER_KEYS,
    )
    try:
        running.wait_until_ready()
        gateway = Gateway(running, guarded_postgres.dsn(), sim, django_db_blocker)
        gateway.point_defaults_at_simulator()
        yield gateway
        gateway.close()
    finally:
        running.close()


@pytest.fixture
def guarded_gateway(guarded_shared_gateway: Gateway) -> Iterator[Gateway]:
    guarded_shared_gateway.sim.reset()
    yield guarded_shared_gateway
    guarded_shared_gateway.remove_routes()
