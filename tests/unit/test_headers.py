"""Headers of an answer: as Django's own, whatever is written into them."""

from __future__ import annotations

from typing import Any

from django.http.response import ResponseHeaders
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.views import APIView

from routing.api.headers import Headers
from routing.endpoints.spending import SpendingView

NAMES = st.sampled_from(["x-gateway-alias", "X-Gateway-Alias", "Vary", "x-\u00e9", "x-a\r\nx-b", "x-a\n", "x a"])
VALUES = st.sampled_from(["gpt-4o", "", "a b", "caf\u00e9", "\u20ac", "a\r\nx-b: c", "a\n", "a\tb", "\x7f", 3, b"raw"])


def written(headers: ResponseHeaders, pairs: list[tuple[str, Any]]) -> list[Any]:
    """What became of each pair, and what the headers are then."""
    said: list[Any] = []
    for name, value in pairs:
        try:
            headers[name] = value
        except (ValueError, UnicodeError) as error:
            said.append(type(error).__name__)
    return [*said, dict(headers.items()), [name in headers for name, _ in pairs]]


@settings(max_examples=200, deadline=None)
@given(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_what_is_written_is_as_in_djangos_headers(pairs: list[tuple[str, Any]]) -> None:
    assert written(Headers({}), pairs) == written(ResponseHeaders({}), pairs)


@settings(max_examples=200, deadline=None)
@given(data=st.dictionaries(NAMES, VALUES.filter(lambda value: isinstance(value, str)), max_size=4))
def test_what_headers_are_made_of_is_as_in_djangos_headers(data: dict[str, str]) -> None:
    def made(kind: type[ResponseHeaders]) -> Any:
        try:
            return dict(kind(data).items())
        except (ValueError, UnicodeError) as error:
            return type(error).__name__

    assert made(Headers) == made(ResponseHeaders)


def test_only_missing_headers_are_added() -> None:
    headers = Headers({"Vary": "Accept"})
    headers.add_missing(Headers({"vary": "origin", "X-Frame-Options": "DENY"}))
    assert dict(headers.items()) == {"Vary": "Accept", "X-Frame-Options": "DENY"}


def test_a_spending_view_allows_what_drf_would_say_that_it_does() -> None:
    view = SpendingView()
    assert view.default_response_headers == APIView.default_response_headers.fget(view)  # type: ignore[attr-defined]
