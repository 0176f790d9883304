"""The one door for a provider's words: what a client, the log and the books may have of them.

Any of its texts may repeat our key, an address inside our network, or what Postgres cannot store, and may be of any
length. :class:`~routing.upstreams.base.UpstreamError` takes all its texts through here.
"""

from __future__ import annotations

import re
from typing import Final

from accounting.text import storable

_SECRETS: Final = re.compile(
    r"(?i:bearer\s+)[\w.~+/=-]{6,}"
    r"|\bsk-[\w*-]{6,}|\bAIza[\w*-]{10,}|\b(?:gsk|xai|pplx|hf|r8|fw|tgp)[_-][\w*-]{10,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bya29\.[\w.-]{10,}|\beyJ[\w-]{10,}\.[\w-]+\.[\w-]*"  # clouds' keys and tokens
    r"|(?i:(?<=key=))[\w*%.-]+"
)
_URLS: Final = re.compile(r"\bhttps?://[^\s\"'<>)\]}]+")
#: Links to a provider's documentation help the reader and are not secret. Only links to these hosts stay.
_PUBLIC_LINKS: Final = re.compile(
    r"^https?://(?:[\w-]+\.)*(?:openai\.com|anthropic\.com|claude\.com|google\.com|google\.dev|mistral\.ai|groq\.com)"
    r"/(?!v1(?:beta)?/)"
)
_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: What is in every secret and every URL that an id could have in it: most have nothing of it, which is seen at once.
_MAY_BE_SECRET: Final = re.compile("sk-|AIza|gsk|xai|pplx|hf|r8|fw|tgp|AKIA|ASIA|ya29|eyJ|://|=")
#: A shorter key stands in many words that are not it.
_LEAST_SECRET: Final = 4
_MAX_READ: Final = 16_000
_MAX_MESSAGE: Final = 2_000
_MAX_WORD: Final = 100


def scrubbed(message: str, secret: str = "") -> str:
    """The message without keys and without addresses other than those of public documentation.

    ``secret`` is our key at the provider that says it."""
    message = storable(message, _MAX_READ)  # first: a NUL in the middle of a key would hide it
    if len(secret) >= _LEAST_SECRET:
        message = message.replace(secret, "***")
    message = _URLS.sub(lambda url: url[0] if _PUBLIC_LINKS.match(url[0]) else "[url]", message)
    return _SECRETS.sub("***", message)[:_MAX_MESSAGE]


def word(said: str | None, secret: str = "") -> str | None:
    """A code, a type or a parameter's name, which is short; None when nothing is left of it."""
    return (scrubbed(said, secret)[:_MAX_WORD] or None) if said is not None else None


def identifier(said: str | None, secret: str = "") -> str | None:
    """The provider's own id of a request, for its support; None when it is no id, or has our key in it."""
    if said is None or _ID.fullmatch(said) is None:
        return None
    if _MAY_BE_SECRET.search(said) is None:
        return None if len(secret) >= _LEAST_SECRET and secret in said else said
    return said if scrubbed(said, secret) == said else None
