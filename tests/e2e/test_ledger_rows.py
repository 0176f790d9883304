"""What finance finds in Postgres after a request: the stable views, with costs right to the last digit."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import openai
import pytest

from accounting.models import Price
from gateway_project.embedded_postgres import EmbeddedPostgres
from routing.models import Provider
from tests.clocks import eventually, within
from tests.e2e.gateway import Gateway, asks, cost, http, price, text_of
from tests.simulator import Behaviour, Usage, faults

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
LEDGER_COLUMNS = {
    "created_at", "settled_at", "request_id", "state", "key", "alias", "served_alias", "provider", "model", "attempts",
    "fallback", "streamed", "http_status", "error_code", "input_tokens", "cached_input_tokens", "cache_write_tokens",
    "output_tokens", "reasoning_tokens", "usage_source", "hold_usd", "cost_usd", "overrun", "first_token_ms",
    "duration_ms", "end_user", "tags",
}  # fmt: skip
ATTEMPT_COLUMNS = {
    "request_id", "position", "alias", "provider", "model", "outcome", "http_status", "started_at", "duration_ms",
    "input_tokens", "output_tokens", "cost_usd", "provider_request_id",
}  # fmt: skip


def ask(gateway: Gateway, alias: str, *, stream: bool = False, **parameters: Any) -> None:
    answer = gateway.client().chat.completions.create(model=alias, stream=stream, **{**asks(), **parameters})
    if isinstance(answer, openai.Stream):
        list(answer)


@STREAMED
@pytest.mark.parametrize(
    ("wire", "usage", "expected"),
    [
        ("openai", Usage(1000, 100), cost(1000, 100)),
        ("openai", Usage(1234567, 89), cost(1234567, 89)),
        ("openai", Usage(2000, 300, cached_tokens=1536, reasoning_tokens=256), cost(2000, 300, cached=1536)),
        ("anthropic", Usage(1000, 100), cost(1000, 100)),
        ("anthropic", Usage(5000, 77, cached_tokens=3000), cost(5000, 77, cached=3000)),
        (
            "anthropic",
            Usage(9999, 7, cached_tokens=4000, cache_write_5m_tokens=3000, cache_write_1h_tokens=2000),
            cost(9999, 7, cached=4000, cache_write=3000, cache_write_1h=2000),
        ),
        ("gemini", Usage(1000, 100), cost(1000, 100)),
        ("gemini", Usage(8000, 500, cached_tokens=6000, reasoning_tokens=400), cost(8000, 500, cached=6000)),
    ],
)
def test_a_cost_is_exact(gateway: Gateway, wire: str, usage: Usage, expected: Decimal, stream: bool) -> None:
    route = gateway.route(wire)
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=usage))
    ask(gateway, route.alias, stream=stream)
    entry = gateway.entry(route.alias)
    assert entry["cost_usd"] == expected
    assert (entry["input_tokens"], entry["output_tokens"]) == (usage.input_tokens, usage.output_tokens)
    assert entry["cached_input_tokens"] == usage.cached_tokens
    assert entry["cache_write_tokens"] == usage.cache_write_tokens
    assert entry["cache_write_1h_tokens"] == usage.cache_write_1h_tokens
    assert entry["reasoning_tokens"] == usage.reasoning_tokens
    assert (entry["state"], entry["usage_source"], entry["streamed"]) == ("posted", "provider", stream)
    assert entry["overrun"] == (expected > entry["hold_usd"])
    (attempt,) = gateway.attempts(route.alias)
    assert (attempt["cost_usd"], attempt["input_tokens"]) == (expected, usage.input_tokens)


def test_a_row_has_everything_that_finance_asks_for(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(10, 2), latency_s=0.05))
    started = datetime.now(UTC)
    client = gateway.client(api_key=gateway.key(name="finance team"))
    client.chat.completions.create(
        model=route.alias, user="user-42", metadata={"team": "blue", "ticket": "A-1"},
        extra_headers={"x-request-id": "ours-1"}, **asks(),
    )  # fmt: skip
    entry = gateway.entry(route.alias)
    assert entry.keys() >= LEDGER_COLUMNS
    expected = {
        "request_id": "ours-1", "key": "finance team", "alias": route.alias, "served_alias": route.alias,
        "provider": route.providers[0], "model": "gpt-4o", "attempts": 1, "fallback": False, "streamed": False,
        "http_status": 200, "error_code": None, "end_user": "user-42", "tags": {"team": "blue", "ticket": "A-1"},
        "first_token_ms": None,
    }  # fmt: skip
    assert {name: entry[name] for name in expected} == expected
    assert started <= entry["created_at"] <= entry["settled_at"] <= datetime.now(UTC)
    (attempt,) = gateway.attempts(route.alias)
    assert attempt.keys() >= ATTEMPT_COLUMNS
    assert attempt["request_id"] == "ours-1"
    assert attempt["outcome"] == "answered"
    assert attempt["provider_request_id"].startswith("req_")
    assert entry["provider_request_id"] == attempt["provider_request_id"]
    assert 50 <= attempt["duration_ms"] <= entry["duration_ms"]


def test_a_stream_knows_when_its_first_token_came(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.slow_first_token(0.2).but(length=4, token_s=0.1))
    ask(gateway, route.alias, stream=True)
    entry = gateway.entry(route.alias)
    assert entry["first_token_ms"] >= 200
    assert entry["duration_ms"] >= entry["first_token_ms"] + 300  # three more tokens, 100 ms each


@STREAMED
def test_the_row_is_there_before_the_provider_answers(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    budget = gateway.budget(route, "1")
    gateway.sim.behave(route.providers[0], faults.slow_answer(0.6).but(usage=Usage(100, 10)))
    running = threading.Thread(target=ask, args=(gateway, route.alias), kwargs={"stream": stream})
    running.start()
    assert gateway.sim.wait_until(lambda requests: requests)
    (held,) = gateway.entries(route.alias)
    assert (held["state"], held["cost_usd"], held["settled_at"], held["http_status"]) == ("held", None, None, None)
    assert held["hold_usd"] > cost(0, 1024)
    (open_hold,) = gateway.rows("SELECT * FROM open_holds WHERE alias = %s", route.alias)
    assert open_hold["hold_usd"] == held["hold_usd"]
    assert open_hold["expires_at"] > held["created_at"] + timedelta(seconds=600)
    (status,) = gateway.rows("SELECT * FROM budget_status WHERE budget = %s", budget)
    assert (status["held_usd"], status["posted_usd"]) == (held["hold_usd"], 0)
    assert status["available_usd"] == 1 - held["hold_usd"]
    running.join()
    assert gateway.entry(route.alias)["entry_id"] == held["entry_id"]
    (status,) = gateway.rows("SELECT * FROM budget_status WHERE budget = %s", budget)
    assert (status["held_usd"], status["posted_usd"]) == (0, cost(100, 10))


def test_the_row_is_settled_when_the_stream_says_done(gateway: Gateway) -> None:
    route = gateway.route("openai")
    body = json.dumps({"model": route.alias, "stream": True, **asks()})
    with http.stream("POST", f"{gateway.url}/v1/chat/completions", content=body) as answer:
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                break
        (entry,) = gateway.entries(route.alias)
    assert entry["state"] == "posted"


@STREAMED
def test_usage_that_no_provider_reported_is_estimated_and_marked(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.without_usage().but(text="one two three four five"))
    ask(gateway, route.alias, stream=stream)
    entry = gateway.entry(route.alias)
    assert entry["usage_source"] == "estimated"
    assert entry["output_tokens"] == 5
    assert 2 <= entry["input_tokens"] <= 20
    assert entry["cost_usd"] == cost(entry["input_tokens"], 5)


@STREAMED
def test_a_count_without_input_is_not_believed_for_the_input(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("anthropic")
    gateway.sim.behave(route.providers[0], Behaviour(usage=Usage(0, 700)))
    ask(gateway, route.alias, stream=stream)
    entry = gateway.entry(route.alias)
    assert (entry["usage_source"], entry["output_tokens"]) == ("estimated", 700)
    assert 2 <= entry["input_tokens"] <= 20
    assert entry["cost_usd"] == cost(entry["input_tokens"], 700)


@pytest.mark.parametrize(
    ("fault", "stream", "outcome"),
    [
        (faults.reset_before_headers(), False, "connection"),
        (faults.silent(), False, "timeout"),
        (faults.silent(), True, "timeout"),
        (faults.malformed_body(), False, "malformed"),
        (faults.empty_answer().but(report_usage=False), True, "empty"),
    ],
    ids=["reset", "silent, whole", "silent, streamed", "malformed", "empty"],
)
def test_what_a_provider_may_have_worked_for_is_estimated_and_never_free(
    gateway: Gateway, fault: Behaviour, stream: bool, outcome: str
) -> None:
    route = gateway.route("openai", "openai", retries=0, total_timeout_s=0.6, first_token_timeout_s=0.5)
    gateway.sim.behave(route.providers[0], fault)
    ask(gateway, route.alias, stream=stream)
    entry = gateway.entry(route.alias)
    first, second = gateway.attempts(route.alias)
    assert (first["outcome"], second["outcome"]) == (outcome, "answered")
    assert first["cost_usd"] == cost(first["input_tokens"], first["output_tokens"]) > 0
    assert (entry["usage_source"], entry["cost_usd"]) == ("estimated", first["cost_usd"] + second["cost_usd"])


def test_what_never_reached_a_provider_or_was_refused_by_it_is_free(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", "openai", retries=0)
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(base_url="http://127.0.0.1:1/v1")
    gateway.sim.behave(route.providers[1], faults.server_error())
    ask(gateway, route.alias, stream=False)
    free = [(a["outcome"], a["input_tokens"], a["cost_usd"]) for a in gateway.attempts(route.alias)][:2]
    assert free == [("connection", 0, 0), ("server_error", 0, 0)]
    assert gateway.entry(route.alias)["usage_source"] == "provider"


def test_the_price_at_the_time_stays_on_the_row(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], forever=Behaviour(text="Hi", usage=Usage(1_000_000, 1)))
    ask(gateway, route.alias)
    with gateway.orm():
        price(route.providers[0], "gpt-4o", effective_from=datetime.now(UTC) - timedelta(seconds=1), input="5")
        price(route.providers[0], "gpt-4o", effective_from=datetime.now(UTC) + timedelta(days=1), input="7")
    ask(gateway, route.alias)
    gateway.wait_settled(route.alias, 2)
    entries = gateway.entries(route.alias)
    assert [entry["cost_usd"] for entry in entries] == [Decimal("2.51001007"), Decimal("5.00001007")]
    assert [Decimal(e["price"]["standard"]["input"]) for e in entries] == [Decimal("2.51"), Decimal(5)]


def test_what_has_no_price_costs_null_and_never_nothing(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    with gateway.no_hard_budget():
        route = gateway.route("openai", priced=False)
        client = gateway.client(api_key=gateway.key())
        client.chat.completions.create(model=route.alias, **asks())
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["hold_usd"], entry["cost_usd"]) == ("posted", None, None)
    assert entry["output_tokens"] == 4
    (spend,) = gateway.rows("SELECT * FROM spend_by_alias WHERE alias = %s", route.alias)
    assert (spend["requests"], spend["unpriced"], spend["cost_usd"]) == (1, 1, 0)


def test_history_survives_the_names_it_was_made_with(gateway: Gateway) -> None:
    route = gateway.route("openai")
    ask(gateway, route.alias)
    gateway.remove_routes()
    with gateway.orm():
        Price.objects.filter(provider=route.providers[0]).delete()
    entry = gateway.entry(route.alias)
    assert (entry["alias"], entry["provider"], entry["model"]) == (route.alias, route.providers[0], "gpt-4o")


def test_the_spend_views_add_up_to_the_last_digit(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic", retries=0)
    first, second = route.providers
    client = gateway.client(api_key=gateway.key(name=f"key of {route.alias}"))
    usages = [Usage(123, 45), Usage(6789, 1), Usage(5, 500)]
    gateway.sim.behave(first, *(Behaviour(text="Hi", usage=usage) for usage in usages), faults.unavailable())
    gateway.sim.behave(second, Behaviour(text="Hi", usage=Usage(77, 7)))
    before = {row["day"]: row for row in gateway.rows("SELECT * FROM spend_by_day")}
    for _ in range(4):
        client.chat.completions.create(model=route.alias, **asks())
    gateway.sim.behave(first, faults.context_length_exceeded())
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=route.alias, **asks())

    paid_first = sum((cost(usage.input_tokens, usage.output_tokens) for usage in usages), Decimal(0))
    total = paid_first + cost(77, 7)
    columns = "requests, failed, input_tokens, output_tokens, cost_usd"
    expected = {"requests": 5, "failed": 1, "input_tokens": 6994, "output_tokens": 553, "cost_usd": total}
    assert gateway.rows(f"SELECT {columns} FROM spend_by_alias WHERE alias = %s", route.alias) == [expected]
    assert gateway.rows(f"SELECT {columns} FROM spend_by_key WHERE key = %s", f"key of {route.alias}") == [expected]
    by_provider = f"SELECT {columns} FROM spend_by_provider WHERE provider = %s"
    assert gateway.rows(by_provider, first) == [
        {"requests": 5, "failed": 2, "input_tokens": 6917, "output_tokens": 546, "cost_usd": paid_first}
    ]
    assert gateway.rows(by_provider, second) == [
        {"requests": 1, "failed": 0, "input_tokens": 77, "output_tokens": 7, "cost_usd": cost(77, 7)}
    ]
    after = {row["day"]: row for row in gateway.rows("SELECT * FROM spend_by_day")}
    added = sum(row["cost_usd"] - (before[day]["cost_usd"] if day in before else 0) for day, row in after.items())
    assert added == total


def test_what_a_key_may_still_spend_is_told_at_v1_budget(gateway: Gateway) -> None:
    route = gateway.route("openai")
    secret = gateway.key(name=f"key of {route.alias}")
    budget = gateway.budget_of_key(f"key of {route.alias}", "0.5")
    gateway.sim.behave(route.providers[0], Behaviour(text="Hi", usage=Usage(1000, 100)))
    gateway.client(api_key=secret).chat.completions.create(model=route.alias, **asks())
    answer = http.get(f"{gateway.url}/v1/budget", headers={"api-key": secret}).json()
    (told,) = [found for found in answer["data"] if found["budget"] == budget]
    spent = cost(1000, 100)
    assert (told["limit_usd"], told["posted_usd"], told["held_usd"]) == ("0.5", "0.003517", "0")
    assert Decimal(told["available_usd"]) == Decimal("0.5") - spent
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert datetime.fromisoformat(told["resets_at"]) == midnight
    assert "global" in [found["budget"] for found in answer["data"]]


def test_without_postgres_nothing_is_spent_and_it_recovers_by_itself(
    guarded_gateway: Gateway, guarded_postgres: EmbeddedPostgres
) -> None:
    gateway = guarded_gateway
    route = gateway.route("openai")
    secret = gateway.key()
    client = gateway.client(api_key=secret)
    client.chat.completions.create(model=route.alias, **asks())
    gateway.sim.behave(route.providers[0], faults.slow_answer(1).but(usage=Usage(100, 10)))
    cut = threading.Thread(target=client.chat.completions.create, kwargs={"model": route.alias, **asks()})
    cut.start()
    assert gateway.sim.wait_until(lambda requests: len(requests) == 2)

    guarded_postgres.stop()
    try:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(openai.InternalServerError) as raised:
                client.chat.completions.create(model=route.alias, **asks())
            assert within(time.monotonic() - began, 3)
            error: Any = raised.value
            assert (error.status_code, error.type, error.code) == (503, "server_error", "ledger_unavailable")
            assert error.response.headers["retry-after"] == "1"
        began = time.monotonic()
        health = http.get(f"{gateway.url}/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert http.get(f"{gateway.url}/health/ready").status_code == 503
        assert http.get(f"{gateway.url}/health/live").status_code == 200
        for path in ("/v1/models", "/v1/budget"):
            answer = http.get(gateway.url + path, headers={"api-key": secret})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert within(time.monotonic() - began, 5)
        assert len(gateway.sim.requests) == 2  # no provider was called while the cost could not be recorded
    finally:
        guarded_postgres.start()
        gateway.reconnect()

    assert eventually(lambda: http.get(f"{gateway.url}/health").status_code == 200, within_s=10)
    # The official client's own retries are enough: the ledger reconnects within a second after Postgres is back.
    client.with_options(max_retries=2).chat.completions.create(model=route.alias, **asks())
    cut.join()
    # What was running when Postgres went away is on the books too: once, at its cost.
    gateway.wait_settled(route.alias, 3)
    entries = gateway.entries(route.alias)
    assert [entry["state"] for entry in entries] == ["posted"] * 3
    assert entries[1]["cost_usd"] == cost(100, 10)


def test_streams_of_many_clients_at_once_are_all_on_the_books(gateway: Gateway) -> None:
    route = gateway.route("openai", "anthropic")
    gateway.sim.behave(route.providers[0], forever=Behaviour(length=20, token_s=0.01, usage=Usage(10, 20)))
    client, texts = gateway.client(), []

    def one() -> None:
        texts.append(text_of(client.chat.completions.create(model=route.alias, stream=True, **asks())))

    threads = [threading.Thread(target=one) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 40
    assert {len(text.split()) for text in texts} == {20}
    gateway.wait_settled(route.alias, 40)
    assert {entry["cost_usd"] for entry in gateway.entries(route.alias)} == {cost(10, 20)}
