"""Where a client presents its key, and how DRF asks who calls."""

from __future__ import annotations

import re
from typing import Final, cast

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounting.keys import ANONYMOUS_KEY, Key
from routing import catalog
from routing.api import open_mode
from routing.api.headers import request_id
from routing.catalog import Catalog
from routing.exceptions import InvalidApiKey
from routing.serving import refused
from routing.serving.callers import identify, identify_in

#: The headers with a key, as WSGI names them: Anthropic's, Azure's and Google's.
_KEY_VARIABLES: Final = ("HTTP_X_API_KEY", "HTTP_API_KEY", "HTTP_X_GOOG_API_KEY")
_GOOGLES: Final = re.compile(r"/v1beta/|/v1/models/[^?]*:\w+/?$")


class Caller:
    """DRF's ``request.user``: the caller, for the views that ask for a key."""

    is_authenticated = True

    def __init__(self, secret: str | None) -> None:
        self.secret = secret


class KeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer``, ``x-api-key``, ``api-key`` or ``x-goog-api-key``; on Google's paths also ``?key=``."""

    def authenticate(self, request: Request) -> tuple[Caller, Key]:
        secret = presented_secret(request._request)
        try:
            key = identify(secret)
            if refusal := open_mode.refusal_of_strangers(request._request):
                # A living key of ours may come from anywhere. An older snapshot might lack a new key, or have one too
                # many.
                key = identify_in(catalog.fresh(), secret)
                if key is ANONYMOUS_KEY:
                    refused.note(refusal, request_id(request._request), key, None)
                    raise refusal
        except InvalidApiKey as error:
            refused.count_stranger(error)
            raise
        return Caller(secret), key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"  # without it DRF would answer 403 instead of 401


def presented_secret(request: HttpRequest) -> str | None:
    sent = request.META  # `request.headers` would make a mapping of all of them first
    scheme, _, bearer = sent.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return str(bearer.strip())
    return next((sent[name] for name in _KEY_VARIABLES if sent.get(name)), None) or _in_query(request)


def _in_query(request: HttpRequest) -> str | None:
    """Some of Google's clients have the key in the address. It is read on Google's paths alone, as addresses end in the
    logs of whoever stands between; no log of ours has it."""
    if "key=" not in request.META.get("QUERY_STRING", "") or not _GOOGLES.match(request.path):
        return None
    return request.GET.get("key") or None


def caller_now(request: Request) -> tuple[Catalog, Key]:
    """The configuration as the database has it now, and the caller's key in it.

    DRF's ``request.auth`` may come from an older snapshot. That is enough only for a request whose hold proves the
    snapshot to be current."""
    snapshot = catalog.fresh()
    return snapshot, identify_in(snapshot, cast(Caller, request.user).secret)
