"""Databases of these tests' own, on the server that the suite uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from pytest_django import DjangoDbBlocker

from tests.migrations.states import STATES, State, name_of


@contextmanager
def connected(database: str) -> Iterator[BaseDatabaseWrapper]:
    """Django's default connection leads to this database meanwhile, so that what a gateway calls can be called here."""
    kept = connections["default"]
    connection = kept.copy()
    connection.settings_dict["NAME"] = database
    connections["default"] = connection
    try:
        yield connection
    finally:
        connection.close()
        connections["default"] = kept


def migrate(database: str, state: State | None = None) -> None:
    """Our apps to this state, Django's own to their last; without a state all to their last."""
    with connected(database) as connection:
        executor = MigrationExecutor(connection)
        targets = executor.loader.graph.leaf_nodes()
        executor.migrate([(app, (state or {}).get(app, last)) for app, last in targets])


class Databases:
    """Makes databases under names that nobody else uses, and drops them all."""

    def __init__(self) -> None:
        self._prefix = f"migrations_{uuid4().hex[:12]}"
        self._names: list[str] = []

    def create(self, name: str, template: str = "template1") -> str:
        database = f"{self._prefix}_{name}"
        self._execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        self._names.append(database)
        return database

    def drop_all(self) -> None:
        for database in self._names:
            self._execute(f'DROP DATABASE "{database}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with connected("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.fixture(scope="module")
def databases(django_db_modify_db_settings: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Databases]:
    with django_db_blocker.unblock():
        made = Databases()
        yield made
        made.drop_all()


@pytest.fixture(scope="module")
def at_state(databases: Databases) -> dict[str, str]:
    """A database without rows in each of the states. One walks through them, and is copied at each."""
    walking = databases.create("walking")
    copies: dict[str, str] = {}
    for state in STATES:
        migrate(walking, state)
        copies[name_of(state)] = databases.create(name_of(state), template=walking)
    return copies


@pytest.fixture(scope="module")
def from_empty(databases: Databases) -> str:
    """A database without rows that ran all migrations at once."""
    database = databases.create("from_empty")
    migrate(database)
    return database
