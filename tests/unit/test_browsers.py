"""Which requests meet the middleware of the admin's pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from routing.api import browsers

ALL = (browsers.Sessions, browsers.Authentication, browsers.Messages)


def met(request: HttpRequest) -> tuple[HttpRequest, HttpResponse]:
    handle: Any = lambda request: HttpResponse("answer")  # noqa: E731  the innermost of a chain
    for middleware in reversed(ALL):
        handle = middleware(handle)
    return request, handle(request)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health", "/nothing", "/administrator"])
def test_requests_to_the_api_skip_the_admin_s_middleware(path: str) -> None:
    request, response = met(RequestFactory().post(path))
    assert not hasattr(request, "session")
    assert not hasattr(request, "user")
    assert not response.cookies
    assert response.content == b"answer"


def test_the_admin_s_pages_have_a_session_a_user_and_messages() -> None:
    request, _ = met(RequestFactory().get("/admin/login/"))
    assert hasattr(request, "session")
    assert hasattr(request, "user")
    assert hasattr(request, "_messages")
