"""Chromium, and a gateway of two workers whose providers are simulated, for the tests that click."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.e2e.gateway import PROVIDER_KEYS, Gateway
from tests.e2e.launcher import RunningGateway
from tests.simulator import Simulator

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, so that Playwright downloads no browser."""
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("There is no browser for these tests: apt-get update && apt-get install chromium", pytrace=False)
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright keeps an event loop in this thread, in which Django would refuse the tests' own queries.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[Gateway]:
    data_dir = tmp_path_factory.mktemp("browsed") / "data"
    keys = {name: value for name, value in PROVIDER_KEYS.items() if name != "GEMINI_API_KEY"}
    with Simulator() as simulator:
        running = RunningGateway.in_tree(data_dir, WEB_CONCURRENCY="2", **keys)
        try:
            running.wait_until_ready()
            gateway = Gateway(running, EmbeddedPostgres(data_dir / "postgres").dsn(), simulator, django_db_blocker)
            gateway.point_defaults_at_simulator()
            yield gateway
            gateway.close()
        finally:
            running.close()


@pytest.fixture
def page(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    """A fresh session, signed in as the administrator of the first start."""
    context = browser.new_context(base_url=gateway.url, viewport={"width": 1440, "height": 1000}, color_scheme="light")
    page = context.new_page()
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(gateway.running.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("/admin/")
    yield page
    context.close()
