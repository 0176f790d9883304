"""References to providers' keys. A reference says where a key is and never holds the key.

The key is read at each use, so a rotated secret needs no restart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from django.core.exceptions import ValidationError

from routing.secrets import environment, file
from routing.upstreams.disclosure import NotAllowed, allow_variable, allowed_file

#: The part of a reference before its colon → the function that reads the part after it.
_STORES: Final[dict[str, Callable[[str], str | None]]] = {"env": environment.read, "file": file.read}


class UnknownStore(ValueError):
    """The reference names no store of keys that the gateway can read."""

    def __init__(self, reference: str) -> None:
        store, colon, _ = reference.partition(":")
        # A reference without a known store may be a pasted key, so the message does not repeat it.
        named = f"'{store}:' is no store of keys" if colon and re.fullmatch(r"[a-z-]{1,20}", store) else "it names none"
        super().__init__(f"the key reference cannot be read: {named}; it must begin with env: or file:")


def validate_key_reference(reference: str) -> None:
    """Allow ``env:NAME`` and ``file:PATH``: the database says where a provider's key is and never has the key."""
    if re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+", reference) is None:
        raise ValidationError(
            "Write env:NAME (an environment variable) or file:/path (a file). "
            "The key itself does not belong here: it would be stored in clear."
        )


def validate_readable(reference: str) -> None:
    """Beyond :func:`validate_key_reference`, for who writes it now: what may be read is the server's setting."""
    if problem := refused(reference):
        raise ValidationError(f"It may not be read: {problem}.")


def refused(reference: str) -> str | None:
    """Why the reference may not be read, and the cure; None when it may."""
    store, _, place = reference.partition(":")
    try:
        if store == "env":
            allow_variable(place)
        elif store == "file":
            allowed_file(place)
    except NotAllowed as error:
        return str(error)
    return None


def read(reference: str) -> str | None:
    """The key behind the reference, as it is now. Raises UnknownStore, NotAllowed.

    Empty when the reference is empty, because the provider needs no key. None when the reference leads to no key.
    """
    if not reference:
        return ""
    store, _, place = reference.partition(":")
    if store not in _STORES:
        raise UnknownStore(reference)
    kept = _STORES[store](place)
    return _bare(kept) or None if kept else None


def _bare(kept: str) -> str:
    """A key without what files have around it: white space, Windows' byte-order mark, quotes. No key has them."""
    kept = kept.strip().removeprefix("\ufeff").strip()
    return kept[1:-1].strip() if len(kept) > 1 and kept[0] == kept[-1] and kept[0] in "'\"" else kept


def find(reference: str) -> str | None:
    """As ``read``, but None for a reference to an unknown store, or to what may not be read."""
    try:
        return read(reference)
    except (UnknownStore, NotAllowed):
        return None
