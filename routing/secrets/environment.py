"""Provider keys in the process's environment: ``env:NAME``."""

from __future__ import annotations

import os


def read(name: str) -> str | None:
    """The variable's value; None when the variable is not set or is empty."""
    return os.environ.get(name, "").strip() or None
