"""Our API keys: made once, stored as their SHA-256, looked up in the configuration's snapshot.

A key is 32 random bytes, so a plain SHA-256 is enough: there is nothing to guess, and no salt to slow a request down.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from accounting import wildcards
from accounting.models import ANONYMOUS, ApiKey
from accounting.rates import RateLimits

PREFIX = "sk-gw-"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the configuration's snapshot knows it."""

    id: int | None
    name: str
    digest: str
    enabled: bool
    expires_at: datetime | None
    allowed_aliases: frozenset[str]  # empty: all
    limits: RateLimits
    uses_wildcards: bool = True

    def may_use(self, alias: str, wildcard: str = "") -> bool:
        """``wildcard``: the one that answers to the alias, when it is no alias of its own."""
        if wildcard and not self.uses_wildcards:
            return False
        allowed = self.allowed_aliases
        return not allowed or alias in allowed or any(wildcards.is_of(pattern, alias) for pattern in allowed)


#: The key that a request without a key of ours is accounted to when GATEWAY_AUTH is open.
ANONYMOUS_KEY = Key(None, ANONYMOUS, "", True, None, frozenset(), RateLimits())


def new_secret() -> str:
    """A fresh key in clear. Show it once; store nothing but :func:`fields_for` of it."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def fields_for(secret: str) -> dict[str, str]:
    """The columns of an ApiKey that come from the key itself. Nobody can read the key back from them."""
    # A key that we did not make may be short (LiteLLM's example is sk-1234), so show at most a third of it.
    return {"prefix": secret[: min(10, len(secret) // 3)], "digest": digest(secret)}


def find(keys: Mapping[str, Key], secret: str) -> Key | None:
    """The key with this secret, also when disabled or expired. ``keys`` is by digest. Compares in constant time."""
    presented = digest(secret)
    key = keys.get(presented)
    return key if key is not None and hmac.compare_digest(key.digest, presented) else None


def load_keys() -> dict[str, Key]:
    """All keys by digest, disabled ones too, for the configuration's snapshot."""
    return {
        row.digest: Key(
            id=row.pk,
            name=row.name,
            digest=row.digest,
            enabled=row.enabled,
            expires_at=row.expires_at,
            allowed_aliases=frozenset(row.allowed_aliases),
            limits=RateLimits(row.requests_per_minute, row.tokens_per_minute, row.concurrent_requests),
            uses_wildcards=row.uses_wildcards,
        )
        for row in ApiKey.objects.all()
    }
