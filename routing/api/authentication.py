"""Whose request it is: the presented key, looked up in the configuration's snapshot.

In ``open`` mode any bearer, or none, is accepted and accounted to ``anonymous``; a living key of ours is still
recognised, and one that was disabled or has expired is still refused.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounting import keys
from accounting.keys import ANONYMOUS_KEY, Key
from routing import catalog
from routing.exceptions import InvalidApiKey


class Caller:
    """DRF's request.user: who calls, for the views that ask for a key."""

    is_authenticated = True

    def __init__(self, secret: str | None) -> None:
        self.secret = secret


class KeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer``, ``x-api-key`` or ``api-key``."""

    def authenticate(self, request: Request) -> tuple[Caller, Key]:
        secret = presented_secret(request._request)
        return Caller(secret), identify(secret)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"  # without it DRF would answer 403 instead of 401


def presented_secret(request: HttpRequest) -> str | None:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    return request.headers.get("x-api-key") or request.headers.get("api-key") or None


def identify(secret: str | None) -> Key:
    """The living key. Raises InvalidApiKey, and then from a snapshot as new as the database."""
    try:
        return identify_in(catalog.current(), secret)
    except InvalidApiKey:
        return identify_in(catalog.fresh(), secret)


def identify_in(snapshot: catalog.Catalog, secret: str | None) -> Key:
    is_open = settings.GATEWAY_AUTH == "open"
    key = keys.find(snapshot.keys, secret) if secret else None
    if key is None:
        if is_open:
            return ANONYMOUS_KEY
        raise InvalidApiKey(
            "The API key is not known here."
            if secret
            else "An API key is required: send 'Authorization: Bearer <key>'. Keys are made in the admin."
        )
    if not key.enabled:
        raise InvalidApiKey("The API key is disabled.")
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        raise InvalidApiKey("The API key has expired.")
    return key
