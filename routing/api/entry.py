"""The short way of a request that spends: from the server to its view, past what has nothing to do there.

Django's handler, its signals and nine middlewares take a fifth of the CPU of such a request. Here it meets only what
changes its answer: an id, CORS, errors as JSON, and the headers for browsers. Each is the work of the same class as in
``MIDDLEWARE``, so that both ways give the same answer. Which paths spend, the URL table alone says.

All else takes Django's own way: other methods, other paths, and hosts that are not ours, which Django refuses.
``GATEWAY_ENTRY=django`` lets every request take it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, cast

from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.security import SecurityMiddleware
from django.urls import Resolver404, ResolverMatch, resolve
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_header_parameters

from routing.api.disconnects import WholeAnswer
from routing.api.errors import gateway_error, render
from routing.api.headers import Headers
from routing.api.middleware import GatewayMiddleware, Handler, JsonErrors

View = Callable[..., HttpResponseBase]

#: As PEP 3333 has it.
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def with_readable_type(application: Application) -> Application:
    """The same for requests whose ``Content-Type`` Python's `email` cannot read (RFC 2231's pieces of a parameter, or
    its character sets): they have none. Django would raise before there is a request that could be answered."""

    def readable(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        content_type = environ.get("CONTENT_TYPE", "")
        if "*" in content_type:  # without which there are neither
            try:
                parse_header_parameters(content_type)
            except (TypeError, ValueError):
                environ["CONTENT_TYPE"] = ""
        return application(environ, start_response)

    return readable


def with_short_way(django: Application, spends: Callable[[View], bool]) -> Application:
    """The WSGI application. ``spends`` says of a view whether it may be reached the short way."""
    handle = GatewayMiddleware(_with_cors(JsonErrors(_with_headers(_view))))

    @lru_cache(maxsize=1024)  # paths may have an alias in them
    def found(path: str) -> ResolverMatch | None:
        try:
            match = resolve(path)
        except Resolver404:
            return None
        return match if spends(match.func) else None

    @lru_cache(maxsize=1024)
    def is_ours(host: str) -> bool:
        request = HttpRequest()
        request.META["HTTP_HOST"] = host
        return _is_for_us(request)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            return django(environ, start_response)
        request = WSGIRequest(environ)
        request.resolver_match = found(request.path_info)
        if request.resolver_match is None or not is_ours(environ.get("HTTP_HOST", "")):
            return django(environ, start_response)
        response = handle(request)
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
        if response.streaming:
            return cast(Iterable[bytes], response)  # whose close() ends it, and closes the database's connections
        close_old_connections()  # that a look at the newest configuration has opened
        if isinstance(response, WholeAnswer):
            return response.sent()
        return (cast(HttpResponse, response).content,)

    return application


def _view(request: HttpRequest) -> HttpResponseBase:
    match = request.resolver_match
    assert match is not None
    try:
        return cast(HttpResponseBase, match.func(request, *match.args, **match.kwargs))
    except Exception as error:  # noqa: BLE001  as JsonErrors does it, whose hook Django calls
        return render(gateway_error(error))


def _with_headers(handle: Handler) -> Handler:
    """What Django's middleware adds to every answer: its length, and headers for browsers."""
    adding: Any = [made(handle) for made in (XFrameOptionsMiddleware, CommonMiddleware, SecurityMiddleware)]
    has_hsts = settings.SECURE_HSTS_SECONDS > 0  # as the last of them looks at it
    added: dict[bool, Headers] = {}  # to every whole answer, which knows its length, by whether HSTS is said

    def answered(request: HttpRequest) -> HttpResponseBase:
        response = handle(request)
        says_hsts = has_hsts and request.is_secure()
        if isinstance(response, WholeAnswer) and says_hsts in added:
            response.headers.add_missing(added[says_hsts])
            return response
        before = dict(response.headers.items())
        for middleware in adding:
            response = middleware.process_response(request, response)
        if isinstance(response, WholeAnswer):
            added[says_hsts] = Headers({n: v for n, v in response.headers.items() if n not in before})
        return response

    return answered


def _with_cors(handle: Handler) -> Handler:
    """django-cors-headers. It makes a mapping of all headers first, in which it would find no origin of a program."""
    cors = CorsMiddleware(handle)

    def answered(request: HttpRequest) -> HttpResponseBase:
        if "HTTP_ORIGIN" in request.META:
            return cast(HttpResponseBase, cors(request))
        response = handle(request)
        if "Vary" in response.headers:
            patch_vary_headers(response, ("origin",))
        else:
            response.headers["Vary"] = "origin"
        return response

    return answered


def _is_for_us(request: HttpRequest) -> bool:
    try:
        request.get_host()
    except DisallowedHost:
        return False
    return True
