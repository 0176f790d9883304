"""What only the admin's pages need: Django's middleware for sessions, users and messages, and ours for operators.

All of it is skipped on the API's paths.

There they would find nothing, and take a sixth of the time that Django needs for an API request. The middleware that
protects forms and frames stays as it is, and costs little. There are three classes because Django's system checks look
for each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from psycopg.errors import QueryCanceled

from accounting import audit
from routing.api.body import announced_bytes
from routing.api.errors import is_api

READING_S = 15

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


class Forms:
    """Refuses what no form of ours sends, before anybody reads it: whoever sends it need not be logged in.

    Files are not received at all (FILE_UPLOAD_HANDLERS). It stands before Django's protection of forms, which reads
    them."""

    def __init__(self, handle: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api(request):
            announced = announced_bytes(request)
            if announced is None or announced > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
                most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024
                return HttpResponse(f"A form may have {most} KiB, with its length said before.\n", status=413)
        return self.handle(request)


class Reading:
    """Bounds what a page may ask of Postgres while it is only read: requests need the same processors."""

    def __init__(self, handle: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api(request) and request.method in ("GET", "HEAD"):
            with connection.cursor() as cursor:  # the page's own connection, which ends with it
                cursor.execute("SELECT set_config('statement_timeout', %s, false)", [f"{READING_S}s"])
        return self.handle(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if is_api(request) or not isinstance(error.__cause__, QueryCanceled):
            return None
        words = f"This page took Postgres longer than {READING_S} s. Narrow it by a filter or a shorter time.\n"
        return HttpResponse(words, status=503, content_type="text/plain")
