"""The short way of requests that spend gives the answers of Django's own way: two gateways, one database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, asks, http
from tests.e2e.launcher import RunningGateway
from tests.simulator import Simulator

PAGE = {"Origin": "https://app.example"}
#: What differs from request to request.
_ITS_OWN = re.compile(r'"(id|created)": ?("[^"]*"|\d+)|data: \[DONE\]')


@pytest.fixture(scope="module")
def djangos_way(
    tmp_path_factory: pytest.TempPathFactory,
    guarded_shared_gateway: Gateway,
    guarded_postgres: EmbeddedPostgres,
    sim: Simulator,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Gateway]:
    variables = {
        name: guarded_shared_gateway.running.environment[name]
        for name in ("DATABASE_URL", "GATEWAY_AUTH", "GATEWAY_MAX_BODY_BYTES", "CORS_ALLOWED_ORIGINS")
    }
    data_dir = tmp_path_factory.mktemp("djangos-way")
    running = RunningGateway.in_tree(data_dir, GATEWAY_ENTRY="django", **variables, **PROVIDER_KEYS)
    try:
        running.wait_until_ready()
        gateway = Gateway(running, guarded_postgres.dsn(), sim, django_db_blocker)
        yield gateway
        gateway.close()
    finally:
        running.close()


def seen(gateway: Gateway, path: str, body: bytes, headers: dict[str, str], method: str) -> tuple[Any, ...]:
    answer: httpx.Response = http.request(method, gateway.url + path, content=body, headers=headers)
    names = {
        name: "" if name.startswith(("x-ratelimit-remaining", "x-ratelimit-reset")) else value
        for name, value in answer.headers.items()
        if name not in ("date", "x-request-id")
    }
    keeps_id = answer.headers["x-request-id"] == headers.get("x-request-id")
    text = _ITS_OWN.sub("", answer.text)
    if "id" in (answer.json() if "json" in names["content-type"] and answer.text else {}):
        names.pop("content-length", None)  # the id is in it
    return answer.status_code, keeps_id, sorted(names.items()), text


def test_both_ways_give_the_same_answer(guarded_gateway: Gateway, djangos_way: Gateway) -> None:
    route, key = guarded_gateway.route("openai"), guarded_gateway.key()
    chat = {"model": route.alias, **asks()}
    limited = guarded_gateway.key(requests_per_minute=100_000)
    plain = json.dumps(chat).encode()
    streamed = json.dumps({**chat, "stream": True, "stream_options": {"include_usage": True}}).encode()
    unknown = json.dumps({**chat, "model": "no-such-model"}).encode()
    bearer = {"Authorization": f"Bearer {key}"}
    requests: list[tuple[str, bytes, dict[str, str], str]] = [
        ("/v1/chat/completions", plain, bearer, "POST"),
        ("/chat/completions/", plain, {"x-api-key": key}, "POST"),
        (f"/openai/deployments/{route.alias}/chat/completions?api-version=1", plain, {"api-key": key}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "x-request-id": "mine-1"}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "x-request-id": "not plain!"}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, **PAGE}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "Origin": "https://a.pages.example"}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "Origin": "https://evil.example"}, "POST"),
        ("/v1/chat/completions", plain, {"Authorization": f"Bearer {limited}"}, "POST"),
        ("/v1/chat/completions", streamed, {**bearer, **PAGE}, "POST"),
        ("/v1/chat/completions", streamed, bearer, "POST"),
        ("/v1/chat/completions", plain, {}, "POST"),
        ("/v1/chat/completions", plain, {"Authorization": "Bearer sk-gw-wrong", **PAGE}, "POST"),
        ("/v1/chat/completions", unknown, bearer, "POST"),
        ("/v1/chat/completions", b"{", {**bearer, **PAGE}, "POST"),
        ("/v1/chat/completions", b"", bearer, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "x-gateway-timeout": "never"}, "POST"),
        ("/v1/chat/completions", b" " * 1_048_577, {**bearer, **PAGE}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "Host": "evil.example"}, "POST"),
        ("/v1/chat/completions", plain, {**bearer, "Host": "127.0.0.1:1", "X-Forwarded-Proto": "https"}, "POST"),
        ("/v1/chat/completions", b"", bearer, "GET"),
        ("/v1/chat/completions", b"", {**PAGE, "Access-Control-Request-Method": "POST"}, "OPTIONS"),
        ("/v1/no/such/path", plain, bearer, "POST"),
    ]
    statuses = set()
    for request in requests:
        ours, django = seen(guarded_gateway, *request), seen(djangos_way, *request)
        assert ours == django, request
        statuses.add(ours[0])
    assert statuses == {200, 400, 401, 404, 405, 413}


def test_a_request_leaves_no_connection_to_the_database_open(guarded_gateway: Gateway) -> None:
    """A wrong key makes the gateway look at the newest configuration, over a connection of Django's."""
    route = guarded_gateway.route("openai")
    body = json.dumps({"model": route.alias, **asks()})
    wrong = {"Authorization": "Bearer sk-gw-wrong"}

    def sessions() -> int:
        query = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'gateway'"
        return int(guarded_gateway.rows(query)[0]["n"])

    before = sessions()
    with httpx.Client() as one, httpx.Client() as other, httpx.Client() as third:
        for client in (one, other, third):  # each keeps its connection, and with it its greenlet
            for _ in range(2):
                url = f"{guarded_gateway.url}/v1/chat/completions"
                assert client.post(url, content=body, headers=wrong).status_code == 401
        assert eventually(lambda: sessions() <= before, 5), sessions()
