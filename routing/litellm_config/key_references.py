"""Turns what the file says about a provider's key into a reference. The key itself is never stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from routing.litellm_config.remarks import Remark
from routing.litellm_config.values import Found
from routing.secrets import references
from routing.upstreams.providers import PROVIDERS

#: What people write as a key when their own server needs no key but a client requires one.
_PLACEHOLDERS = frozenset(
    {"none", "empty", "dummy", "fake", "fake-key", "my-fake-key", "no-key", "not-needed", "not-used", "anything"}
)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What a shell would have put the key in the place of. It did not, and the variable's name is what is known.
_PLACEHOLDER = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")


@dataclass
class KeyReferences:
    """Makes references, always the same for the same key. ``notes`` collects what a person should know about them."""

    environment: Mapping[str, str]  # the process's: a key is read from it when it is used
    notes: list[Remark]
    #: The variable for each key that the file has in clear text, so that two accounts at one host stay apart.
    _in_clear: dict[tuple[str, str], str] = field(default_factory=dict)

    def reference(self, key: Found | None, provider: str, base_url: str) -> str:
        """``env:NAME``, ``file:/PATH``, or empty for no key."""
        facts = PROVIDERS[provider]
        usual = "" if facts.keyless else facts.key_variable
        if key is None or key.is_empty or _is_blank(key):
            is_elsewhere = key is not None and not key.is_empty and base_url
            return self._of_variable("" if is_elsewhere else usual)
        if key.variable is not None:
            return self._of_variable(self._checked(key))
        text = key.text()
        if (unfilled := _PLACEHOLDER.fullmatch(text)) is not None:
            self.notes.append(Remark(key.path, key.line, f"{text} is taken as os.environ/{unfilled[1]}"))
            return self._of_variable(unfilled[1])
        if text.lower() == "none" or (base_url and text.lower() in _PLACEHOLDERS):
            return ""
        if text.startswith("file:/"):
            if problem := references.refused(text):
                self.notes.append(Remark(key.path, key.line, f"will not be read: {problem}"))
            return text
        # With an address of its own the key is that server's. The provider's usual key must not be sent there.
        home = f"{_as_variable(urlsplit(base_url).hostname or 'provider')}_API_KEY" if base_url else usual
        return self._of_variable(self._home_of(key, text, home or facts.key_variable, "file:/path"))

    def variable_for(self, secret: Found, home: str) -> str:
        """``os.environ/NAME`` for a secret that is not the key, such as a cloud's: the file's own, or ``home``."""
        name = self._home_of(secret, secret.text(), home, "") if secret.variable is None else self._checked(secret)
        self._of_variable(name)
        return f"os.environ/{name}"

    def _of_variable(self, name: str) -> str:
        if name and (problem := references.refused(f"env:{name}")):
            self.notes.append(Remark(name, why=f"will not be read: {problem}"))
        elif name and not self.environment.get(name):
            self.notes.append(Remark(name, why="is not set in this environment; the provider has no key until it is"))
        return name and f"env:{name}"

    def _checked(self, key: Found) -> str:
        name = key.variable or ""
        if _VARIABLE_NAME.fullmatch(name) is None:
            raise key.refused("what follows os.environ/ is not the name of an environment variable")
        return name

    def _home_of(self, key: Found, text: str, home: str, or_write: str) -> str:
        if (home, text) not in self._in_clear:
            number = 1 + sum(1 for taken, _ in self._in_clear if taken == home)
            self._in_clear[home, text] = home if number == 1 else f"{home}_{number}"
        name = self._in_clear[home, text]
        instead = f"os.environ/NAME or {or_write}" if or_write else "os.environ/NAME"
        self.notes.append(
            Remark(
                key.path,
                key.line,
                f"a key in clear, which is not stored: put it into the environment variable {name}, or write {instead}",
            )
        )
        return name


def _is_blank(key: Found) -> bool:
    return isinstance(key.raw, str) and not key.raw.strip()


def _as_variable(name: str) -> str:
    upper = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return f"HOST_{upper}" if upper[:1].isdigit() else upper
