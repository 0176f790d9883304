"""Our sessions with Postgres have our settings, whatever the role's defaults are, and are told from a pooler's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection as django_connection

from accounting.postgres import session
from gateway_project.embedded_postgres import DATABASE, USER, EmbeddedPostgres
from tests.clocks import eventually
from tests.pooler import PgBouncer

HOSTILE = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Asia/Kathmandu'",
    "standard_conforming_strings": "off",
    "statement_timeout": "999",
    "lock_timeout": "999",
    "idle_in_transaction_session_timeout": "999",
    "idle_session_timeout": "999",
    "transaction_timeout": "999",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "search_path": "nowhere",
}


@pytest.fixture
def hostile_role(postgres: EmbeddedPostgres) -> Iterator[None]:
    """The role of all our sessions, with defaults that its administrator meant for others."""
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        admin.execute("SET statement_timeout = 0")
        for name, value in HOSTILE.items():
            admin.execute(f"ALTER ROLE {USER} SET {name} = {value}".encode())
        try:
            yield
        finally:
            admin.execute(f"ALTER ROLE {USER} RESET ALL")


@pytest.mark.django_db
@pytest.mark.usefixtures("hostile_role")
@pytest.mark.parametrize("whose", ["django", "ledger"])
def test_a_role_s_defaults_do_not_reach_our_sessions(whose: str) -> None:
    if whose == "django":
        wrapper = django_connection.copy()
        wrapper.ensure_connection()
        connection = wrapper.connection
    else:
        connection = session.connect("test", statement_timeout_s=7)
    with closing(connection):

        def value(expression: str) -> Any:
            return connection.execute(f"SELECT {expression}").fetchone()[0]

        assert value("TIMESTAMPTZ '2026-02-03 04:05:06+00'") == datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
        assert value("INTERVAL '1 day 2 hours'::text") == "1 day 02:00:00"
        assert value(r"length('\n')") == 2
        assert value("current_schema()") == "public"
        settings = (
            "TimeZone", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout",
            "transaction_timeout", "default_transaction_read_only", "transaction_isolation", "statement_timeout",
        )  # fmt: skip
        assert [value(f"current_setting('{name}')") for name in settings] == [
            *("UTC", "0", "0", "0", "0", "off", "read committed", "0" if whose == "django" else "7s")
        ]
        connection.commit()
        connection.execute("CREATE TEMPORARY TABLE written (n int)")
        connection.rollback()


@pytest.mark.django_db
def test_postgres_compiles_nothing_in_a_session_that_keeps_its_plans() -> None:
    with closing(session.connect("test", statement_timeout_s=7)) as connection:
        assert connection.execute("SHOW jit").fetchone() == ("off",)


@pytest.mark.django_db
def test_a_schema_is_the_whole_search_path() -> None:
    with closing(session.connect("test", statement_timeout_s=7)) as connection:
        session.prepare(connection, "Odd schema")
        assert connection.execute("SHOW search_path").fetchone() == ('"Odd schema"',)


@pytest.mark.django_db
def test_read_only_by_the_servers_own_configuration_stands(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
        try:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")
            assert eventually(lambda: admin.execute("SHOW default_transaction_read_only").fetchone() == ("on",))
            with closing(session.connect("test", statement_timeout_s=7)) as connection:
                assert connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
        finally:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            admin.execute("SELECT pg_reload_conf()")


@pytest.mark.django_db
@pytest.mark.parametrize(("mode", "shared"), [("transaction", True), ("session", False)])
def test_a_transaction_pooler_is_told_from_a_session_pooler(
    tmp_path: Path, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, mode: str, shared: bool
) -> None:
    pooler = PgBouncer(tmp_path, postgres, mode)
    try:
        assert eventually(pooler.accepts)
        monkeypatch.setitem(django_connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(django_connection.settings_dict, "PORT", str(pooler.port))
        monkeypatch.setitem(django_connection.settings_dict, "NAME", DATABASE)
        assert session.is_shared() is shared
    finally:
        pooler.stop()


@pytest.mark.django_db
def test_a_server_itself_shares_no_session() -> None:
    assert session.is_shared() is False
