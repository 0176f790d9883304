"""The paths beside the chat: health, models, errors of HTTP itself, browsers from elsewhere."""

from __future__ import annotations

import pytest

from tests.e2e.gateway import Gateway, http

ALIASES = ["claude-sonnet", "gpt-4o", "gemini-pro", "gemini-flash"]
CHAT_PATHS = [
    "/v1/chat/completions",
    "/chat/completions",
    "/openai/deployments/gpt-4o/chat/completions",
    "/v1/engines/gpt-4o/chat/completions",
    "/engines/gpt-4o/chat/completions",
]


def test_health(gateway: Gateway) -> None:
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


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/"])
def test_the_models(gateway: Gateway, path: str) -> None:
    answer = http.get(gateway.url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "object": "list",
        "data": [{"id": alias, "object": "model", "created": 0, "owned_by": "gateway"} for alias in ALIASES],
    }


def test_one_model(gateway: Gateway) -> None:
    for path in ("/v1/models/gemini-pro", "/models/gemini-pro"):
        assert http.get(gateway.url + path).json() == {
            "id": "gemini-pro", "object": "model", "created": 0, "owned_by": "gateway",
        }  # fmt: skip
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
def test_whatever_a_client_accepts_it_is_answered(gateway: Gateway, accept: str) -> None:
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
        "/", "/v1", "/v1/", "/v1/embeddings", "/v1/responses", "/v1/chat", "/v2/chat/completions", "/chat/completion",
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


def test_browsers_of_the_named_origin_are_let_in(guarded_gateway: Gateway) -> None:
    url, origin = f"{guarded_gateway.url}/v1/chat/completions", {"Origin": "https://app.example"}
    preflight = http.options(
        url,
        headers={
            **origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert "Origin" in preflight.headers["vary"]
    refused = http.post(url, headers=origin, content=b"{}")
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"  # so that the page can read why
    assert "x-request-id" in refused.headers["access-control-expose-headers"]


def test_browsers_of_other_origins_are_not(guarded_gateway: Gateway, gateway: Gateway) -> None:
    for url in (guarded_gateway.url, gateway.url):
        answer = http.options(
            f"{url}/v1/chat/completions",
            headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
        )
        assert "access-control-allow-origin" not in answer.headers
        answer = http.get(f"{url}/v1/models", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_a_pages_cookies_are_no_key(guarded_gateway: Gateway) -> None:
    """`access-control-allow-credentials` is never given."""
    answer = http.options(
        f"{guarded_gateway.url}/v1/models",
        headers={"Origin": "https://app.example", "Access-Control-Request-Method": "GET"},
    )
    assert "access-control-allow-credentials" not in answer.headers
