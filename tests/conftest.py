"""What all tests share: a Postgres of their own, started when the first test asks for a database."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from django.conf import settings

from gateway_project import embedded_postgres
from gateway_project.embedded_postgres import EmbeddedPostgres

#: What tests draw at random (whom to kill, and when) is drawn from this. A failed run is repeated with TEST_SEED=N.
SEED = os.environ.get("TEST_SEED") or str(random.randrange(2**32))


def pytest_report_header() -> str:
    return f"random seed: {SEED} (TEST_SEED={SEED} draws the same again)"


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Each test draws the same alone as in the whole suite."""
    random.seed(f"{SEED} {request.node.nodeid}")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A running server of this test run's own, without fsync: nothing in it must last."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """pytest-django's place to choose the server in which it makes its test database."""
    if settings.EMBEDDED_POSTGRES_DIR is None:
        return  # DATABASE_URL names one
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    # In place: Django's connections hold this very dictionary.
    settings.DATABASES["default"].update(embedded_postgres.django_settings(server.data_dir))
