"""Which of the server's variables and files a provider's configuration may name.

A provider's key goes to the provider's address, and operators choose both. So a reference reads what was put there for
providers, and nothing else of the server: its own secrets least of all.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Final

from django.conf import settings

#: Names that keys and clouds' credentials have by custom. GATEWAY_KEY_NAMES adds others.
USUAL_NAMES: Final = (
    "*_API_KEY", "*_API_KEY_[0-9]*", "*_API_TOKEN", "ANTHROPIC_*", "AICORE_*", "AWS_*", "AZURE_*", "CLOUDFLARE_*",
    "DATABRICKS_*", "GEMINI_*", "GIGACHAT_*", "GOOGLE_*", "HF_TOKEN", "HUGGINGFACE_*", "OCI_*", "OPENAI_*",
    "SNOWFLAKE_*", "VERTEXAI_*", "VERTEX_*", "WATSONX_*",
)  # fmt: skip
#: The gateway's own, which no pattern allows.
_OUR_OWN: Final = ("DATABASE_URL", "DJANGO_*", "GATEWAY_*", "PGPASSFILE", "PGPASSWORD", "SECRET_KEY")
_PLAIN: Final = re.compile(r"[A-Z][A-Z0-9_]{0,60}")
#: Folders in which a cluster puts the server's own identity, beside the secrets that it was given.
_IDENTITIES: Final = frozenset({"kubernetes.io", "eks.amazonaws.com"})


class NotAllowed(ValueError):
    """The configuration names a variable or a file that it may not read. The text says the cure."""


def allow_variable(name: str) -> None:
    """Raises NotAllowed."""
    if _is_our_own(name):
        raise NotAllowed(f"{name} is the gateway's own secret, which no provider may have")
    if not _is_usual(name, tuple(settings.GATEWAY_KEY_NAMES)):
        shown = f"the name {name}" if _PLAIN.fullmatch(name) else "its name"  # which may be a pasted key
        raise NotAllowed(f"{shown} is not that of a provider's key: call it …_API_KEY, or add it to GATEWAY_KEY_NAMES")


def allowed_file(path: str) -> Path:
    """The file behind the path, wherever links lead. Raises NotAllowed, unless it is below the folder of keys."""
    folder = Path(settings.GATEWAY_KEY_DIR)
    try:
        place = Path(path).resolve()
        inside = place.relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # ValueError: it is elsewhere, or has a NUL in it
        raise NotAllowed(
            f"the file {path} is not below {folder}: put it there, or set GATEWAY_KEY_DIR to its folder"
        ) from None
    if not _IDENTITIES.isdisjoint(inside.parts) or _is_our_own(inside.name.upper()):
        raise NotAllowed(f"the file {path} is the gateway's own secret, which no provider may have")
    return place


@lru_cache(maxsize=1024)
def _is_our_own(name: str) -> bool:
    return any(fnmatchcase(name.upper(), pattern) for pattern in _OUR_OWN)


@lru_cache(maxsize=1024)
def _is_usual(name: str, more: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (*USUAL_NAMES, *more))
