"""Parses the environment: the gateway reads every variable through one of these functions.

A missing or malformed value raises ``InvalidEnvironment`` whose text is one line that names the variable and
says what it should be. The value itself is never repeated where it may be a secret. A package that is missing must be
told in one line too (start_errors.py), so this module imports none at its top.
"""

from __future__ import annotations

import codecs
import io
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

#: The variables in which platforms name the hosts by which they reach us, and how a name is made of their value.
#: https://docs.railway.com/variables/reference, https://render.com/docs/environment-variables,
#: https://fly.io/docs/machines/runtime-environment, https://devcenter.heroku.com/articles/dyno-metadata,
#: https://www.koyeb.com/docs/build-and-deploy/environment-variables,
#: https://learn.microsoft.com/azure/app-service/reference-app-settings
PUBLIC_HOSTS = (
    ("RAILWAY_PUBLIC_DOMAIN", "{}"),
    ("RENDER_EXTERNAL_HOSTNAME", "{}"),
    ("FLY_APP_NAME", "{}.fly.dev"),
    ("HEROKU_APP_DEFAULT_DOMAIN_NAME", "{}"),
    ("KOYEB_PUBLIC_DOMAIN", "{}"),
    ("WEBSITE_HOSTNAME", "{}"),
)
PRIVATE_HOSTS = (
    ("RAILWAY_PRIVATE_DOMAIN", "{}"),
    ("FLY_APP_NAME", "{}.internal"),
    ("FLY_APP_NAME", "{}.flycast"),
)


class InvalidEnvironment(Exception):
    """A variable is missing or malformed. ``str(error)`` is one line for the operator."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name


def load_env_file(path: Path) -> None:
    """Adds a file's variables to the environment. A variable that is set already keeps its value.

    A file with a broken line changes nothing: python-dotenv alone would leave that line out.
    """
    from dotenv.parser import parse_stream

    try:
        text = _text_of(path.read_bytes())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidEnvironment(str(path), f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InvalidEnvironment(str(path), "is not UTF-8: save it as that") from error
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


def take_quotes_off() -> None:
    """``docker run --env-file`` and lists in compose files keep the quotes that an ``.env`` has around a value. Whoever
    reads a variable in this process, the libraries of clouds included, finds what other readers of the file find."""
    for name, value in os.environ.items():
        text = value.strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            os.environ[name] = text[1:-1]


def _text_of(content: bytes) -> str:
    """Editors and shells of Windows begin a file with a byte-order mark, which says how its text is encoded."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    text = content.decode("utf-8-sig")
    if "\0" in text:  # UTF-16 without its mark, which is UTF-8 too
        raise UnicodeDecodeError("utf-8", content, content.index(0), content.index(0) + 1, "no text has it")
    return text


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


def envaddress(name: str, default: str) -> str:
    """An address to serve on, or a host name. An IPv6 address may be in brackets, as in a URL."""
    value = envstr(name, default)
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if ":" in bare or bare != value:
        try:
            ipaddress.IPv6Address(bare)
        except ValueError:
            raise InvalidEnvironment(
                name,
                f"should be an address to serve on, such as 127.0.0.1, 0.0.0.0 or ::, without a port, not {value!r}",
            ) from None
    return bare


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what serves there."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def platform_hosts() -> tuple[list[str], list[str]]:
    """The host names that the platform gave us: those that browsers use, over https, and those of its own network."""
    public, private = (
        [form.format(value) for name, form in variables if (value := envstr(name))]
        for variables in (PUBLIC_HOSTS, PRIVATE_HOSTS)
    )
    return public, private


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
