"""Parses the environment: the gateway reads every variable through one of these functions.

A missing or malformed value raises ``InvalidEnvironment`` whose text is one line that names the variable and
says what it should be. The value itself is never repeated where it may be a secret.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from dotenv.parser import parse_stream
from psycopg.conninfo import conninfo_to_dict

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class InvalidEnvironment(Exception):
    """A variable is missing or malformed. ``str(error)`` is one line for the operator."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


def load_env_file(path: Path) -> None:
    """Adds a file's variables to the environment. A variable that is set already keeps its value.

    A file with a broken line changes nothing: python-dotenv alone would leave that line out.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidEnvironment(str(path), f"cannot be read ({type(error).__name__})") from error
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        blank_or_comment = binding.key is None and not binding.error
        if blank_or_comment:
            continue
        if binding.value is None or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", binding.key or ""):
            statement = binding.original.string
            line = binding.original.line + statement[: len(statement) - len(statement.lstrip())].count("\n")
            raise InvalidEnvironment(f"{path}, line {line}", "should be KEY=VALUE")
        assert binding.key
        found[binding.key] = binding.value
    for name, value in found.items():
        os.environ.setdefault(name, value)


def envstr(name: str, default: str = "") -> str:
    """An empty value counts as unset: that is how compose files and dashboards clear a variable."""
    return os.environ.get(name, "").strip() or default


def envbool(name: str, default: bool) -> bool:
    value = envstr(name)
    if not value:
        return default
    if value.lower() not in ("true", "false"):
        raise InvalidEnvironment(name, f"should be True or False, not {value!r}")
    return value.lower() == "true"


def envint(name: str, default: int, *, least: int, most: int) -> int:
    value = envstr(name)
    if not value:
        return default
    if re.fullmatch(r"[0-9]{1,18}", value) is None or not least <= int(value) <= most:
        raise InvalidEnvironment(name, f"should be a whole number from {least} to {most}, not {value!r}")
    return int(value)


def envchoice(name: str, default: str, choices: Sequence[str]) -> str:
    value = envstr(name, default)
    if value not in choices:
        raise InvalidEnvironment(name, f"should be {' or '.join(choices)}, not {value!r}")
    return value


def envlist(name: str, default: Sequence[str] = ()) -> list[str]:
    """A comma-separated list."""
    return [item.strip() for item in envstr(name).split(",") if item.strip()] or list(default)


def envhosts(name: str, default: Sequence[str] = ()) -> list[str]:
    """Host names as Django's ALLOWED_HOSTS takes them: ``example.com``, ``.example.com``, ``[::1]``, ``*``"""
    hosts = envlist(name, default)
    for host in hosts:
        if re.fullmatch(r"\*|\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]", host) is None:
            raise InvalidEnvironment(
                name, f"should be host names separated by commas, without scheme or port, not {host!r}"
            )
    return hosts


def envorigins(name: str) -> list[str]:
    """Origins: ``https://example.com``, ``http://localhost:3000``, or ``https://*.example.com`` for all its subdomains.

    They are kept as browsers send them: in lower case, without the scheme's default port.
    """
    origins = []
    for origin in map(str.lower, envlist(name)):
        if re.fullmatch(r"https?://(\*\.)?([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", origin) is None:
            raise InvalidEnvironment(name, f"should be origins such as https://example.com, not {origin!r}")
        origins.append(origin.removesuffix(":443" if origin.startswith("https:") else ":80"))
    return origins


def subdomains_pattern(origin: str) -> str:
    """A regular expression for the origins that ``https://*.example.com`` stands for."""
    scheme, _, domain = origin.partition("://*.")
    return rf"{scheme}://([a-z0-9_-]+\.)+{re.escape(domain)}\Z"


def envdatabase(name: str) -> dict[str, Any] | None:
    """``postgresql://user:password@host:port/database?sslmode=require`` as Django's settings; None if unset.

    libpq parses the URL, so its documentation on URLs applies. A Unix socket's directory is written as
    ``?host=/run/postgresql``, or percent-encoded in the place of the host.
    """
    url = envstr(name)
    if not url:
        return None
    example = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    if not url.startswith(("postgres://", "postgresql://")):
        raise InvalidEnvironment(name, f"should begin with postgresql://, as in {example}")
    # The URL holds a password, so our messages repeat no part of it. libpq's own messages would.
    try:
        options: dict[str, Any] = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise InvalidEnvironment(name, f"is not a URL; it should look like {example}") from None
    host, port, database = (options.pop(part, "") for part in ("host", "port", "dbname"))
    if "@" in host + database:  # libpq ends a password at its first @ and repeats the rest in errors
        raise InvalidEnvironment(name, "has an @ in its user or password: percent-encode it as %40")
    if not all(number.isdecimal() and 0 < int(number) < 65536 for number in port.split(",") if number):
        raise InvalidEnvironment(name, f"is not a URL; it should look like {example}")
    if not database or "/" in database:
        raise InvalidEnvironment(name, f"should end with one database's name, as in {example}")
    if not host:
        raise InvalidEnvironment(name, f"should name a host, as in {example}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database,
        "USER": options.pop("user", ""),
        "PASSWORD": options.pop("password", ""),
        "HOST": host,
        "PORT": port,
        "OPTIONS": options,
    }
