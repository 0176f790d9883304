"""Provider keys in the process's environment: ``env:NAME``."""

from __future__ import annotations

import os

from routing.upstreams.disclosure import allow_variable


def read(name: str) -> str | None:
    """The variable's value; None when the variable is not set. Raises NotAllowed."""
    allow_variable(name)
    return os.environ.get(name)
