"""What somebody may do to a gateway who wants it to serve nobody else, and how its neighbours fare meanwhile.

Each attack is one that worked once. Its neighbours send small chats on connections of their own, before and during it:
what counts is how much longer they wait, in one run on one machine, and that no worker is lost.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.clocks import SLACK
from tests.e2e.gateway import Gateway, asks, http

CHAT = "/v1/chat/completions"
LEAST_IDLE_S = 0.05  # what an idle p99 counts at least: below it, the machine's own noise decides


@dataclass(frozen=True)
class Cast:
    """Who takes part: the attacker has a key of his own, and an alias whose provider answers as the attack wants."""

    gateway: Gateway
    secret: str
    alias: str
    stuck: str  # an alias whose provider does not answer
    gemini: str
    anthropic: str


#: One attacker. Returns when the event is set, or when he has nothing more to do.
Attack = Callable[[Cast, threading.Event], None]


class Neighbour:
    """Sends a small chat again and again, and asks for health, each on a new connection."""

    def __init__(self, gateway: Gateway, alias: str, secret: str) -> None:
        self._gateway = gateway
        self._raw = json.dumps({"model": alias, **asks(max_tokens=5)}).encode()
        self._secret = secret
        self.refused: list[int] = []

    def waits_s(self, for_s: float) -> list[float]:
        waits, ends_at = [], time.monotonic() + for_s
        while (began := time.monotonic()) < ends_at:
            answer = self._gateway.post(self._raw, api_key=self._secret)
            waits.append(time.monotonic() - began)
            if answer.status_code != 200:
                self.refused.append(answer.status_code)
            began = time.monotonic()
            assert http.get(f"{self._gateway.url}/health/live").status_code == 200
            waits.append(time.monotonic() - began)
        return waits


@contextlib.contextmanager
def under(attack: Attack, cast: Cast, attackers: int) -> Iterator[None]:
    is_over = threading.Event()
    threads = [threading.Thread(target=attack, args=[cast, is_over]) for _ in range(attackers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(60)


def p99(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[-1] if len(waits) > 1 else waits[0]


def suffer(cast: Cast, neighbour: Neighbour, attack: Attack, *, attackers: int, idle_s: float, for_s: float) -> float:
    """How many times as long as before the neighbour waits at the 99th percentile. Nobody refuses him."""
    idle = p99(neighbour.waits_s(idle_s))
    neighbour.refused.clear()
    with under(attack, cast, attackers):
        attacked = p99(neighbour.waits_s(for_s))
    assert neighbour.refused == []
    return attacked / max(idle, LEAST_IDLE_S * SLACK)


# --- the attacks -----------------------------------------------------------------------------------------------


def post(cast: Cast, body: bytes, *, secret: str | None = None) -> int | None:
    """The status; None when the gateway hangs up."""
    with contextlib.suppress(httpx.HTTPError):
        return cast.gateway.post(body, api_key=secret or cast.secret).status_code
    return None


def repeated(body_of: Callable[[Cast], bytes]) -> Attack:
    """The same body again and again."""

    def attack(cast: Cast, is_over: threading.Event) -> None:
        body = body_of(cast)
        while not is_over.is_set():
            post(cast, body)

    return attack


def body_without_key(cast: Cast, is_over: threading.Event) -> None:
    """A body that goes on after its 401."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    while not is_over.is_set():
        with contextlib.suppress(OSError), cast.gateway.send(head) as connection:
            while not is_over.is_set():
                connection.sendall(part)


def nested_references(cast: Cast) -> bytes:
    """Two kilobytes of a schema that become gigabytes when its references are written out."""
    defs: dict[str, Any] = {
        f"d{n}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/d{n + 1}"} for side in "ab"}}
        for n in range(21)
    }
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": {**defs, "d21": {}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    return json.dumps({"model": cast.gemini, **asks(max_tokens=5, tools=[tool])}).encode()


def log_ins(cast: Cast, is_over: threading.Event) -> None:
    """Wrong passwords, whose hashing takes a third of a second each."""
    with httpx.Client(base_url=cast.gateway.url, timeout=30) as browser:
        token = browser.get("/admin/login/").cookies.get("csrftoken", "")
        form = {"username": "admin", "password": "wrong", "csrfmiddlewaretoken": token}
        while not is_over.is_set():
            browser.post("/admin/login/", data=form, headers={"Referer": cast.gateway.url})


def uploads(cast: Cast, is_over: threading.Event) -> None:
    """Files for the log-in page, which needs no account."""
    while not is_over.is_set():
        with contextlib.suppress(httpx.HTTPError):
            answer = http.post(
                f"{cast.gateway.url}/admin/login/",
                files={"file": b"x" * 20_000_000},
                headers={"Cookie": "csrftoken=" + "a" * 32},
            )
            assert answer.status_code == 413


def idle_connections(cast: Cast, is_over: threading.Event) -> None:
    """Connections that ask for nothing, or never get to the end of their headers."""
    connections: list[socket.socket] = []
    try:
        while not is_over.is_set() and len(connections) < 1500:
            with contextlib.suppress(OSError):
                half = b"" if len(connections) % 2 else b"GET /health HTTP/1.1\r\nHost: loc"
                connections.append(cast.gateway.send(half))
        is_over.wait()
    finally:
        for connection in connections:
            connection.close()


def stuck_requests(cast: Cast, is_over: threading.Event) -> None:
    """Requests to a provider that does not answer, whose sender stays for a while."""
    body = json.dumps({"model": cast.stuck, **asks(max_tokens=5)}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\napi-key: {cast.secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    connections: list[socket.socket] = []
    try:
        while not is_over.is_set() and len(connections) < 500:
            with contextlib.suppress(OSError):
                connections.append(cast.gateway.send(head.encode() + body))
        is_over.wait()
    finally:
        for connection in connections:
            connection.close()


def slow_bodies(cast: Cast, is_over: threading.Event) -> None:
    """Bodies of which a byte comes now and then."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\napi-key: {cast.secret}\r\nContent-Length: 1000\r\n\r\n"
    connections: list[socket.socket] = []
    while not is_over.is_set():
        if len(connections) < 500:
            with contextlib.suppress(OSError):
                connections.append(cast.gateway.send(head.encode()))
            continue
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(b" ")
        is_over.wait(1)
    for connection in connections:
        connection.close()


def small_objects(cast: Cast) -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":"x"}],"tools":[%s]}' % (
        cast.alias.encode(),
        b",".join([b"{}"] * 6_600_000),
    )


def many_messages(cast: Cast) -> bytes:
    """As many as may be, to a provider whose format is another."""
    message = {"role": "user", "content": "x"}
    return json.dumps({"model": cast.anthropic, "max_tokens": 5, "messages": [message] * 9_999}).encode()


def large_text(cast: Cast) -> bytes:
    return json.dumps({"model": cast.stuck, **asks("hello world " * 1_600_000, max_tokens=5)}).encode()


def heavy_headers(cast: Cast, is_over: threading.Event) -> None:
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"x" * 8000) for number in range(90))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n".encode() + headers + b"\r\n"
    while not is_over.is_set():
        with contextlib.suppress(OSError), cast.gateway.send(head) as connection:
            connection.recv(100)


#: By name: the attack, and how many attackers a short form of it has.
ATTACKS: dict[str, tuple[Attack, int]] = {
    "a body that goes on after its 401": (body_without_key, 2),
    "nested references": (repeated(nested_references), 2),
    "uploads": (uploads, 2),
    "log-ins": (log_ins, 4),
    "idle connections": (idle_connections, 1),
    "requests to a stuck provider": (stuck_requests, 1),
    "slow bodies": (slow_bodies, 1),
    "millions of small objects": (repeated(small_objects), 2),
    "thousands of messages": (repeated(many_messages), 2),
    "large texts": (repeated(large_text), 4),
    "heavy headers": (heavy_headers, 4),
}
