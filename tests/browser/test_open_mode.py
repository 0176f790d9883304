"""A page from elsewhere in the operator's own browser, while the gateway serves without keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.gateway import Gateway


@pytest.fixture
def foreign_page(browser: Browser) -> Iterator[Page]:
    """A page of another port of this machine, which is another origin."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        context.close()
        server.shutdown()
        thread.join()


def test_a_page_from_elsewhere_cannot_spend(foreign_page: Page, gateway: Gateway) -> None:
    """`no-cors` with text/plain: the browser asks nobody whether the page may send this."""
    route = gateway.route("openai")
    with gateway.nothing_written(), foreign_page.expect_response(f"{gateway.url}/**") as answered:
        foreign_page.evaluate(
            """([url, alias]) => fetch(url, {
                    method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"},
                    body: JSON.stringify({model: alias, messages: [{role: "user", content: "spend"}]}),
                }).then(answer => answer.type)""",
            [f"{gateway.url}/v1/chat/completions", route.alias],
        )
    assert answered.value.status == 403
