"""``DATABASE_URL`` as people have it: written for libpq, or for an ORM or a driver that has parameters of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from gateway_project.environment import InvalidEnvironment, envstr

EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
#: What names the schema: Prisma's, JDBC's and pq's word.
_SCHEMA = frozenset({"schema", "currentschema", "search_path"})
#: Prisma's: https://www.prisma.io/docs/orm/overview/databases/postgresql
_PRISMAS = frozenset(
    {
        *("schema", "connection_limit", "pool_timeout", "pgbouncer", "socket_timeout", "statement_cache_size"),
        *("sslaccept", "single_use_connections", "max_connection_lifetime", "max_idle_connection_lifetime"),
    }
)
#: What other clients read and libpq does not know. It says how such a client pools connections, prepares statements or
#: gives up, and we do those by ourselves. In small letters.
_OTHERS = frozenset(
    {
        *(_PRISMAS - _SCHEMA),
        # node-postgres, postgres.js, Supabase's and Vercel's addresses
        *("uselibpqcompat", "supa", "workaround", "statement_timeout", "query_timeout", "lock_timeout", "max"),
        *("idle_in_transaction_session_timeout", "connectiontimeoutmillis", "idletimeoutmillis", "idle_timeout"),
        # SQLAlchemy, asyncpg, dj-database-url, Rails
        *("pool", "pool_size", "max_overflow", "pool_recycle", "pool_pre_ping", "prepared_statement_cache_size"),
        *("command_timeout", "conn_max_age", "conn_health_checks", "prepared_statements", "encoding", "reconnect"),
        # JDBC, pgx
        *(
            "preparethreshold",
            "preparedstatementcachequeries",
            "rewritebatchedinserts",
            "sockettimeout",
            "logintimeout",
        ),
        *("tcpkeepalive", "applicationname", "stringtype", "binarytransfer", "loadbalancehosts", "readonly"),
        *("pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time"),
        *("default_query_exec_mode", "binary_parameters"),
    }
)


@dataclass(frozen=True)
class DatabaseUrl:
    settings: dict[str, Any]  # an entry of Django's DATABASES
    schema: str = ""  # empty: the server says which
    ignored: tuple[str, ...] = ()  # names of parameters that are for another client


def envdatabase(name: str) -> DatabaseUrl | None:
    """``postgresql://user:password@host:port/database?sslmode=require``; None if unset.

    libpq parses the URL, so its documentation on URLs applies. A Unix socket's directory is written as
    ``?host=/run/postgresql``, or percent-encoded in the place of the host. What other clients need beside that
    (``jdbc:``, ``postgresql+asyncpg:``, quotes, their own parameters) is taken off first.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    value = envstr(name).strip("'\"")
    if not value:
        return None
    found = re.match(r"(?:jdbc:)?postgres(?:ql)?(?:\+[a-z0-9_]+)?://", value)
    if found is None:
        raise InvalidEnvironment(name, f"should begin with postgresql://, as in {EXAMPLE}")
    if unfilled := re.search(r"\$\{\{?\s*[\w.-]+\s*\}?\}|\$\(\w+\)|\{\{[^{}]*\}\}", value):
        raise InvalidEnvironment(name, f"has {unfilled[0]} in it, which nobody filled in")
    url = "postgresql://" + value[found.end() :]
    ours, schema, ignored = _taken_apart(name, url)
    # The URL holds a password, so our messages repeat no part of it. libpq's own messages would.
    try:
        options: dict[str, Any] = conninfo_to_dict(ours)
    except ProgrammingError:
        raise InvalidEnvironment(name, f"is not a URL; it should look like {EXAMPLE}") from None
    host, port, database = (options.pop(part, "") for part in ("host", "port", "dbname"))
    if "@" in host + database:  # libpq ends a password at its first @ and repeats the rest in errors
        raise InvalidEnvironment(name, "has an @ in its user or password: percent-encode it as %40")
    if not all(number.isdecimal() and 0 < int(number) < 65536 for number in port.split(",") if number):
        raise InvalidEnvironment(name, f"is not a URL; it should look like {EXAMPLE}")
    if not database or "/" in database:
        raise InvalidEnvironment(name, f"should end with one database's name, as in {EXAMPLE}")
    if not host:
        raise InvalidEnvironment(name, f"should name a host, as in {EXAMPLE}")
    if options.get("sslmode", "prefer") not in SSL_MODES:
        raise InvalidEnvironment(name, f"has a sslmode that Postgres does not know; it knows {', '.join(SSL_MODES)}")
    settings = {
        "ENGINE": "accounting.postgres.backend",
        "NAME": database,
        "USER": options.pop("user", ""),
        "PASSWORD": options.pop("password", ""),
        "HOST": host,
        "PORT": port,
        "SCHEMA": schema,
        "OPTIONS": options,
    }
    return DatabaseUrl(settings, schema, tuple(ignored))


def _taken_apart(name: str, url: str) -> tuple[str, str, list[str]]:
    """The URL with libpq's parameters alone, the schema, and the names of the parameters that were left out."""
    before, parameters = _split(url)
    kept: list[str] = []
    ignored: list[str] = []
    schema = ""
    for key, text in parameters:
        word = key.lower()
        if text is None:
            raise InvalidEnvironment(name, f"is not a URL; it should look like {EXAMPLE}")
        if key in _PRISMAS and _names_no_host(before):
            raise InvalidEnvironment(
                name, f"has Prisma's parameter {key} and no host before its path, which Prisma refuses; take {key} out"
            )
        if word in _SCHEMA:
            schema = unquote(text)
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$-]*", schema) is None:
                raise InvalidEnvironment(name, f"should name one schema in {key}")
        elif word == "sslaccept" and text == "strict":
            raise InvalidEnvironment(
                name, "has sslaccept=strict, which Postgres does not know: write sslmode=verify-full&sslrootcert=system"
            )
        elif word == "sslmode" and text == "no-verify":  # node-postgres's word
            kept.append("sslmode=require")
        elif word in _OTHERS:
            ignored.append(key)
        elif key in _libpq_parameters() or (key, text) == ("ssl", "true"):  # libpq understands JDBC's ssl=true
            kept.append(f"{key}={text}")
        elif re.fullmatch(r"[A-Za-z][A-Za-z_]{1,40}", key):
            raise InvalidEnvironment(name, f"has the parameter {key}, which Postgres does not know; take it out")
        else:
            raise InvalidEnvironment(name, f"is not a URL; it should look like {EXAMPLE}")
    return before + ("?" + "&".join(kept) if kept else ""), schema, ignored


def _split(url: str) -> tuple[str, Iterator[tuple[str, str | None]]]:
    """What stands before the parameters, and the parameters as they are written. A password may have a ``?`` too."""
    start = url.index("://") + 3
    at, slash = url.find("@", start), url.find("/", start)
    if at != -1 and (slash == -1 or at < slash):
        start = at
    question = url.find("?", start)
    if question == -1:
        return url, iter(())
    pairs = (pair.partition("=") for pair in url[question + 1 :].split("&") if pair)
    return url[:question], ((unquote(key), text if sign else None) for key, sign, text in pairs)


def _names_no_host(before: str) -> bool:
    """``postgresql://user@/database``, whose socket's directory is a parameter: a URL for libpq and its like. Prisma
    ends at such a URL ("empty host in database URL"). So this one did not come from there: somebody wrote the
    parameter into it by hand and meant something by it, which the gateway would not do."""
    return before.partition("://")[2].rpartition("@")[2].startswith("/")


def _libpq_parameters() -> frozenset[str]:
    from psycopg.pq import Conninfo

    return frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
