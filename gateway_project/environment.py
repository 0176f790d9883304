"""The environment, parsed: every variable the gateway reads is read through one of these functions.

A missing or malformed value raises ``InvalidEnvironment`` whose text is one line that names the variable and
says what it should be. The value itself is never repeated where it may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class InvalidEnvironment(Exception):
    """A variable is missing or malformed. ``str(error)`` is one line for the operator."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


def load_env_file(path: Path) -> None:
    """Adds the ``KEY=VALUE  # comment`` lines of a file to the environment; what is set already wins."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidEnvironment(str(path), f"cannot be read ({type(error).__name__})") from error
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", line)
        if match is None:
            raise InvalidEnvironment(f"{path}, line {number}", "should be KEY=VALUE")
        name, value = match.groups()
        quoted = re.fullmatch(r"""(["'])(.*)\1\s*(#.*)?""", value)
        value = quoted[2] if quoted else re.sub(r"(^|\s+)#.*", "", value)
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
    """Origins: ``https://example.com`` or ``http://localhost:3000``."""
    origins = envlist(name)
    for origin in origins:
        if re.fullmatch(r"https?://(\*\.)?([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", origin) is None:
            raise InvalidEnvironment(name, f"should be origins such as https://example.com, not {origin!r}")
    return origins


def envdatabase(name: str) -> dict[str, Any] | None:
    """``postgresql://user:password@host:port/database?sslmode=require`` as Django's settings; None if unset.

    User, password and database are percent-decoded. A Unix socket's directory goes into
    ``?host=/run/postgresql`` or percent-encoded into the host's place; every other option goes to libpq.
    """
    url = envstr(name)
    if not url:
        return None
    example = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    # The URL carries a password: no message here repeats any of it.
    try:
        parts = urlsplit(url)
        host, port = unquote(parts.hostname or ""), parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise InvalidEnvironment(name, f"is not a URL; it should look like {example}") from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise InvalidEnvironment(name, f"should begin with postgresql://, as in {example}")
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise InvalidEnvironment(name, f"should end with one database's name, as in {example}")
    if parts.fragment:
        raise InvalidEnvironment(name, "has a # in it: percent-encode it as %23")
    host = options.pop("host", host)
    if not host:
        raise InvalidEnvironment(name, f"should name a host, as in {example}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database,
        "USER": unquote(parts.username or "") or options.pop("user", ""),
        "PASSWORD": unquote(parts.password or "") or options.pop("password", ""),
        "HOST": host,
        "PORT": str(port or options.pop("port", "")),
        "OPTIONS": options,
    }
