"""What somebody without a key may send: neighbours go on being answered, and no worker dies of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.embedded_postgres import EmbeddedPostgres
from routing.models import SignInTries
from tests.clocks import eventually, within
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, asks, http
from tests.e2e.launcher import RunningGateway
from tests.simulator import Simulator

HEARTBEAT_S = 4  # a worker that is silent for longer is killed
KEEPALIVE_S = 3
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
    guarded_postgres: EmbeddedPostgres,
    sim: Simulator,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Gateway]:
    """Two workers, keys required, and deadlines that a test can wait for."""
    running = RunningGateway.in_tree(
        tmp_path_factory.mktemp("deployed"),
        DATABASE_URL=guarded_postgres.url(),
        GATEWAY_AUTH="required",
        WEB_CONCURRENCY="2",
        GUNICORN_CMD_ARGS=f"--timeout {HEARTBEAT_S} --keep-alive {KEEPALIVE_S} "
        "--worker-class tests.e2e.impatient.ImpatientWorker",
        **PROVIDER_KEYS,
    )
    try:
        running.wait_until_ready()
        gateway = Gateway(running, guarded_postgres.dsn(), sim, django_db_blocker)
        assert eventually(lambda: len(workers(gateway)) == 3)
        gateway.point_defaults_at_simulator()
        yield gateway
        gateway.close()
    finally:
        running.close()


@pytest.fixture
def gateway(deployed: Gateway) -> Iterator[Gateway]:
    """No test may cost a worker its life."""
    deployed.sim.reset()
    before, said = workers(deployed), len(deployed.running.output)
    yield deployed
    assert workers(deployed) == before
    assert "WORKER TIMEOUT" not in deployed.running.output[said:]
    assert "Traceback" not in deployed.running.output[said:]
    deployed.remove_routes()


def workers(gateway: Gateway) -> set[int]:
    """gunicorn's processes; the master is one of them."""
    return {process.pid for process in gateway.running.descendants() if "gunicorn" in " ".join(process.cmdline())}


@contextlib.contextmanager
def under_attack(attack: Callable[[threading.Event], None], attackers: int) -> Iterator[None]:
    """That many clients attack for the length of the block."""
    is_over = threading.Event()
    threads = [threading.Thread(target=attack, args=[is_over]) for _ in range(attackers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def worst_s(gateway: Gateway, alias: str, secret: str, for_s: float) -> float:
    """The longest that a neighbour waited, who sends small chats one after the other, each on a new connection."""
    raw = json.dumps({"model": alias, **asks(max_tokens=5)}).encode()
    worst, ends_at = 0.0, time.monotonic() + for_s
    while (began := time.monotonic()) < ends_at:
        assert gateway.post(raw, api_key=secret).status_code == 200
        worst = max(worst, time.monotonic() - began)
    return worst


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """The status and the error of an answer, read until the gateway closes."""
    with connection:
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                said += part
    return int(said.split(b" ")[1]), json.loads(said[said.index(b"{") : said.rindex(b"}") + 1])["error"]


def closes_within_s(connection: socket.socket) -> float:
    began = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return time.monotonic() - began


# --- bodies that nobody will read ------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [b"Content-Length: 15000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_goes_on_after_its_401_holds_nobody_up(gateway: Gateway, framing: bytes) -> None:
    route, secret = gateway.route("openai"), gateway.key()
    part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    refused = itertools.count()

    def keep_sending(is_over: threading.Event) -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError), gateway.send(CHAT + framing) as connection:
                while not is_over.is_set():
                    connection.sendall(part)
            next(refused)

    with under_attack(keep_sending, attackers=2):
        worst = worst_s(gateway, route.alias, secret, for_s=HEARTBEAT_S + 2)
    assert within(worst, 1)
    assert next(refused) > 2  # the connections were closed under them


def test_a_sender_of_many_megabytes_without_a_key_hears_why_at_once(gateway: Gateway) -> None:
    began = time.monotonic()
    with gateway.nothing_written():
        answer = gateway.post(b"x" * 19_000_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert within(time.monotonic() - began, 2)


def test_polite_senders_of_many_megabytes_without_a_key_hold_nobody_up(gateway: Gateway) -> None:
    route, secret = gateway.route("openai"), gateway.key()
    raw = b"x" * 19_000_000

    def send(is_over: threading.Event) -> None:
        while not is_over.is_set():
            assert gateway.post(raw).status_code == 401

    with under_attack(send, attackers=4):
        assert within(worst_s(gateway, route.alias, secret, for_s=3), 1)


def test_a_length_over_the_limit_is_refused_before_any_key_is_looked_at(gateway: Gateway) -> None:
    began = time.monotonic()
    with gateway.nothing_written():
        status, error = answer_of(gateway.send(CHAT + b"Content-Length: 100000000000\r\n\r\n"))
    assert (status, error["code"]) == (413, "request_too_large")
    assert within(time.monotonic() - began, 2)


def test_a_small_body_that_was_not_read_leaves_the_connection_usable(gateway: Gateway) -> None:
    with httpx.Client() as client:
        ports = set()
        for _ in range(3):
            answer = client.post(f"{gateway.url}/v1/chat/completions", content=b"x" * 10_000)
            assert answer.status_code == 401
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1


# --- slow senders ----------------------------------------------------------------------------------------------


def drip(connection: socket.socket, data: bytes, every_s: float) -> None:
    """Sends a byte at a time until the gateway closes."""
    with contextlib.suppress(OSError):
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            time.sleep(every_s)


def dripped(connection: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=drip, args=[connection, data, 0.1])
    thread.start()
    return thread


@pytest.mark.parametrize("requests_before", [0, 1])
def test_headers_that_come_slowly_are_given_up(gateway: Gateway, requests_before: int) -> None:
    connection = gateway.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * requests_before)
    if requests_before:
        said = b""
        while b"}" not in said:
            said += connection.recv(65536)
    began = time.monotonic()
    sender = dripped(connection, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 200)
    status, error = answer_of(connection)
    assert within(time.monotonic() - began, 2, least_s=0.9)
    assert (status, error["code"]) == (408, "request_timeout")
    sender.join()


def test_a_body_that_comes_slowly_is_given_up_and_costs_nothing(gateway: Gateway) -> None:
    secret = gateway.key()
    with gateway.nothing_written():
        connection = gateway.send(CHAT + b"api-key: %s\r\nContent-Length: 1000\r\n\r\n" % secret.encode())
        began = time.monotonic()
        sender = dripped(connection, b" " * 200)
        status, error = answer_of(connection)
        assert within(time.monotonic() - began, 2, least_s=0.9)
    assert (status, error["code"]) == (408, "request_timeout")
    sender.join()


def test_a_long_body_that_keeps_coming_has_the_time_that_it_needs(gateway: Gateway) -> None:
    """Three seconds for 60 kB are allowed here: one, and one more for each 10 kB."""
    route, secret = gateway.route("openai"), gateway.key()

    def parts() -> Iterator[bytes]:
        for part in (b'{"model": "%s",' % route.alias.encode(), *[b" " * 2500] * 24):
            yield part
            time.sleep(0.1)
        yield json.dumps(asks())[1:].encode()

    began = time.monotonic()
    assert gateway.post(parts(), api_key=secret).status_code == 200
    assert time.monotonic() - began > 2


def test_a_connection_that_never_asked_is_closed_sooner_than_one_that_did(gateway: Gateway) -> None:
    with gateway.send(b"") as silent:
        assert within(closes_within_s(silent), 2, least_s=0.9)
    with gateway.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n") as served:
        assert within(closes_within_s(served), KEEPALIVE_S + 1, least_s=KEEPALIVE_S - 0.5)


# --- headers ---------------------------------------------------------------------------------------------------


def test_headers_that_weigh_too_much_together_are_refused_in_json(gateway: Gateway) -> None:
    route, secret = gateway.route("openai"), gateway.key()
    raw = json.dumps({"model": route.alias, **asks()}).encode()
    light = {f"x-{number}": "x" * 8000 for number in range(7)}
    assert gateway.post(raw, api_key=secret, **light).status_code == 200
    with gateway.nothing_written():
        answers = [
            gateway.post(raw, api_key=secret, **{f"x-{number}": "x" * 8000 for number in range(9)}),
            gateway.post(raw, api_key=secret, **{f"x-{number}": "x" for number in range(100)}),
            gateway.post(raw, api_key=secret, x_long="x" * 8200),
        ]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (431, "application/json")
        assert answer.json()["error"]["code"] == "headers_too_large"


def test_heavy_headers_hold_nobody_up(gateway: Gateway) -> None:
    route, secret = gateway.route("openai"), gateway.key()
    heavy = CHAT + b"".join(b"x-%d: %s\r\n" % (number, b"x" * 8000) for number in range(90)) + b"\r\n"

    def send(is_over: threading.Event) -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                assert answer_of(gateway.send(heavy))[0] == 431

    with under_attack(send, attackers=4):
        assert within(worst_s(gateway, route.alias, secret, for_s=3), 1)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\n\r\n", 400),  # without Host
        (b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 9000), 414),
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nExpect: gold\r\n\r\n", 417),
        (CHAT + b"Transfer-Encoding: sand\r\n\r\n", 501),
    ],
)
def test_what_is_not_http_is_refused_in_json(gateway: Gateway, request_: bytes, status: int) -> None:
    answered, error = answer_of(gateway.send(request_))
    assert (answered, error["type"]) == (status, "invalid_request_error")


def test_a_refused_header_is_not_written_into_the_log(gateway: Gateway) -> None:
    answer_of(gateway.send(CHAT + b"Authorization Bearer sk-mistyped-5e3a1c77\r\n\r\n"))
    assert "sk-mistyped" not in gateway.running.output


def test_no_header_moves_the_gateway_below_another_path(gateway: Gateway) -> None:
    for name in ("SCRIPT_NAME", "PATH_INFO"):
        for value in ("/health", "/admin", "x"):
            answer = http.get(f"{gateway.url}/health/live", headers={name: value})
            assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


# --- guesses at the admin's door -------------------------------------------------------------------------------


def test_who_guesses_at_the_admins_door_holds_nobody_up(gateway: Gateway) -> None:
    """Each guess has a name of its own, so that each is hashed, which takes a third of a second."""
    route, secret = gateway.route("openai"), gateway.key()
    names, hashed = itertools.count(), itertools.count()

    def guess(is_over: threading.Event) -> None:
        with httpx.Client(base_url=gateway.url) as client:
            client.get("/admin/login/")
            while not is_over.is_set():
                form = {
                    "username": f"name-{next(names)}",
                    "password": "?",
                    "csrfmiddlewaretoken": client.cookies["csrftoken"],
                }
                page = client.post("/admin/login/", data=form, timeout=60).text
                if "correct username and password" not in page:
                    return  # the address has had its tries
                next(hashed)

    with under_attack(guess, attackers=6):
        worst = worst_s(gateway, route.alias, secret, for_s=3)
    assert within(worst, 1)
    assert next(hashed) > 5
    with gateway.orm():  # the next test that signs in comes from this address too
        SignInTries.objects.all().delete()
