"""Who takes the short way past Django's middleware, and who does not. tests/e2e/test_entry.py compares the answers."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from django.urls import Resolver404, resolve
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway_project.routes import spends
from routing.api.entry import with_readable_type, with_short_way
from routing.urls import urlpatterns

SPENDING = [pattern for pattern in urlpatterns if spends(pattern.callback)]
#: Announces a body so large that it is refused before anybody looks for a key, which needs a database.
TOO_LARGE = str(settings.GATEWAY_MAX_BODY_BYTES + 1)


@pytest.fixture(autouse=True)
def no_connection() -> None:
    """The short way closes the thread's connections to the database, and earlier tests leave theirs open."""
    connections.close_all()


class Answer(Exception):
    """Django was asked."""


def django(environ: dict[str, Any], start_response: Any) -> Any:
    raise Answer


def status_of(path: str, method: str = "POST", host: str = "localhost", **headers: str) -> str:
    """The status of the short way's answer. Raises Answer when Django's way is taken."""
    seen: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": host,
        "CONTENT_LENGTH": TOO_LARGE,
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
        **headers,
    }
    parts = with_short_way(django, spends)(environ, lambda status, _: seen.append(status))
    assert json.loads(b"".join(parts))["error"]["code"] == "request_too_large"
    return seen[0]


@pytest.mark.parametrize("pattern", SPENDING, ids=lambda pattern: str(pattern.pattern))
def test_every_route_that_spends_takes_the_short_way(pattern: Any) -> None:
    @hypothesis_settings(max_examples=30, deadline=None, database=None)
    @given(path=st.from_regex(pattern.pattern.regex, fullmatch=True))
    def check(path: str) -> None:
        try:
            is_spending = spends(resolve(f"/{path}").func)
        except (Resolver404, UnicodeEncodeError):
            is_spending = False
        if is_spending:
            assert status_of(f"/{path}").startswith("413 ")
        else:  # the pattern ends at a line's end, and the sample does not
            with pytest.raises(Answer):
                status_of(f"/{path}")

    check()


@pytest.mark.parametrize(
    ("path", "method", "host"),
    [
        ("/v1/models", "POST", "localhost"),
        ("/v1/chat/completions/more", "POST", "localhost"),
        ("/admin/", "POST", "localhost"),
        ("/", "POST", "localhost"),
        ("/v1/chat/completions", "GET", "localhost"),
        ("/v1/chat/completions", "OPTIONS", "localhost"),
        ("/v1/chat/completions", "PUT", "localhost"),
        ("/v1/chat/completions", "POST", "evil.example"),
        ("/v1/chat/completions", "POST", ""),
    ],
)
def test_all_else_takes_djangos_way(path: str, method: str, host: str) -> None:
    with pytest.raises(Answer):
        status_of(path, method, host)


@pytest.mark.parametrize("content_type", ["application/json; a*1*=b; a*=c", "application/json; a*=bogus''x"])
def test_a_content_type_that_nobody_can_read_is_none(content_type: str) -> None:
    seen: list[str] = []

    def application(environ: dict[str, Any], _: Any) -> list[bytes]:
        seen.append(str(WSGIRequest(environ).content_type))
        return []

    readable = with_readable_type(application)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), "CONTENT_TYPE": content_type}
    list(readable(environ, print))
    assert seen == [""]
    list(readable({**environ, "CONTENT_TYPE": "application/json; a*=utf-8''x"}, print))
    assert seen == ["", "application/json"]
