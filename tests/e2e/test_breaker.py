"""Breakers of two gateways with two workers each, one of them under gthread, on one Postgres."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.embedded_postgres import EmbeddedPostgres
from tests.clocks import eventually, within
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, Route, asks, http
from tests.e2e.launcher import RunningGateway
from tests.simulator import Behaviour, Simulator, faults

KNOWN_S = 1.0  # the time within which all workers know
WORKERS = {"one": "gevent", "other": "gthread"}


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, sim: Simulator, django_db_blocker: DjangoDbBlocker
) -> Iterator[tuple[Gateway, Gateway]]:
    directory = tmp_path_factory.mktemp("breakers")
    postgres = EmbeddedPostgres(directory / "postgres", durable=False)
    postgres.start()
    running = [
        RunningGateway.in_tree(
            directory / name, DATABASE_URL=postgres.url(), WEB_CONCURRENCY="2", GATEWAY_WORKER_CLASS=worker_class,
            DJANGO_SUPERUSER_USERNAME="olga", DJANGO_SUPERUSER_PASSWORD="olga's long password", **PROVIDER_KEYS,
        )
        for name, worker_class in WORKERS.items()
    ]  # fmt: skip
    try:
        for launched in running:
            launched.wait_until_ready()
        one, other = (Gateway(launched, postgres.dsn(), sim, django_db_blocker) for launched in running)
        yield one, other
        one.close()
        other.close()
    finally:
        for launched in running:
            launched.close()
        postgres.stop()


@pytest.fixture
def gateways(pair: tuple[Gateway, Gateway]) -> Iterator[tuple[Gateway, Gateway]]:
    pair[0].sim.reset()
    yield pair
    pair[0].remove_routes()


def ask(gateway: Gateway, route: Route) -> str:
    """The provider that answered. Each call uses a new connection, so that each worker is reached."""
    answer = http.post(f"{gateway.url}/v1/chat/completions", json={"model": route.alias, **asks()})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-gateway-provider"]


def ask_all(gateways: tuple[Gateway, ...], route: Route, times: int = 8) -> set[str]:
    """The providers that answered so many requests at once at each gateway."""
    with ThreadPoolExecutor(16) as pool:
        return set(pool.map(lambda gateway: ask(gateway, route), [*gateways] * times))


def open_breaker(gateway: Gateway, route: Route) -> None:
    """The route's first provider fails until one worker opens its breaker and all workers know."""
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    assert eventually(lambda: ask(gateway, route) and is_open(gateway, route), within_s=10)
    time.sleep(KNOWN_S)


def is_open(gateway: Gateway, route: Route) -> bool:
    query = "SELECT 1 FROM routing_breakerstate WHERE provider = %s AND state = 'open'"
    return bool(gateway.rows(query, route.providers[0]))


def recover(gateway: Gateway, route: Route, behaviour: Behaviour | None = None) -> None:
    gateway.sim.reset()
    gateway.sim.behave(route.providers[0], forever=behaviour or Behaviour())


def test_a_breaker_that_one_worker_opened_is_open_for_all(gateways: tuple[Gateway, Gateway]) -> None:
    one, _ = gateways
    first, second = (route := one.route("openai", "openai", retries=0, breaker_failures=2)).providers
    open_breaker(one, route)
    called = len(one.sim.requests_to(first))
    assert called <= 3  # two from one worker, and at most one from the other
    assert ask_all(gateways, route) == {second}
    assert len(one.sim.requests_to(first)) == called
    outcomes = Counter(attempt["outcome"] for attempt in one.attempts(route.alias) if attempt["provider"] == first)
    assert outcomes == {"server_error": called, "breaker_open": len(one.entries(route.alias)) - called}


def test_a_provider_that_is_back_is_called_again_within_a_second_of_the_cooldown(
    gateways: tuple[Gateway, Gateway],
) -> None:
    one, _ = gateways
    cooldown_s = 1.5
    route = one.route("openai", "openai", retries=0, breaker_failures=2, breaker_cooldown_s=cooldown_s)
    first, _ = route.providers
    open_breaker(one, route)
    opened = [request.received_at for request in one.sim.requests_to(first)][-1]
    served: list[tuple[float, str]] = []
    stopping = threading.Event()

    def client(gateway: Gateway) -> None:
        while not stopping.wait(0.02):
            served.append((time.monotonic(), ask(gateway, route)))

    clients = [threading.Thread(target=client, args=(gateway,)) for gateway in gateways]
    for thread in clients:
        thread.start()
    time.sleep(2 * cooldown_s)
    probes = [request.received_at for request in one.sim.requests_to(first) if request.received_at > opened]
    recover(one, route)
    recovered = time.monotonic()
    time.sleep(cooldown_s + 1.5)
    stopping.set()
    for thread in clients:
        thread.join()
    # One probe a cool-down while it was down, whatever the number of workers ...
    gaps = [later - earlier for earlier, later in zip([opened, *probes], probes, strict=False)]
    assert len(probes) in (1, 2)
    assert min(gaps) >= cooldown_s
    # ... and all requests are back at most a second after the next one.
    strays = [at for at, provider in served if provider != first and at > recovered + cooldown_s + 1]
    assert strays == []
    assert {provider for at, provider in served if at > recovered + cooldown_s + 1} == {first}


def test_of_all_workers_requests_one_probes_and_none_of_the_others_waits(gateways: tuple[Gateway, Gateway]) -> None:
    one, _ = gateways
    cooldown_s = 2.0
    route = one.route("openai", "openai", retries=0, breaker_failures=2, breaker_cooldown_s=cooldown_s)
    first, second = route.providers
    open_breaker(one, route)
    recover(one, route, faults.slow_answer(4))
    time.sleep(cooldown_s)
    with ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        answers = [pool.submit(ask, gateway, route) for gateway in [*gateways] * 8]
        assert eventually(lambda: sum(answer.done() for answer in answers) == 15, within_s=3)
        assert {answer.result() for answer in answers if answer.done()} == {second}
        while time.monotonic() < began + 3.5:  # longer than a cool-down
            assert ask_all(gateways, route, times=2) == {second}
        assert len(one.sim.requests_to(first)) == 1
    assert [answer.result() for answer in answers].count(first) == 1
    recover(one, route)
    time.sleep(KNOWN_S)
    assert ask_all(gateways, route) == {first}


def burst(gateways: tuple[Gateway, ...], route: Route, requests: int) -> list[httpx.Response]:
    """The answers to that many requests at once, whole and streamed in turn."""
    with ThreadPoolExecutor(requests) as pool:
        return list(
            pool.map(
                lambda n: http.post(
                    f"{gateways[n % len(gateways)].url}/v1/chat/completions",
                    json={"model": route.alias, "stream": n % 3 == 0, **asks()},
                ),
                range(requests),
            )
        )


def test_after_an_outage_a_burst_with_nobody_else_to_go_to_waits_for_the_probe(
    gateways: tuple[Gateway, Gateway],
) -> None:
    one, _ = gateways
    route = one.route("openai", retries=0, breaker_failures=2, breaker_cooldown_s=2)
    (only,) = route.providers
    one.sim.behave(only, forever=faults.unavailable())
    assert eventually(lambda: burst(gateways, route, 4) and is_open(one, route))
    recover(one, route, faults.slow_answer(1))
    time.sleep(KNOWN_S)
    began = time.monotonic()
    answers = burst(gateways, route, 30)
    assert [answer.status_code for answer in answers] == [200] * 30
    assert within(time.monotonic() - began, 5)
    arrivals = [request.received_at for request in one.sim.requests_to(only)]
    assert len(arrivals) == 30
    assert arrivals[1] - arrivals[0] > 0.9  # one probed, and nobody else called before its answer


def test_a_burst_whose_probe_fails_is_told_when_to_try_again(gateways: tuple[Gateway, Gateway]) -> None:
    one, _ = gateways
    route = one.route("openai", retries=0, breaker_failures=2, breaker_cooldown_s=2)
    (only,) = route.providers
    one.sim.behave(only, forever=faults.unavailable())
    assert eventually(lambda: burst(gateways, route, 4) and is_open(one, route))
    recover(one, route, faults.unavailable().but(latency_s=1))
    time.sleep(2 + KNOWN_S)
    entries = len(one.entries(route.alias))
    answers = burst(gateways, route, 30)
    assert [answer.status_code for answer in answers] == [502] * 30
    assert len(one.sim.requests_to(only)) == 1
    probes = [answer for answer in answers if answer.headers.get("x-should-retry") == "false"]
    assert [answer.json()["error"]["attempts"][0]["kind"] for answer in probes] == ["server_error"]
    for answer in (answer for answer in answers if answer not in probes):
        assert answer.json()["error"]["attempts"][0]["kind"] == "breaker_open"
        assert 1 <= int(answer.headers["retry-after"]) <= 2
    rows = one.entries(route.alias)[entries:]
    assert {(row["state"], row["cost_usd"]) for row in rows} == {("voided", 0)}


def test_a_retry_after_longer_than_the_cooldown_is_honoured_by_all(gateways: tuple[Gateway, Gateway]) -> None:
    one, _ = gateways
    route = one.route("openai", "openai", retries=0, breaker_failures=1, breaker_cooldown_s=0.2)
    first, second = route.providers
    one.sim.behave(first, faults.rate_limited(retry_after_s=6))
    assert ask(one, route) == second
    told = time.monotonic()
    time.sleep(KNOWN_S)
    while time.monotonic() < told + 5:
        assert ask_all(gateways, route, times=2) == {second}
    assert len(one.sim.requests_to(first)) == 1
    assert eventually(lambda: ask_all(gateways, route, times=2) == {first}, within_s=told + 7 - time.monotonic())


def test_an_operator_closes_it_for_every_worker(gateways: tuple[Gateway, Gateway]) -> None:
    one, other = gateways
    route = one.route("openai", "openai", retries=0, breaker_failures=2, breaker_cooldown_s=600)
    first, second = route.providers
    open_breaker(one, route)
    recover(one, route)
    assert ask_all(gateways, route) == {second}
    (row,) = one.rows("SELECT id FROM routing_breakerstate WHERE provider = %s", first)
    version = one.rows("SELECT version FROM accounting_configurationversion")
    with httpx.Client(base_url=other.url, follow_redirects=True) as browser:
        credentials = {"username": "olga", "password": "olga's long password"}
        token = token_of(browser.get("/admin/login/").text)
        browser.post("/admin/login/", data={**credentials, "csrfmiddlewaretoken": token, "next": "/admin/"})
        path = "/admin/routing/breaker/"
        page = browser.get(path).text
        assert (first in page, "server_error" in page) == (True, True)
        chosen = {"action": "close", "_selected_action": str(row["id"]), "csrfmiddlewaretoken": token_of(page)}
        assert "Closed 1 breaker(s)" in browser.post(path, data=chosen).text
    time.sleep(KNOWN_S)
    assert ask_all(gateways, route) == {first}
    (logged,) = one.rows(
        "SELECT username, change_message, object_repr FROM django_admin_log JOIN auth_user u ON u.id = user_id"
        " WHERE object_id = %s",
        str(row["id"]),
    )
    assert tuple(logged.values()) == ("olga", "Closed.", f"{first} gpt-4o")
    assert one.rows("SELECT version FROM accounting_configurationversion") == version


def test_a_worker_that_dies_as_the_probe_makes_way_for_another(gateways: tuple[Gateway, Gateway]) -> None:
    one, other = gateways
    route = one.route("openai", "openai", retries=0, breaker_failures=2, breaker_cooldown_s=2)
    first, second = route.providers
    open_breaker(one, route)
    recover(one, route, faults.silent(30))
    time.sleep(2)
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(http.post, f"{one.url}/v1/chat/completions", json={"model": route.alias, **asks()})
        assert eventually(lambda: len(one.sim.requests_to(first)) == 1)
        for worker in one.running.descendants():
            if worker.parent().ppid() == one.running.process.pid:
                worker.kill()
        with pytest.raises(httpx.TransportError):
            probe.result()
    recover(one, route)
    assert ask(other, route) == second
    assert eventually(lambda: ask(other, route) == first, within_s=4)


def token_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page
    return found[1]


def test_no_client_opens_a_breaker_for_the_others(gateways: tuple[Gateway, Gateway]) -> None:
    """Neither by what it asks again and again, nor by asking for thought and patience."""
    one, other = gateways
    route = one.route("openai", "openai", retries=0, breaker_failures=2, first_token_timeout_s=0.3)
    harmless, harmful = one.key(), one.key()

    def send(gateway: Gateway, key: str, **parameters: object) -> str:
        body = {"model": route.alias, **asks(), **parameters}
        answer = http.post(f"{gateway.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        return str(answer.headers["x-gateway-provider"])

    for gateway in gateways * 4:
        assert send(gateway, harmless) == route.providers[0]
    time.sleep(KNOWN_S)  # all workers know that there are several clients
    one.sim.behave(route.providers[0], *[faults.permission_denied()] * 12)
    for gateway in gateways * 6:
        assert send(gateway, harmful) == route.providers[1]
    time.sleep(KNOWN_S)
    assert not is_open(one, route)
    assert {send(gateway, harmless) for gateway in gateways * 2} == {route.providers[0]}

    one.sim.behave(route.providers[0], forever=faults.slow_first_token(5))
    for _ in range(4):
        assert send(other, harmful, stream=True, reasoning_effort="high") == route.providers[1]
    assert not is_open(one, route)

    one.sim.behave(route.providers[0], forever=faults.unavailable())  # which is an outage, for both of them
    assert eventually(lambda: {send(one, key) for key in (harmless, harmful)} and is_open(one, route), within_s=10)
