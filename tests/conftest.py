"""What all tests share: their own Postgres, which starts when the first test needs a database."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from django.conf import settings

from gateway_project import embedded_postgres
from gateway_project.embedded_postgres import EmbeddedPostgres

#: The seed of all that tests draw at random (whom to kill, and when). TEST_SEED=N repeats a failed run.
SEED = os.environ.get("TEST_SEED") or str(random.randrange(2**32))


def pytest_report_header() -> str:
    return f"random seed: {SEED} (TEST_SEED={SEED} draws the same again)"


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """A test draws the same numbers alone as in the whole suite."""
    random.seed(f"{SEED} {request.node.nodeid}")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The running server of this test run, without fsync, because its data is thrown away."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", durable=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """pytest-django's hook for choosing the server of its test database."""
    if settings.EMBEDDED_POSTGRES_DIR is None:
        return  # DATABASE_URL names a server
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    # In place: Django's connections hold this very dictionary.
    settings.DATABASES["default"].update(embedded_postgres.django_settings(server.data_dir))
