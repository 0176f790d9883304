"""Whose request it is: the presented key, looked up in the configuration's snapshot.

In ``open`` mode a request needs no key, and any unknown key is accepted; both are accounted to ``anonymous``. A key of
ours that is valid is still recognised, and a key of ours that was disabled or has expired is still refused.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings

from accounting import keys
from accounting.keys import ANONYMOUS_KEY, Key
from routing import catalog
from routing.exceptions import InvalidApiKey


def identify(secret: str | None) -> Key:
    """The valid key. Raises InvalidApiKey only after a look at the database's newest configuration."""
    try:
        return identify_in(catalog.current(), secret)
    except InvalidApiKey:
        return identify_in(catalog.fresh(), secret)


def identify_in(snapshot: catalog.Catalog, secret: str | None) -> Key:
    key = keys.find(snapshot.keys, secret) if secret else None
    if key is None:
        if settings.GATEWAY_AUTH == "open":
            return ANONYMOUS_KEY
        raise InvalidApiKey(
            "The API key is not known here."
            if secret
            else "An API key is required: send 'Authorization: Bearer <key>'. Keys are made in the admin."
        )
    if not key.enabled:
        raise InvalidApiKey("The API key is disabled.", key=key.name)
    now = datetime.now(UTC)
    if key.expires_at is not None and key.expires_at <= now:
        raise InvalidApiKey("The API key has expired.", key=key.name)
    if key.retires_at is not None and key.retires_at <= now:
        raise InvalidApiKey(
            "The API key was rotated, and its old secret is no longer valid. Use the new one.", key=key.name
        )
    return key
