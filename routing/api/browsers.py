"""Django's middleware for sessions, users and messages, which only the admin's pages need: skipped on the API's paths.

There they would find nothing, and take a sixth of the time that Django needs for an API request. The middleware that
protects forms and frames stays as it is, and costs little. There are three classes because Django's system checks look
for each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase

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
