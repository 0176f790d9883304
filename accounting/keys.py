"""Our API keys: made once, stored as their SHA-256, looked up in the configuration's snapshot.

A key is 32 random bytes, so a plain SHA-256 is enough: there is nothing to guess, and no salt to slow a request down.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from django.db.models import F
from django.db.models.functions import Now

from accounting import wildcards
from accounting.models import ANONYMOUS, ApiKey
from accounting.rates import RateLimits
from accounting.tags import Tags

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
    owner: str = ""
    binds_fallbacks: bool = False  # whether allowed_aliases are also the only fallbacks
    tags: Tags = field(default_factory=dict)
    required_tags: tuple[str, ...] = ()
    callers_name_end_users: bool = True
    end_user: str = ""  # of requests that name no end user, or may not name one
    retires_at: datetime | None = None  # of the secret before a rotation: when it ends

    def may_use(self, alias: str, wildcard: str = "") -> bool:
        """``wildcard``: the one that answers to the alias, when it is no alias of its own."""
        if wildcard and not self.uses_wildcards:
            return False
        allowed = self.allowed_aliases
        return not allowed or alias in allowed or any(wildcards.is_of(pattern, alias) for pattern in allowed)

    def may_fall_back_to(self, alias: str) -> bool:
        return not self.binds_fallbacks or self.may_use(alias)

    def tags_of(self, sent: Tags) -> Tags:
        """The tags of a request whose client sent these."""
        return {**sent, **self.tags}

    def end_user_of(self, named: str) -> str:
        """The end user of a request whose client named this one."""
        return (named if self.callers_name_end_users else "") or self.end_user

    def missing_tag(self, tags: Tags) -> str | None:
        """The first required tag that is not among the request's tags, or that says nothing there."""
        return next((name for name in self.required_tags if not "".join(tags.get(name, ())).strip()), None)


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


class RotatedMeanwhile(Exception):
    """Somebody rotated the key after the operator saw it."""


def rotate(key_id: int, seen_rotated_at: datetime | None, grace: timedelta) -> str:
    """Give the key a new secret, and return it. The secret before is good for the grace; an older one ends now.

    ``seen_rotated_at``: when the key was rotated last, as the operator saw it, so that a form that is sent twice
    rotates once. Raises RotatedMeanwhile."""
    secret = new_secret()
    changed = ApiKey.objects.filter(pk=key_id, rotated_at=seen_rotated_at).update(
        old_prefix=F("prefix"),
        old_digest=F("digest"),
        old_valid_until=Now() + grace,
        rotated_at=Now(),
        **fields_for(secret),
    )
    if not changed:
        raise RotatedMeanwhile
    return secret


def find(keys: Mapping[str, Key], secret: str) -> Key | None:
    """The key with this secret, also when disabled or expired. ``keys`` is by digest. Compares in constant time."""
    presented = digest(secret)
    key = keys.get(presented)
    return key if key is not None and hmac.compare_digest(key.digest, presented) else None


def load_keys() -> dict[str, Key]:
    """All keys by digest, disabled ones too, for the configuration's snapshot. A rotated key is there twice until its
    old secret has ended, and longer: an ended secret is told apart from one that never was."""
    found: dict[str, Key] = {}
    for row in ApiKey.objects.all():
        for key in _keys_of(row):
            if key.retires_at is None or key.digest not in found:  # a secret of today comes before one of yesterday
                found[key.digest] = key
    return found


def _keys_of(row: ApiKey) -> Iterator[Key]:
    key = Key(
        id=row.pk,
        name=row.name,
        digest=row.digest,
        enabled=row.enabled,
        expires_at=row.expires_at,
        allowed_aliases=frozenset(row.allowed_aliases),
        limits=RateLimits(row.requests_per_minute, row.tokens_per_minute, row.concurrent_requests),
        uses_wildcards=row.uses_wildcards,
        owner=row.owner,
        binds_fallbacks=row.binds_fallbacks,
        tags=row.tags,
        required_tags=tuple(row.required_tags),
        callers_name_end_users=row.callers_name_end_users,
        end_user=row.end_user,
    )
    yield key
    if row.old_digest and row.old_valid_until is not None:
        yield replace(key, digest=row.old_digest, retires_at=row.old_valid_until)
