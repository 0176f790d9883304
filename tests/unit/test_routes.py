"""A route that could spend money without a hold is not served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path
from pytest_django import Settings

from gateway_project import checks
from gateway_project.routes import refuse_unknown_routes
from routing.endpoints.chat.view import chat
from routing.endpoints.spending import SpendingView

ROOT = Path(__file__).parents[2]


def echo_tokens(request: HttpRequest) -> HttpResponse:
    return HttpResponse("it calls a provider by itself")


class OfItsOwn(SpendingView):
    """A view that looks like the skeleton and does not go through it."""


#: The gateway's own table, and another route.
urlpatterns = [path("", include("gateway_project.urls")), path("v1/echo-tokens", echo_tokens)]


def test_the_gateways_own_table_is_served() -> None:
    refuse_unknown_routes()


def test_what_goes_through_the_skeleton_is_served_at_any_path() -> None:
    refuse_unknown_routes([path("v2/", include([path("chat", chat)]))])


@pytest.mark.parametrize("view", [echo_tokens, OfItsOwn.as_view()], ids=["a function", "a subclass"])
def test_a_route_of_its_own_is_refused_by_name(view: Callable[..., HttpResponseBase]) -> None:
    with pytest.raises(ImproperlyConfigured, match="'v1/echo-tokens'"):
        refuse_unknown_routes([path("v1/", include([path("echo-tokens", view)]))])


def test_gunicorn_refuses_to_serve_an_unknown_route_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "rogue_settings.py").write_text(
        "from gateway_project.settings import *\nROOT_URLCONF = 'tests.unit.test_routes'\n"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "rogue_settings",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "GATEWAY_ENV_FILE": os.devnull,
        "PORT": "4999",
    }
    gunicorn = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", "gateway_project/gunicorn.conf.py"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert gunicorn.returncode != 0
    assert "'v1/echo-tokens'" in gunicorn.stderr


def test_the_system_check_names_an_unknown_route_too(settings: Settings) -> None:
    assert checks.what_spends_holds() == []
    settings.ROOT_URLCONF = __name__
    (found,) = checks.what_spends_holds()
    assert (found.id, found.is_serious()) == ("gateway.E001", True)
    assert "'v1/echo-tokens'" in found.msg
