"""The paths beside the chat: health, models, errors of HTTP itself, browsers from elsewhere."""

from __future__ import annotations

import json
import threading
import time

import httpx
import psycopg
import pytest

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually, within
from tests.e2e.gateway import Gateway, asks, http

ALIASES = ["claude-sonnet", "gpt-4o", "gemini-pro", "gemini-flash"]
CHAT_PATHS = [
    "/v1/chat/completions",
    "/chat/completions",
    "/openai/deployments/gpt-4o/chat/completions",
    "/v1/engines/gpt-4o/chat/completions",
    "/engines/gpt-4o/chat/completions",
]


def test_health_live_and_ready_answer_without_calling_a_provider(gateway: Gateway) -> None:
    answer = http.get(f"{gateway.url}/health")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"status": "healthy", "models": ALIASES}
    assert http.get(f"{gateway.url}/health/live").json() == {"status": "alive"}
    assert http.get(f"{gateway.url}/health/ready").json() == {"status": "ready"}
    assert gateway.sim.requests == []


def test_health_needs_no_key(guarded_gateway: Gateway) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        assert http.get(guarded_gateway.url + path).status_code == 200
        assert http.head(guarded_gateway.url + path).status_code == 200


def test_looking_at_health_writes_nothing(gateway: Gateway) -> None:
    with gateway.nothing_written():
        for _ in range(5):
            http.get(f"{gateway.url}/health")


def test_health_says_that_somebody_holds_the_ledgers_lock(
    guarded_gateway: Gateway, guarded_postgres: EmbeddedPostgres
) -> None:
    gateway = guarded_gateway
    with psycopg.connect(guarded_postgres.dsn()) as other:
        other.execute("SELECT pg_advisory_xact_lock(7234, 0)")
        began = time.monotonic()
        answer = http.get(f"{gateway.url}/health")
        assert within(time.monotonic() - began, 4)
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
    assert answer.json()["reason"].startswith("the ledger cannot be written")
    assert http.get(f"{gateway.url}/health").status_code == 200


def test_health_says_that_the_ledgers_writer_waits_for_a_row(
    guarded_gateway: Gateway, guarded_postgres: EmbeddedPostgres
) -> None:
    gateway, route, secret = guarded_gateway, guarded_gateway.route("openai"), guarded_gateway.key()
    gateway.budget(route, "10")
    raw = json.dumps({"model": route.alias, **asks()}).encode()
    assert gateway.post(raw, api_key=secret).status_code == 200
    statuses: list[int] = []
    chat = threading.Thread(target=lambda: statuses.append(gateway.post(raw, api_key=secret).status_code))
    with psycopg.connect(guarded_postgres.dsn()) as other:
        other.execute("SELECT id FROM accounting_budgetperiod FOR UPDATE")
        chat.start()
        assert eventually(lambda: http.get(f"{gateway.url}/health").status_code == 503, within_s=7)
    chat.join()
    assert statuses == [200]
    assert http.get(f"{gateway.url}/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/live", "/health/ready"])
def test_health_can_only_be_looked_at(gateway: Gateway, path: str) -> None:
    for method in ("PUT", "POST", "DELETE"):
        answer = http.request(method, gateway.url + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/"])
def test_the_models_are_listed_at_every_path(gateway: Gateway, path: str) -> None:
    answer = http.get(gateway.url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["object"] == "list"
    assert [(model["id"], model["object"]) for model in answer.json()["data"]] == [
        (alias, "model") for alias in ALIASES
    ]


def test_a_model_is_found_by_its_name_and_an_unknown_model_is_a_404(gateway: Gateway) -> None:
    for path in ("/v1/models/gemini-pro", "/models/gemini-pro"):
        found = http.get(gateway.url + path).json()
        assert (found["id"], found["object"], found["owned_by"]) == ("gemini-pro", "model", "gateway")
    answer = http.get(f"{gateway.url}/v1/models/gemini-ultra")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_an_alias_with_a_slash_has_a_path_too(gateway: Gateway) -> None:
    from routing.models import ModelAlias

    route = gateway.route("openai")
    with gateway.orm():
        ModelAlias.objects.filter(name=route.alias).update(name="team/gpt-4o:free")
    assert http.get(f"{gateway.url}/v1/models/team/gpt-4o:free").json()["id"] == "team/gpt-4o:free"
    assert gateway.client().models.retrieve("team/gpt-4o:free").id == "team/gpt-4o:free"
    answer = http.post(
        f"{gateway.url}/openai/deployments/team/gpt-4o:free/chat/completions",
        json={"messages": [{"role": "user", "content": "Hi"}]},
    )
    assert answer.json()["model"] == "team/gpt-4o:free"


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html", "application/xml;q=0.5"])
def test_a_client_is_answered_whatever_its_accept_header_says(gateway: Gateway, accept: str) -> None:
    route = gateway.route("openai")
    chat = {"model": route.alias, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"Accept": accept}
    whole = http.post(f"{gateway.url}/v1/chat/completions", headers=headers, json=chat)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "application/json")
    streamed = http.post(f"{gateway.url}/v1/chat/completions", headers=headers, json={**chat, "stream": True})
    assert (streamed.status_code, streamed.headers["content-type"]) == (200, "text/event-stream")
    assert streamed.text.endswith("data: [DONE]\n\n")
    with gateway.nothing_written():
        refused = http.post(f"{gateway.url}/v1/chat/completions", headers=headers, json={"model": route.alias})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "missing_required_parameter")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", CHAT_PATHS)
def test_another_method_at_the_chat_is_refused_in_json(gateway: Gateway, path: str, method: str) -> None:
    with gateway.nothing_written():
        answer = http.request(method, gateway.url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/json")
    assert "POST" in answer.headers["allow"]
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_head_at_the_chat_is_refused_without_a_body(gateway: Gateway) -> None:
    answer = http.head(f"{gateway.url}/v1/chat/completions")
    assert (answer.status_code, answer.content) == (405, b"")


def test_post_at_the_models_is_refused_in_json(gateway: Gateway) -> None:
    answer = http.post(f"{gateway.url}/v1/models", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/files", "/v1/responses/resp_1", "/v1/audio/voices",
        "/v1/chat", "/v2/chat/completions", "/chat/completion",
        "/nothing", "/%00", "/v1/%ff%fe", "/../etc/passwd", "/v1/chat/completions/../../secrets", "/.env",
        "/favicon.ico", "/" + "x" * 4000,
    ],
    ids=lambda path: path[:30],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_a_404_in_json(gateway: Gateway, method: str, path: str) -> None:
    answer = http.request(method, gateway.url + path, content=b"{}" if method == "POST" else None)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("GET", "/v1/models"), ("GET", "/v1/nothing"), ("PUT", "/v1/chat/completions"),
     ("POST", "/v1/chat/completions"), ("GET", "/admin/login/"), ("OPTIONS", "/v1/chat/completions")],
)  # fmt: skip
def test_every_answer_has_a_request_id_and_the_clients_if_it_is_sane(gateway: Gateway, method: str, path: str) -> None:
    made_up = [http.request(method, gateway.url + path).headers["x-request-id"] for _ in range(2)]
    assert len(set(made_up)) == 2
    given = http.request(method, gateway.url + path, headers={"x-request-id": "Trace:1.a_b-c"})
    assert given.headers["x-request-id"] == "Trace:1.a_b-c"


def test_an_unknown_host_is_refused_in_json(gateway: Gateway) -> None:
    answer = http.get(f"{gateway.url}/v1/models", headers={"host": "evil.example"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")


PAGES = ["https://app.example", "https://preview-7.pages.example"]


def preflight(url: str, origin: str, method: str = "POST") -> httpx.Response:
    return http.options(
        url,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
        },
    )


@pytest.mark.parametrize("origin", PAGES)
def test_a_page_of_a_named_origin_may_ask_and_read_the_answer(guarded_gateway: Gateway, origin: str) -> None:
    gateway, route = guarded_gateway, guarded_gateway.route("openai")
    with gateway.nothing_written():
        asked = preflight(f"{gateway.url}/v1/chat/completions", origin)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["access-control-allow-origin"] == origin
    assert "POST" in asked.headers["access-control-allow-methods"]
    # The wildcard stands for every name but "authorization".
    assert asked.headers["access-control-allow-headers"] == "authorization, *"
    assert "origin" in asked.headers["vary"].lower()
    secret = gateway.key(requests_per_minute=1000, tokens_per_minute=1_000_000)
    answer = gateway.post(
        json.dumps({"model": route.alias, **asks()}).encode(), authorization=f"Bearer {secret}", origin=origin
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    ours = {name for name in answer.headers if name.startswith(("x-request-", "x-gateway-", "x-ratelimit-"))}
    assert len(ours) >= 13
    assert ours <= exposed(answer)


def exposed(answer: httpx.Response) -> set[str]:
    """The headers that a browser shows to the page."""
    return set(answer.headers["access-control-expose-headers"].split(", "))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/chat/completions", {}, 401),
        ("GET", "/nothing", {}, 404),
        ("POST", "/health", {}, 405),
        ("GET", "/v1/models", {"host": "evil.example"}, 400),  # by Django's own middleware
    ],
)
def test_a_page_of_a_named_origin_may_read_what_went_wrong(
    guarded_gateway: Gateway, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = http.request(method, guarded_gateway.url + path, headers={"Origin": PAGES[0], **headers})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.headers["access-control-allow-origin"] == PAGES[0]
    assert {"x-request-id", "x-should-retry", "retry-after"} <= exposed(answer)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://pages.example", "https://evilpages.example", "http://app.example", "null", "//["],
)
def test_a_page_of_another_origin_may_not_read_the_answer(guarded_gateway: Gateway, origin: str) -> None:
    for answer in (
        preflight(f"{guarded_gateway.url}/v1/chat/completions", origin),
        http.get(f"{guarded_gateway.url}/v1/models", headers={"Origin": origin}),
    ):
        assert "access-control-allow-origin" not in answer.headers


def test_without_named_origins_no_page_may_read_an_answer(gateway: Gateway) -> None:
    for answer in (
        preflight(f"{gateway.url}/v1/chat/completions", PAGES[0]),
        http.get(f"{gateway.url}/v1/models", headers={"Origin": PAGES[0]}),
    ):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/admin/login/", "/static/routing/admin.css"])
def test_the_admin_is_for_no_other_page_to_read(guarded_gateway: Gateway, path: str) -> None:
    for answer in (
        preflight(guarded_gateway.url + path, PAGES[0], "GET"),
        http.get(guarded_gateway.url + path, headers={"Origin": PAGES[0]}),
    ):
        assert [name for name in answer.headers if name.startswith("access-control-")] == []


def test_options_that_are_not_a_preflight_are_answered_at_once(guarded_gateway: Gateway) -> None:
    with guarded_gateway.nothing_written():
        answer = http.options(f"{guarded_gateway.url}/v1/chat/completions")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_page_s_cookies_do_not_count_as_a_key(guarded_gateway: Gateway) -> None:
    """`access-control-allow-credentials` is never given."""
    answer = http.options(
        f"{guarded_gateway.url}/v1/models",
        headers={"Origin": "https://app.example", "Access-Control-Request-Method": "GET"},
    )
    assert "access-control-allow-credentials" not in answer.headers
