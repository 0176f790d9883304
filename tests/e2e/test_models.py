"""What clients learn of the aliases: in OpenAI's shape, in Anthropic's, and in that of LiteLLM's proxy."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any

import anthropic
import pytest

from routing.models import FurtherDeployment, ModelAlias, Provider
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, http
from tests.prices import add_price

CHAT_PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
ANTHROPIC = {"anthropic-version": "2023-06-01"}


def made_at(gateway: Gateway, alias: str) -> datetime:
    (row,) = gateway.rows("SELECT created_at FROM routing_modelalias WHERE name = %s", alias)
    made: datetime = row["created_at"]
    return made


def test_a_model_says_when_it_was_made_what_it_is_for_how_much_it_reads_and_what_it_costs(gateway: Gateway) -> None:
    before = datetime.now(UTC)
    route = gateway.route("openai")
    found = http.get(f"{gateway.url}/v1/models/{route.alias}").json()
    created = found.pop("created")
    assert int(before.timestamp()) <= created <= datetime.now(UTC).timestamp()
    assert created == int(made_at(gateway, route.alias).timestamp())
    paths = found.pop("endpoints")
    assert paths[:4] == [*CHAT_PATHS, f"/v1beta/models/{route.alias}:generateContent"]
    assert "/v1/embeddings" not in paths
    assert found == {
        "id": route.alias, "object": "model", "owned_by": "gateway", "mode": "chat", "context_window": 128_000,
        "max_output_tokens": 16_384, "input_usd_per_mtok": 2.51, "output_usd_per_mtok": 10.07,
    }  # fmt: skip
    listed = http.get(f"{gateway.url}/v1/models").json()["data"]
    assert [model for model in listed if model["id"] == route.alias] == [
        {"created": created, "endpoints": paths, **found}
    ]


@pytest.mark.parametrize("prefix", ["/v1", "", "/openai", "/openai/v1"])
def test_models_are_found_below_every_base_url(gateway: Gateway, prefix: str) -> None:
    assert "gpt-4o" in [model["id"] for model in http.get(f"{gateway.url}{prefix}/models").json()["data"]]
    assert http.get(f"{gateway.url}{prefix}/models/gpt-4o").json()["id"] == "gpt-4o"


def test_an_alias_for_embeddings_names_the_path_that_serves_it(gateway: Gateway) -> None:
    route = gateway.route("openai", model="text-embedding-3-small")
    found = http.get(f"{gateway.url}/v1/models/{route.alias}").json()
    assert (found["mode"], found["context_window"]) == ("embedding", 8191)
    assert found["endpoints"] == ["/v1/embeddings", f"/v1beta/models/{route.alias}:embedContent"]
    body = {"model": route.alias, "input": "Hi"}
    assert http.post(f"{gateway.url}{found['endpoints'][0]}", json=body).status_code == 200


def test_what_nobody_knows_of_a_model_is_null_and_it_may_be_asked_anywhere(gateway: Gateway) -> None:
    route = gateway.route("openai", model="house-model", priced=False)
    found = http.get(f"{gateway.url}/v1/models/{route.alias}").json()
    names = ("mode", "context_window", "max_output_tokens", "input_usd_per_mtok", "output_usd_per_mtok")
    assert [found[name] for name in names] == [None] * 5
    assert {"/v1/chat/completions", "/v1/embeddings"} <= set(found["endpoints"])


def test_several_deployments_say_the_least_limits_and_the_dearest_price_of_all(gateway: Gateway) -> None:
    route = gateway.route("openai")
    with gateway.orm():
        alias, provider = ModelAlias.objects.get(name=route.alias), Provider.objects.get(name=route.providers[0])
        FurtherDeployment.objects.create(alias=alias, position=1, provider=provider, upstream_model="gpt-4")
        add_price(provider.name, "gpt-4", input="30", output="5")

    def said() -> list[Any]:
        found = http.get(f"{gateway.url}/v1/models/{route.alias}").json()
        return [
            found[name] for name in ("context_window", "max_output_tokens", "input_usd_per_mtok", "output_usd_per_mtok")
        ]

    assert said() == [8192, 4096, 30, 10.07]
    with gateway.orm():
        FurtherDeployment.objects.create(alias=alias, position=2, provider=provider, upstream_model="house-model")
    assert said() == [8192, 4096, None, None]  # the one without a price may be the dearest


def test_the_models_of_a_first_start_were_made_at_the_first_start(gateway: Gateway) -> None:
    data = http.get(f"{gateway.url}/v1/models").json()["data"]
    for model in data[:4]:
        assert model["created"] == int(made_at(gateway, model["id"]).timestamp()) > 1_700_000_000


def test_an_alias_older_than_our_knowledge_has_the_beginning_of_time(gateway: Gateway) -> None:
    route = gateway.route("openai")
    with gateway.orm():
        ModelAlias.objects.filter(name=route.alias).update(created_at=None)
    url = f"{gateway.url}/v1/models/{route.alias}"
    assert http.get(url).json()["created"] == 0
    assert http.get(url, headers=ANTHROPIC).json()["created_at"] == "1970-01-01T00:00:00Z"


# --- Anthropic's shape ------------------------------------------------------------------------------------------------


def test_anthropics_client_reads_a_model(gateway: Gateway) -> None:
    route = gateway.route("anthropic")
    client = anthropic.Anthropic(base_url=gateway.url, api_key="dummy", max_retries=0)
    model = client.models.retrieve(route.alias)
    assert (model.id, model.display_name, model.type) == (route.alias, route.alias, "model")
    assert model.created_at == made_at(gateway, route.alias).replace(microsecond=0)
    assert (model.max_tokens, model.max_input_tokens, model.lifecycle) == (128_000, 1_000_000, "active")


def test_anthropics_client_pages_through_all_models_in_both_directions(gateway: Gateway) -> None:
    for _ in range(5):
        gateway.route("openai")
    names = [model["id"] for model in http.get(f"{gateway.url}/v1/models").json()["data"]]
    client = anthropic.Anthropic(base_url=gateway.url, api_key="dummy", max_retries=0)
    assert [model.id for model in client.models.list(limit=2)] == names
    last = client.models.list(limit=2, before_id=names[3])
    assert ([model.id for model in last.data], last.has_more) == (names[1:3], True)
    first = client.models.list(limit=3, before_id=names[1])
    assert ([model.id for model in first.data], first.has_more) == (names[:1], False)


def test_a_page_of_anthropics_list_says_where_it_begins_and_ends(gateway: Gateway) -> None:
    for _ in range(18):
        gateway.route("openai")
    names = [model["id"] for model in http.get(f"{gateway.url}/v1/models").json()["data"]]

    def page(**query: str) -> tuple[int, bool, str | None, str | None]:
        found = http.get(f"{gateway.url}/v1/models", params=query, headers=ANTHROPIC).json()
        return len(found["data"]), found["has_more"], found["first_id"], found["last_id"]

    assert len(names) > 20
    assert page() == (20, True, names[0], names[19])
    assert page(after_id=names[19]) == (len(names) - 20, False, names[20], names[-1])
    assert page(after_id=names[-1]) == (0, False, None, None)
    assert page(limit="1000") == (len(names), False, names[0], names[-1])


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after_id": "nobody"}, "after_id"),
        ({"before_id": "nobody"}, "before_id"),
        ({"after_id": "gpt-4o", "before_id": "gpt-4o"}, "before_id"),
    ],
)
def test_a_page_that_is_not_there_is_refused_in_anthropics_envelope(
    gateway: Gateway, query: dict[str, str], param: str
) -> None:
    answer = http.get(f"{gateway.url}/v1/models", params=query, headers=ANTHROPIC)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["param"] == param


def test_an_unknown_model_and_a_missing_key_are_refused_in_anthropics_envelope(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    answer = http.get(f"{gateway.url}/v1/models", headers=ANTHROPIC)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    answer = http.get(f"{gateway.url}/v1/models/nothing", headers={**ANTHROPIC, "x-api-key": gateway.key()})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")


# --- LiteLLM's shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/model/info", "/v1/model/info"])
def test_model_info_tells_of_each_deployment_and_of_no_address_and_no_key(guarded_gateway: Gateway, path: str) -> None:
    gateway = guarded_gateway
    route, other = gateway.route("anthropic", "openai"), gateway.route("openai")
    key = gateway.key(allowed_aliases=[route.alias])
    with gateway.nothing_written():
        assert http.get(gateway.url + path).status_code == 401
        answer = http.get(gateway.url + path, headers={"Authorization": f"Bearer {key}"})
    (found,) = answer.json()["data"]
    assert found["model_name"] == route.alias
    assert found["litellm_params"] == {
        "model": "anthropic/claude-sonnet-4-6", "custom_llm_provider": "anthropic", "max_tokens": 1024,
    }  # fmt: skip
    info = found["model_info"]
    assert (info["mode"], info["litellm_provider"], info["max_tokens"]) == ("chat", "anthropic", 128_000)
    assert (info["max_input_tokens"], info["max_output_tokens"]) == (1_000_000, 128_000)
    costs = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    assert [info[name] for name in costs] == [2.51e-06, 1.007e-05, 2.53e-07]
    assert info["cache_creation_input_token_cost"] == 3.137e-06
    assert (info["supports_vision"], info["supports_prompt_caching"]) == (True, True)
    assert info["supports_audio_input"] is None
    for secret in (*PROVIDER_KEYS.values(), *PROVIDER_KEYS, gateway.sim.url, other.alias):
        assert secret not in answer.text


def test_model_info_finds_a_deployment_by_its_id(gateway: Gateway) -> None:
    route = gateway.route("openai")
    (row,) = [r for r in http.get(f"{gateway.url}/model/info").json()["data"] if r["model_name"] == route.alias]
    found = http.get(f"{gateway.url}/model/info", params={"litellm_model_id": row["model_info"]["id"]}).json()
    assert found == {"data": [row]}
    answer = http.get(f"{gateway.url}/model/info", params={"litellm_model_id": "nothing"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "litellm_model_id")


def test_litellms_probes_need_neither_a_key_nor_our_name(guarded_gateway: Gateway) -> None:
    for path in ("/health/liveliness", "/health/liveness"):
        answer = http.get(guarded_gateway.url + path, headers={"host": "10.0.0.7"})
        assert (answer.status_code, answer.json()) == (200, "I'm alive!")
    answer = http.get(f"{guarded_gateway.url}/health/readiness", headers={"host": "10.0.0.7"})
    assert (answer.status_code, answer.json()) == (200, {"status": "healthy", "db": "connected"})
    assert http.post(f"{guarded_gateway.url}/health/readiness").status_code == 405


# --- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime/client_secrets", "/v1/files/file-1", "/v1/batches", "/v1/assistants", "/v1/threads/t/runs",
        "/v1/vector_stores/v/search", "/v1/fine_tuning/jobs", "/v1/evals", "/v1/containers", "/v1/videos",
        "/openai/v1/evals", "/openai/files", "/v1/chat/completions/chatcmpl-1", "/v1/conversations", "/v1/uploads",
    ],
)  # fmt: skip
def test_what_others_serve_and_we_do_not_says_what_there_is(gateway: Gateway, path: str) -> None:
    for method in ("GET", "POST"):
        answer = http.request(method, gateway.url + path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), (method, path)
        assert "There are POST /v1/chat/completions" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/messages/batches", {}), ("/v1/files", ANTHROPIC), ("/v1/skills", ANTHROPIC)]
)
def test_anthropics_clients_hear_of_it_in_their_envelope(gateway: Gateway, path: str, headers: dict[str, str]) -> None:
    answer = http.post(gateway.url + path, json={}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (404, "error")
    assert answer.json()["error"]["type"] == "not_found_error"


def test_a_websocket_to_realtime_is_refused_with_a_sentence(gateway: Gateway) -> None:
    handshake = (
        "GET /v1/realtime?model=gpt-4o HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with gateway.send(handshake.encode()) as connection:
        answer = httpx_response(connection)
    assert answer[0].startswith("HTTP/1.1 404")
    assert json.loads(answer[1])["error"]["message"].startswith("Realtime sessions are not served")


def httpx_response(connection: socket.socket) -> tuple[str, str]:
    """The head and the body of the answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
    while len(body) < length:
        body += connection.recv(65536)
    return head.decode(), body.decode()
