"""What the admin's pages need of Django's middleware and the API's paths do not: sessions, users, messages.

They would take a sixth of the time that Django takes for an API request, and find nothing. What protects forms and
frames stays as it is: Django's own checks look for it, and it costs little.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from routing.api.errors import is_api


def _for_browsers(middleware: type[MiddlewareMixin]) -> type[MiddlewareMixin]:
    """The middleware, which requests to the API's paths pass by."""

    class ForBrowsers(middleware):  # type: ignore[misc, valid-type]  # a class that is a parameter
        def __call__(self, request: HttpRequest) -> HttpResponseBase:
            answer: Any = self.get_response if is_api(request) else super().__call__
            response: HttpResponseBase = answer(request)
            return response

    return ForBrowsers


Sessions = _for_browsers(SessionMiddleware)
Authentication = _for_browsers(AuthenticationMiddleware)
Messages = _for_browsers(MessageMiddleware)
