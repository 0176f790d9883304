"""Turns what the file says about a provider's key into a reference. The key itself is never stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from routing.litellm_config import values
from routing.litellm_config.values import InvalidConfig
from routing.upstreams.providers import PROVIDERS

#: What people write as a key when their own server needs no key but a client requires one.
_PLACEHOLDERS = frozenset(
    {"none", "empty", "dummy", "fake", "fake-key", "my-fake-key", "no-key", "not-needed", "not-used", "anything"}
)


@dataclass
class KeyReferences:
    """Makes references, always the same for the same key. ``notes`` collects what a person should know about them."""

    environment: Mapping[str, str]
    notes: list[str]
    #: The variable for each key that the file has in clear text, so that two accounts at one host stay apart.
    _in_clear: dict[tuple[str, str], str] = field(default_factory=dict)

    def reference(self, value: Any, provider: str, base_url: str, where: str) -> str:
        """``env:NAME``, ``file:/PATH``, or empty for no key."""
        reference = self._reference(value, provider, base_url, where)
        name = reference.removeprefix("env:") if reference.startswith("env:") else ""
        if name and not self.environment.get(name):
            self.notes.append(f"{name} is not set in this environment; the provider has no key until it is")
        return reference

    def _reference(self, value: Any, provider: str, base_url: str, where: str) -> str:
        facts = PROVIDERS[provider]
        usual = "" if facts.keyless else facts.key_variable
        if value is None:
            return usual and f"env:{usual}"
        text = values.text(value, where)
        if text.lower() == "none" or (base_url and text.lower() in _PLACEHOLDERS):
            return ""
        if text.startswith("file:/"):
            return text
        name = values.variable(text)
        if name is not None:
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
                raise InvalidConfig(where, "what follows os.environ/ is not the name of an environment variable")
            return f"env:{name}"
        # An entry with its own address names that server's key. The provider's usual key must not be sent there.
        home = f"{_as_variable(urlsplit(base_url).hostname or 'provider')}_API_KEY" if base_url else usual
        home = home or facts.key_variable
        if (home, text) not in self._in_clear:
            number = 1 + sum(1 for taken, _ in self._in_clear if taken == home)
            self._in_clear[home, text] = home if number == 1 else f"{home}_{number}"
        name = self._in_clear[home, text]
        self.notes.append(
            f"{where} is a key in clear, which is not stored: put it into the environment variable {name},"
            f" or write os.environ/NAME or file:/path"
        )
        return f"env:{name}"


def _as_variable(name: str) -> str:
    upper = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return f"HOST_{upper}" if upper[:1].isdigit() else upper
