"""Names in a sentence."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3


def few(names: Iterable[str]) -> str:
    """The first names, and how many more, so that a thousand names stay one line."""
    names = list(names)
    if len(names) <= SHOWN + 1:
        return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{', '.join(names[:SHOWN])} and {len(names) - SHOWN} more"
