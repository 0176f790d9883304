"""Names with ``*``, as LiteLLM has them: ``openai/*``, ``*``, ``claude-*``. The longest that matches a name counts.

What the ``*`` of an alias stands for takes the place of the ``*`` in its upstream model, in order: with the alias
``house/*`` and the upstream model ``gpt-*``, ``house/4o`` is ``gpt-4o``.
"""

from __future__ import annotations

import re
from functools import lru_cache

ANY = "*"


def is_wildcard(name: str) -> bool:
    return ANY in name


def specificity(pattern: str) -> tuple[int, int]:
    """The larger one is asked first, as at LiteLLM: the longer pattern, then the one with more ``*``."""
    return len(pattern), pattern.count(ANY)


def stands_for(pattern: str, name: str) -> tuple[str, ...] | None:
    """What each ``*`` of the pattern stands for in the name; None when the name is not of the pattern."""
    found = _expression(pattern).fullmatch(name)
    return None if found is None or not all(found.groups()) else found.groups()


def is_of(pattern: str, name: str) -> bool:
    """Whether the pattern is a wildcard that answers to the name."""
    return is_wildcard(pattern) and stands_for(pattern, name) is not None


def filled(pattern: str, parts: tuple[str, ...]) -> str:
    """The pattern with these parts in the place of its ``*``. Without ``*`` it is a name already."""
    for part in parts:
        pattern = pattern.replace(ANY, part, 1)
    return pattern


def can_fill(alias: str, model: str) -> bool:
    """Whether the alias says what each ``*`` of the upstream model stands for."""
    return model.count(ANY) in (0, alias.count(ANY))


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(re.escape(part) for part in pattern.split(ANY)))
