"""Which web pages may spend in open mode: those that the operator has named."""

from __future__ import annotations

from django.http import HttpRequest
from django.test import RequestFactory
from pytest_django import Settings

from gateway_project.environment import subdomains_pattern
from routing.api.open_mode import refusal_of_strangers


def asked_by(origin: str) -> HttpRequest:
    return RequestFactory().post("/v1/chat/completions", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})


def test_named_origins_pass_and_no_others(settings: Settings) -> None:
    settings.GATEWAY_AUTH = "open"
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    settings.CORS_ALLOWED_ORIGIN_REGEXES = [subdomains_pattern("https://*.pages.example")]
    for origin in ("http://testserver", "https://app.example", "https://a.pages.example"):
        assert refusal_of_strangers(asked_by(origin)) is None, origin
    for origin in ("https://testserver", "http://app.example", "https://pages.example", "https://a.pages.example.evil"):
        assert refusal_of_strangers(asked_by(origin)) is not None, origin
