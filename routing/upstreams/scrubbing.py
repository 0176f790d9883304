"""Removes from a provider's message what a client must not read: keys, and addresses of machines."""

from __future__ import annotations

import re
from typing import Final

_SECRETS: Final = re.compile(
    r"(?i:bearer\s+)[\w.~+/=-]{6,}"
    r"|\bsk-[\w*-]{6,}|\bAIza[\w*-]{10,}|\b(?:gsk|xai|pplx|hf|r8|fw|tgp)[_-][\w*-]{10,}"
    r"|(?i:(?<=key=))[\w*%.-]+"
)
_URLS: Final = re.compile(r"\bhttps?://[^\s\"'<>)\]}]+")
#: Links to a provider's documentation help the reader and are not secret. Only links to these hosts stay.
_PUBLIC_LINKS: Final = re.compile(
    r"^https?://(?:[\w-]+\.)*(?:openai\.com|anthropic\.com|claude\.com|google\.com|google\.dev|mistral\.ai|groq\.com)"
    r"/(?!v1(?:beta)?/)"
)
_MAX_MESSAGE: Final = 2000


def scrubbed(message: str, secret: str = "") -> str:
    """The message without keys and without addresses other than those of public documentation."""
    if len(secret) >= 4:
        message = message.replace(secret, "***")
    message = _URLS.sub(lambda url: url[0] if _PUBLIC_LINKS.match(url[0]) else "[url]", message)
    return _SECRETS.sub("***", message)[:_MAX_MESSAGE]
