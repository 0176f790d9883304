"""Provider keys in files, such as mounted secrets: ``file:/path``."""

from __future__ import annotations

from pathlib import Path


def read(path: str) -> str | None:
    """The file's text; None when the file cannot be read or is empty."""
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
