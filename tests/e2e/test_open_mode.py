"""Without keys the gateway serves the programs of its own machine, and nobody who comes by way of them."""

from __future__ import annotations

import json

import httpx
import pytest

from accounting.models import ApiKey
from tests.e2e.gateway import Gateway, asks, unique

ELSEWHERE: list[dict[str, str]] = [
    {"origin": "https://evil.example"},
    {"origin": "http://localhost:3000"},  # another program's page on this machine
    {"origin": "null"},
    {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"x_forwarded_for": "203.0.113.7"},
    {"x_real_ip": "203.0.113.7"},
    {"forwarded": "for=203.0.113.7"},
    {"via": "1.1 proxy.example"},
]


def chat(gateway: Gateway, alias: str, **headers: str) -> httpx.Response:
    """As a page sends it without asking first: text/plain."""
    return gateway.post(json.dumps({"model": alias, **asks()}).encode(), **{"content_type": "text/plain", **headers})


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_who_comes_from_elsewhere_without_a_key_spends_nothing(gateway: Gateway, headers: dict[str, str]) -> None:
    route = gateway.route("openai")
    with gateway.nothing_written():
        for answer in (chat(gateway, route.alias, **headers), chat(gateway, route.alias, api_key="dummy", **headers)):
            assert (answer.status_code, answer.headers["content-type"]) == (403, "application/json")
            assert answer.json()["error"]["type"] == "permission_error"
            assert answer.json()["error"]["code"] == "open_mode_is_local"


def test_the_refusal_says_what_to_do(gateway: Gateway) -> None:
    page = chat(gateway, "gpt-4o", origin="https://evil.example").json()["error"]["message"]
    proxy = chat(gateway, "gpt-4o", x_forwarded_for="203.0.113.7").json()["error"]["message"]
    assert "CORS_ALLOWED_ORIGINS" in page
    assert "GATEWAY_AUTH=required" in proxy


def test_a_key_of_the_gateways_own_may_come_from_anywhere(gateway: Gateway) -> None:
    route, name = gateway.route("openai"), unique("key")
    secret = gateway.key(name=name)
    for headers in ELSEWHERE:
        assert chat(gateway, route.alias, api_key=secret, **headers).status_code == 200
    assert {entry["key"] for entry in gateway.entries(route.alias)} == {name}
    with gateway.orm():
        ApiKey.objects.filter(name=name).update(enabled=False)
    with gateway.nothing_written():
        assert {chat(gateway, route.alias, api_key=secret, **headers).status_code for headers in ELSEWHERE} == {401}


def test_programs_of_this_machine_and_the_gateways_own_pages_need_no_key(gateway: Gateway) -> None:
    route = gateway.route("openai")
    for headers in (
        {},
        {"origin": gateway.url, "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},  # typed into the address bar
    ):
        assert chat(gateway, route.alias, **headers).status_code == 200


def test_where_keys_are_required_a_proxy_may_stand_in_front(guarded_gateway: Gateway) -> None:
    route, secret = guarded_gateway.route("openai"), guarded_gateway.key()
    for headers in ELSEWHERE:
        assert chat(guarded_gateway, route.alias, api_key=secret, **headers).status_code == 200
        assert chat(guarded_gateway, route.alias, **headers).status_code == 401
