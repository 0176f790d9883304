"""DATABASE_URL as people have it, and each refusal with its one line, which never repeats the password."""

from __future__ import annotations

import pytest

from gateway_project.database_url import DatabaseUrl, envdatabase
from gateway_project.environment import InvalidEnvironment


@pytest.fixture
def set_variable(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("X", raising=False)
    return monkeypatch


def test_an_unset_and_an_empty_url_are_none(set_variable: pytest.MonkeyPatch) -> None:
    assert envdatabase("X") is None
    set_variable.setenv("X", " ")
    assert envdatabase("X") is None


def test_a_database_url_is_taken_apart(set_variable: pytest.MonkeyPatch) -> None:
    set_variable.setenv("X", "postgres://al%40ice:p%2Fw%3Ad@db.example:6543/led%20ger?sslmode=require&keepalives=1")
    assert envdatabase("X") == DatabaseUrl(
        {
            "ENGINE": "accounting.postgres.backend",
            "NAME": "led ger",
            "USER": "al@ice",
            "PASSWORD": "p/w:d",
            "HOST": "db.example",
            "PORT": "6543",
            "SCHEMA": "",
            "OPTIONS": {"sslmode": "require", "keepalives": "1"},
        }
    )


@pytest.mark.parametrize(
    "unfilled", ["${PGPASSWORD}", "${{ Postgres.PGPASSWORD }}", "$(PGPASSWORD)", "{{ pg.password }}"]
)
def test_a_template_that_nobody_filled_in_is_told_at_once_and_not_after_30_seconds(
    set_variable: pytest.MonkeyPatch, unfilled: str
) -> None:
    set_variable.setenv("X", f"postgresql://gateway:{unfilled}@db.example:5432/ledger")
    with pytest.raises(InvalidEnvironment) as refused:
        envdatabase("X")
    assert str(refused.value) == f"X: has {unfilled} in it, which nobody filled in"


def test_a_password_may_have_a_dollar_and_braces(set_variable: pytest.MonkeyPatch) -> None:
    set_variable.setenv("X", "postgresql://gateway:a$b{c}$$d@db.example:5432/ledger")
    found = envdatabase("X")
    assert found is not None
    assert found.settings["PASSWORD"] == "a$b{c}$$d"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql:///ledger?host=/run/postgresql", "/run/postgresql"),
        ("postgresql://u@%2Frun%2Fpostgresql/ledger", "/run/postgresql"),
        ("postgresql://u@[::1]/ledger", "::1"),
    ],
)
def test_a_database_url_may_name_a_socket_or_an_ipv6_address(
    set_variable: pytest.MonkeyPatch, url: str, host: str
) -> None:
    set_variable.setenv("X", url)
    found = envdatabase("X")
    assert found is not None
    settings = found.settings
    assert (settings["HOST"], settings["PORT"], settings["NAME"]) == (host, "", "ledger")


def test_a_database_url_may_name_several_hosts_and_have_signs_in_its_password(
    set_variable: pytest.MonkeyPatch,
) -> None:
    set_variable.setenv("X", "postgresql://u:hunt#er?2@a.example:5432,b.example:5433/d?target_session_attrs=primary")
    found = envdatabase("X")
    assert found is not None
    settings = found.settings
    assert (settings["HOST"], settings["PORT"]) == ("a.example,b.example", "5432,5433")
    assert settings["PASSWORD"] == "hunt#er?2"
    assert settings["OPTIONS"] == {"target_session_attrs": "primary"}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://u:hunter2@h/d", "should begin with postgresql://"),
        ("u:hunter2@h/d", "should begin with postgresql://"),
        ("postgresql://u:hunter2@h", "should end with one database's name"),
        ("postgresql://u:hunter2@h/a/b", "should end with one database's name"),
        ("postgresql://u:hunter2@h:port/d", "is not a URL"),
        ("postgresql://u:hunter2@h:99999/d", "is not a URL"),
        ("postgresql://u:hunter2@[::1/d", "is not a URL"),
        ("postgresql://u:hunter2@h/d?sslmode", "is not a URL"),
        ("postgresql://u:hunter2@/d", "should name a host"),
        ("postgresql://u:hunter2@h/d?ssl_mode=require", "has the parameter ssl_mode, which Postgres does not know"),
        ("postgresql://u:hunter%@h/d", "is not a URL"),
        ("postgresql://u:hunter2@h/d?hunter2=1", "is not a URL"),
        ("postgresql://u:hunter2@h/d?sslmode=required", "has a sslmode that Postgres does not know"),
        ("postgresql://u:hunter2@h/d?schema=a,b", "should name one schema in schema"),
        (
            "postgresql://u:hunter2@/d?host=/run&schema=public",
            "has Prisma's parameter schema and no host before its path",
        ),
        ("postgresql:///d?host=/run&pgbouncer=true", "has Prisma's parameter pgbouncer and no host before its path"),
        ("postgres://u@/d?connection_limit=9&host=/run", "has Prisma's parameter connection_limit and no host before"),
        ("postgresql://u:hunter2@h/d?sslaccept=strict", "has sslaccept=strict, which Postgres does not know"),
        ("postgresql+psycopg:u:hunter2@h/d", "should begin with postgresql://"),
        ("sqlite:///hunter2", "should begin with postgresql://"),
        ("postgresql://u:hunt@er2@h/d", "has an @ in its user or password"),
        ("postgresql://u:7/hunter2@h", "has an @ in its user or password"),
        ("postgresql://u:hunter/2@h/d", "has an @ in its user or password"),
    ],
)
def test_a_malformed_database_url_is_refused_without_repeating_its_password(
    set_variable: pytest.MonkeyPatch, url: str, problem: str
) -> None:
    set_variable.setenv("X", url)
    with pytest.raises(InvalidEnvironment) as caught:
        envdatabase("X")
    line = str(caught.value)
    assert line.startswith(f"X: {problem}")
    assert "\n" not in line
    assert "hunt" not in line


@pytest.mark.parametrize(
    ("url", "options", "schema", "ignored"),
    [
        (
            "postgresql://u:p@h:5432/d?schema=public&connection_limit=10&pool_timeout=0&pgbouncer=true&connect_timeout=9",
            {"connect_timeout": "9"},
            "public",
            ("connection_limit", "pool_timeout", "pgbouncer"),
        ),
        (
            "postgres://u:p@h/d?sslmode=require&sslaccept=accept_invalid_certs",
            {"sslmode": "require"},
            "",
            ("sslaccept",),
        ),
        (  # as Prisma has it for Cloud SQL: a socket's directory in `host`, which goes before the other host
            "postgresql://u:p@localhost/d?host=h&schema=public&connection_limit=1",
            {},
            "public",
            ("connection_limit",),
        ),
        ("postgresql+asyncpg://u:p@/d?host=h&pool_size=3&search_path=app", {}, "app", ("pool_size",)),
        ("postgresql+psycopg://u:p@h/d", {}, "", ()),
        ("postgresql+asyncpg://u:p@h/d?prepared_statement_cache_size=0", {}, "", ("prepared_statement_cache_size",)),
        (
            "jdbc:postgresql://h/d?user=u&password=p&currentSchema=app&ssl=true&prepareThreshold=0",
            {"sslmode": "require"},
            "app",
            ("prepareThreshold",),
        ),
        ("'postgres://u:p@h/d?sslmode=no-verify&uselibpqcompat=true'", {"sslmode": "require"}, "", ("uselibpqcompat",)),
        (
            "postgres://u:p@h/d?options=-c%20geqo%3Doff&channel_binding=require&supa=base-pooler.x",
            {"options": "-c geqo=off", "channel_binding": "require"},
            "",
            ("supa",),
        ),
    ],
)
def test_what_other_clients_need_is_taken_off_and_named(
    set_variable: pytest.MonkeyPatch, url: str, options: dict[str, str], schema: str, ignored: tuple[str, ...]
) -> None:
    set_variable.setenv("X", url)
    found = envdatabase("X")
    assert found is not None
    settings = found.settings
    assert [settings[part] for part in ("USER", "PASSWORD", "HOST", "NAME")] == ["u", "p", "h", "d"]
    assert (settings["OPTIONS"], found.schema, settings["SCHEMA"], found.ignored) == (options, schema, schema, ignored)
