"""A dry run says what a request would hold, which steps it would try and why it would be refused, and does nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx
import pytest

from routing.models import Provider
from tests.clocks import eventually
from tests.e2e.gateway import OUTPUT_USD, Gateway, Route, http, unique
from tests.e2e.test_sound import route_of, wav
from tests.simulator import faults

Json = dict[str, Any]
MESSAGES = [{"role": "user", "content": "Say hello"}]
ANTHROPIC = {"anthropic-version": "2023-06-01"}


def post(
    gateway: Gateway, path: str, body: Json, key: str = "", headers: dict[str, str] | None = None
) -> httpx.Response:
    bearer = {"Authorization": f"Bearer {key}"} if key else {}
    return http.post(gateway.url + path, json=body, headers={**bearer, **(headers or {})})


def dry_run(gateway: Gateway, path: str, body: Json, key: str = "", headers: dict[str, str] | None = None) -> Json:
    answer = post(gateway, "/v1/dry-run", {"endpoint": path, "body": body}, key, headers)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def written(gateway: Gateway, route: Route) -> list[str]:
    """All that a request, a refusal, a failure or an opened window would write, as one number each."""
    tables = ["ledgerentry", "attempt", "charge", "budgetperiod", "keyrate", "configurationversion"]
    rows = [f"accounting_{name} t" for name in tables]
    # Others write these late, so only what is of this route counts.
    rows.append(f"accounting_refusedrequest t WHERE alias = '{route.alias}'")
    rows += [f"routing_{name} t WHERE provider = '{route.providers[0]}'" for name in ("breakerstate", "breakeruse")]
    sums = "SELECT md5(coalesce(string_agg(t::text, '' ORDER BY t::text), '')) AS sum FROM "
    return [gateway.rows(sums + each)[0]["sum"] for each in rows]


# --- the table: what it says is what happens --------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    path: str
    body: Json  # but for the model
    wires: tuple[str, ...] = ("openai",)
    headers: dict[str, str] = field(default_factory=dict)
    model: str = ""
    priced: bool = True
    is_down: bool = False  # all providers
    limit: str = ""  # of a hard budget for the alias
    key: Json = field(default_factory=dict)
    model_asked: str = ""


CASES = {
    "a chat": Case("/v1/chat/completions", {"messages": MESSAGES}),
    "a stream with a cap": Case(
        "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 77, "stream": True, "n": 2}
    ),
    "a chat in a small budget, whose cap is narrowed": Case(
        "/v1/chat/completions", {"messages": MESSAGES}, limit="0.05"
    ),
    "messages, natively": Case(
        "/v1/messages", {"messages": MESSAGES, "max_tokens": 300}, ("anthropic",), ANTHROPIC
    ),
    "messages by way of chat": Case("/v1/messages", {"messages": MESSAGES, "max_tokens": 300}, headers=ANTHROPIC),
    "responses": Case("/v1/responses", {"input": "Say hello", "store": False}),
    "Google's format": Case(
        "/v1beta/models/{alias}:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}, ("gemini",)
    ),
    "a spent budget in Google's envelope": Case(
        "/v1beta/models/{alias}:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}, limit="0"
    ),
    "a completion": Case("/v1/completions", {"prompt": "Say hello", "max_tokens": 9}),
    "embeddings": Case("/v1/embeddings", {"input": ["Hi", "there"]}, model="text-embedding-3-small"),
    "a chain that fails to its end": Case(
        "/v1/chat/completions", {"messages": MESSAGES}, ("openai", "anthropic", "gemini"), is_down=True
    ),
    "a spent budget": Case("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 500}, limit="0"),
    "a request larger than the budget": Case(
        "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 9000}, limit="0.01"
    ),
    "a spent budget in Anthropic's envelope": Case(
        "/v1/messages", {"messages": MESSAGES, "max_tokens": 500}, headers=ANTHROPIC, limit="0"
    ),
    "an unknown model": Case("/v1/chat/completions", {"messages": MESSAGES}, model_asked="nothing"),
    "a model that the key may not use": Case(
        "/v1/chat/completions", {"messages": MESSAGES}, key={"allowed_aliases": ["gpt-4o"]}
    ),
    "a model of another kind": Case("/v1/embeddings", {"input": "Hi"}),
    "a model without a price": Case("/v1/chat/completions", {"messages": MESSAGES}, priced=False, limit="5"),
    "a cost that nobody bounds": Case(
        "/v1/chat/completions", {"messages": MESSAGES, "some_new_thing": True}, limit="5"
    ),
    "a wrong field": Case("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": "many"}),
    "a missing field": Case("/v1/chat/completions", {}),
    "a missing tag": Case("/v1/chat/completions", {"messages": MESSAGES}, key={"required_tags": ["team"]}),
    "a limit of tokens a minute": Case(
        "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 500}, key={"tokens_per_minute": 100}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_a_dry_run_says_is_what_happens(guarded_gateway: Gateway, case: Case) -> None:
    gateway = guarded_gateway
    route = gateway.route(*case.wires, model=case.model, priced=case.priced, cap=None, retries=0, breaker_failures=50)
    key = gateway.key(**case.key)
    if case.limit:
        gateway.budget(route, case.limit)
    body, path = {"model": case.model_asked or route.alias, **case.body}, case.path
    if "{alias}" in path:
        body, path = case.body, path.replace("{alias}", route.alias)
    before = written(gateway, route)
    headers = {**case.headers, "x-request-id": unique("asked")}  # some envelopes have it
    with gateway.nothing_written():
        said = dry_run(gateway, path, body, key, headers)
        again = dry_run(gateway, path, body, key, headers)
    assert said == again
    assert written(gateway, route) == before

    if case.is_down:
        for provider in route.providers:
            gateway.sim.behave(provider, faults.unavailable().but(window_s=30))
    answer = post(gateway, path, body, key, headers)
    if said["admitted"]:
        assert said["refusal"] is None
        entry = gateway.entry(route.alias)
        tried = [(a["alias"], a["provider"], a["model"], a["key_reference"]) for a in gateway.attempts(route.alias)]
        names = ("alias", "provider", "model", "key_reference")
        steps = [tuple(step[name] for name in names) for step in said["steps"]]
        assert steps[: len(tried)] == tried
        assert not case.is_down or len(steps) == len(tried) == len(case.wires)
        most = max(Decimal(step["hold_usd"]) for step in said["steps"][: len(tried)])
        assert entry["hold_usd"] == most, "each further step is topped up to its own"
        assert Decimal(said["hold_usd"]) == Decimal(said["steps"][0]["hold_usd"])
        assert answer.status_code == (502 if case.is_down else 200)
    else:
        assert (answer.status_code, answer.json()["error"]) == (said["status"], said["refusal"])
        assert said["hold_usd"] is None
        sent = {name.lower(): value for name, value in said["refusal_headers"].items()}
        assert {name: answer.headers[name] for name in sent if name != "retry-after"} == {
            name: value for name, value in sent.items() if name != "retry-after"
        }
        assert gateway.entries(route.alias) == []


def test_a_dry_run_leaves_no_refusal_behind(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route, key = gateway.route("openai"), gateway.key()
    gateway.budget(route, "0")
    for _ in range(3):
        assert dry_run(gateway, "/v1/chat/completions", {"model": route.alias, "messages": MESSAGES}, key)["refusal"]
    post(
        gateway,
        "/v1/chat/completions",
        {"model": route.alias, "messages": MESSAGES},
        key,
        {"x-request-id": "the-real-one"},
    )

    def refused() -> list[str]:
        return [
            row["request_id"] for row in gateway.rows("SELECT request_id FROM refusals WHERE alias = %s", route.alias)
        ]

    assert eventually(lambda: bool(refused()), within_s=10)
    assert refused() == ["the-real-one"]
    assert [line["request_id"] for line in gateway.log_lines(event="budget refused a request", alias=route.alias)] == [
        "the-real-one"
    ]


# --- what it tells ----------------------------------------------------------------------------------------------------


def test_it_tells_steps_quantities_budgets_and_rates(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route = gateway.route("openai", "anthropic", cap=1024)
    key = gateway.key(requests_per_minute=1_000_000, concurrent_requests=7)
    budget = gateway.budget(route, "5")
    post(gateway, "/v1/chat/completions", {"model": route.alias, "messages": MESSAGES}, key)
    gateway.wait_settled(route.alias)
    said = dry_run(gateway, "/v1/chat/completions", {"model": route.alias, "messages": MESSAGES, "n": 3}, key)
    first, second = said["steps"]
    assert (first["position"], first["alias"], first["provider"], first["model"]) == (
        1, route.alias, route.providers[0], "gpt-4o",
    )  # fmt: skip
    assert (first["kind"], first["key_reference"], first["breaker"]) == ("chat", "env:OPENAI_API_KEY", "closed")
    assert (first["quantities"]["output_cap_tokens"], first["quantities"]["output_cap_of"]) == (1024, "alias")
    assert first["quantities"]["answers"] == 3
    input_usd = Decimal(first["hold_usd"]) - 3 * 1024 * OUTPUT_USD / 1_000_000
    assert 0 < input_usd < Decimal("0.01")
    assert second["key_reference"] == "env:ANTHROPIC_API_KEY"
    assert (first["budgets"], second["budgets"]) == (["global", budget], ["global"])
    (row,) = [row for row in said["budgets"] if row["budget"] == budget]
    entry = gateway.entry(route.alias)
    assert row["steps"] == [1]
    assert (row["limit_usd"], Decimal(row["posted_usd"]), row["held_usd"]) == ("5", entry["cost_usd"], "0")
    assert Decimal(row["available_usd"]) == 5 - entry["cost_usd"]
    assert row["resets_at"] is not None
    rates = said["rate_limits"]
    assert rates["concurrent_requests"] == {"limit": 7, "used": 0}
    assert rates["requests_per_minute"]["limit"] == 1_000_000
    assert rates["requests_per_minute"]["used"] in (0, 1)  # the minute may have changed


def test_it_tells_of_an_open_breaker_and_of_a_key_that_is_not_there(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", retries=0, breaker_failures=1, breaker_cooldown_s=300)
    with gateway.orm():
        Provider.objects.filter(name=route.providers[1]).update(key_reference="env:NOBODY_SET_THIS_API_KEY")
    gateway.sim.behave(route.providers[0], faults.unavailable().but(window_s=30))
    body = {"model": route.alias, "messages": MESSAGES}
    post(gateway, "/v1/chat/completions", body)

    def first() -> Json:
        step: Json = dry_run(gateway, "/v1/chat/completions", body)["steps"][0]
        return step

    def is_open() -> bool:  # to whichever worker answers
        step = first()
        return bool(step["breaker"] == "open" and 200 < step["breaker_open_s"] <= 300)

    assert eventually(is_open, within_s=5)
    second = dry_run(gateway, "/v1/chat/completions", body)["steps"][1]
    assert (second["key_reference"], bool(second["key_problem"])) == (None, True)


def test_it_passes_over_the_step_without_room_as_the_request_would(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route, key = gateway.route("openai", "anthropic"), gateway.key()
    budget = gateway.budget(route, "0")
    body = {"model": route.alias, "messages": MESSAGES}
    said = dry_run(gateway, "/v1/chat/completions", body, key)
    assert said["admitted"]
    assert [step["provider"] for step in said["steps"]] == list(route.providers)
    assert said["steps"][0]["refusal"]["budget"] == budget
    assert said["steps"][1]["refusal"] is None
    assert said["hold_usd"] == said["steps"][1]["hold_usd"]
    answer = post(gateway, "/v1/chat/completions", body, key)
    assert answer.headers["x-gateway-provider"] == route.providers[1]
    assert gateway.entry(route.alias)["hold_usd"] == Decimal(said["hold_usd"])


def test_a_budget_that_no_request_has_met_yet_is_told_with_what_was_spent_before(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route, key = gateway.route("openai"), gateway.key()
    body = {"model": route.alias, "messages": MESSAGES}
    post(gateway, "/v1/chat/completions", body, key)
    spent = gateway.entry(route.alias)["cost_usd"]
    budget = gateway.budget(route, str(spent))
    before = written(gateway, route)[:7]  # that the deployment was used is written later
    said = dry_run(gateway, "/v1/chat/completions", body, key)
    (row,) = [row for row in said["budgets"] if row["budget"] == budget]
    assert (Decimal(row["posted_usd"]), row["available_usd"]) == (spent, "0")
    assert written(gateway, route)[:7] == before
    assert post(gateway, "/v1/chat/completions", body, key).json()["error"] == said["refusal"]


def test_strangers_are_told_nothing(guarded_gateway: Gateway) -> None:
    for key in ("", "sk-nothing"):
        answer = post(guarded_gateway, "/v1/dry-run", {"model": "gpt-4o", "messages": MESSAGES}, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_no_secret_and_no_address_is_told(gateway: Gateway) -> None:
    from tests.e2e.gateway import PROVIDER_KEYS

    route = gateway.route("openai", "anthropic", "gemini")
    text = str(dry_run(gateway, "/v1/chat/completions", {"model": route.alias, "messages": MESSAGES}))
    assert not any(secret in text for secret in (*PROVIDER_KEYS.values(), gateway.sim.url))


# --- how the endpoint is told -----------------------------------------------------------------------------------------


def test_a_body_alone_is_known_by_its_form(gateway: Gateway) -> None:
    chat = gateway.route("openai").alias
    vectors = gateway.route("openai", model="text-embedding-3-small").alias
    of_kinds = {
        name: gateway.route("openai", model=name).alias for name in ("gpt-image-1", "tts-1", "omni-moderation-latest")
    }
    bodies: list[tuple[Json, dict[str, str], str]] = [
        ({"model": of_kinds["gpt-image-1"], "prompt": "A cat"}, {}, "/v1/images/generations"),
        ({"model": of_kinds["tts-1"], "input": "Hi", "voice": "alloy"}, {}, "/v1/audio/speech"),
        ({"model": of_kinds["omni-moderation-latest"], "input": "Hi"}, {}, "/v1/moderations"),
        ({"model": chat, "prompt": "Hi"}, {}, "/v1/completions"),
        ({"model": chat, "messages": MESSAGES}, {}, "/v1/chat/completions"),
        ({"model": chat, "messages": MESSAGES, "max_tokens": 5}, ANTHROPIC, "/v1/messages"),
        ({"model": chat, "messages": MESSAGES, "system": "Be kind", "max_tokens": 5}, {}, "/v1/messages"),
        ({"model": chat, "input": "Hi"}, {}, "/v1/responses"),
        ({"model": vectors, "input": "Hi"}, {}, "/v1/embeddings"),
        ({"model": chat}, {}, "/v1/chat/completions"),
    ]
    for body, headers, endpoint in bodies:
        assert post(gateway, "/v1/dry-run", body, headers=headers).json()["endpoint"] == endpoint


def test_a_body_alone_tells_nothing_of_a_model_that_is_not_for_the_key(gateway: Gateway) -> None:
    vectors = gateway.route("openai", model="text-embedding-3-small").alias
    key = gateway.key(allowed_aliases=["gpt-4o"])
    told = [
        post(gateway, "/v1/dry-run", {"model": name, "input": "Hi"}, key).json()["endpoint"]
        for name in (vectors, unique("absent"))
    ]
    assert told == ["/v1/responses", "/v1/responses"]


def test_the_endpoint_may_stand_in_the_path(gateway: Gateway) -> None:
    route = gateway.route("openai")
    body = {"model": route.alias, "messages": MESSAGES}
    wanted = dry_run(gateway, "/v1/chat/completions", body)
    for path in ("v1/chat/completions", "chat/completions", f"openai/deployments/{route.alias}/chat/completions"):
        found = post(gateway, f"/v1/dry-run/{path}", body).json()
        assert (found["admitted"], found["steps"]) == (True, wanted["steps"])


def test_a_body_that_is_no_json_is_asked_about_by_its_path(gateway: Gateway) -> None:
    route = route_of(gateway, "whisper-1")
    asked = {"data": {"model": route.alias}, "files": {"file": wav(3)}}
    with gateway.nothing_written():
        said = http.post(f"{gateway.url}/v1/dry-run/v1/audio/transcriptions", **asked).json()  # type: ignore[arg-type]
    assert (said["admitted"], said["endpoint"], said["refusal"]) == (True, "/v1/audio/transcriptions", None)
    assert http.post(f"{gateway.url}/v1/audio/transcriptions", **asked).status_code == 200  # type: ignore[arg-type]
    assert gateway.entry(route.alias)["hold_usd"] == Decimal(said["hold_usd"]) > 0


@pytest.mark.parametrize(
    "endpoint", ["/v1/models", "/v1/budget", "/v1/dry-run", "/admin/", "/nothing", "/v1/realtime", 7, "", None]
)
def test_what_spends_nothing_cannot_be_rehearsed(gateway: Gateway, endpoint: object) -> None:
    answer = post(gateway, "/v1/dry-run", {"endpoint": endpoint, "body": {"model": "gpt-4o"}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "endpoint")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"endpoint": "/v1/messages", "body": []}'])
def test_a_dry_run_that_cannot_be_read_is_a_400(gateway: Gateway, raw: bytes) -> None:
    assert gateway.post(raw, path="/v1/dry-run").status_code == 400
