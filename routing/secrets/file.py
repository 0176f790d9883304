"""Provider keys in files, such as mounted secrets: ``file:/path``."""

from __future__ import annotations

from routing.upstreams.disclosure import allowed_file


def read(path: str) -> str | None:
    """The file's text; None when the file cannot be read. Raises NotAllowed."""
    place = allowed_file(path)
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
