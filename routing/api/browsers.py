"""What only the admin's pages need: Django's middleware for sessions, users and messages, and ours for operators.

All of it is skipped on the API's paths.

There they would find nothing, and take a sixth of the time that Django needs for an API request. The middleware that
protects forms and frames stays as it is, and costs little. There are three classes because Django's system checks look
for each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponseBadRequest
from django.http.response import HttpResponseBase

from accounting import audit
from routing.api.errors import is_api

Answer = HttpResponseBase | Awaitable[HttpResponseBase]  # as Django declares it; here it is always the former


class Sessions(SessionMiddleware):
    def __call__(self, request: HttpRequest) -> Answer:
        return self.get_response(request) if is_api(request) else super().__call__(request)


class Authentication(AuthenticationMiddleware):
    def __call__(self, request: HttpRequest) -> Answer:
        return self.get_response(request) if is_api(request) else super().__call__(request)


class Messages(MessageMiddleware):
    def __call__(self, request: HttpRequest) -> Answer:
        return self.get_response(request) if is_api(request) else super().__call__(request)


#: Scripts come from our own files alone. unfold's pages are written for Alpine.js, which makes functions of attributes
#: (unsafe-eval), and have styles in them. Forms and requests go nowhere else, and no other page shows ours in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class OnRecord:
    """The admin's pages: what an operator's request changes is on record under his name."""

    def __init__(self, handle: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_api(request):
            return self.handle(request)
        if any("\0" in value for values in request.GET.lists() for value in (values[0], *values[1])):
            return HttpResponseBadRequest("The address has a character in it that nothing here is named with.")
        if request.method == "POST" and request.user.is_authenticated:
            with audit.acting(request.user.get_username(), "admin"):
                response = self.handle(request)
        else:
            response = self.handle(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response
