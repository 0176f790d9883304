"""What somebody may do to a gateway who wants it to serve nobody else, and how its neighbours fare meanwhile.

Each attack is one that worked once. Its neighbours send small chats on connections of their own, before and during it:
what counts is how much longer they wait, in one run on one machine, and that no worker is lost.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from tests.simulator import Behaviour, Simulator

CHAT = "/v1/chat/completions"
CONNECTIONS = (
    300  # of an attacker, half of what the test's two workers have; of those that ask for nothing, twice as many
)
http = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))


@dataclass(frozen=True)
class Cast:
    """What an attacker has: a key, and aliases. Their providers are in his process, not in that of the neighbours'."""

    url: str
    secret: str
    alias: str
    stuck: str  # an alias whose provider does not answer
    gemini: str
    anthropic: str

    def connect(self, data: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall(data)
        return connection

    def post(self, body: bytes) -> None:
        with contextlib.suppress(httpx.HTTPError):
            http.post(self.url + CHAT, content=body, headers={"api-key": self.secret})


class Ended:
    """Whether the attack is over, and who has done what must be done before the neighbours are asked how they are."""

    def __init__(self, attackers: int) -> None:
        self._is_over = threading.Event()
        self._begun = threading.Barrier(attackers + 1)

    def begun(self) -> None:
        self._begun.wait(120)

    def set(self) -> None:
        self._is_over.set()

    def is_set(self) -> bool:
        return self._is_over.is_set()

    def wait(self, for_s: float | None = None) -> None:
        self._is_over.wait(for_s)


#: One attacker. Says when it has begun, and returns when it has ended.
Attack = Callable[[Cast, Ended], None]


def asks(text: str = "x", **parameters: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 5, **parameters}


# --- the attacks -----------------------------------------------------------------------------------------------


def repeated(body_of: Callable[[Cast], bytes]) -> Attack:
    """The same body again and again."""

    def attack(cast: Cast, is_over: Ended) -> None:
        body = body_of(cast)
        is_over.begun()
        while not is_over.is_set():
            cast.post(body)

    return attack


def body_without_key(cast: Cast, is_over: Ended) -> None:
    """A body that goes on after its 401."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    part = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    is_over.begun()
    while not is_over.is_set():
        with contextlib.suppress(OSError), cast.connect(head) as connection:
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


def log_ins(cast: Cast, is_over: Ended) -> None:
    """Wrong passwords, whose hashing takes a third of a second each."""
    with httpx.Client(base_url=cast.url, timeout=30) as browser:
        token = browser.get("/admin/login/").cookies.get("csrftoken", "")
        form = {"username": "admin", "password": "wrong", "csrfmiddlewaretoken": token}
        is_over.begun()
        while not is_over.is_set():
            browser.post("/admin/login/", data=form, headers={"Referer": cast.url})


def uploads(cast: Cast, is_over: Ended) -> None:
    """Files for the log-in page, which needs no account."""
    is_over.begun()
    while not is_over.is_set():
        with contextlib.suppress(httpx.HTTPError):
            http.post(
                f"{cast.url}/admin/login/",
                files={"file": b"x" * 20_000_000},
                headers={"Cookie": "csrftoken=" + "a" * 32},
            )


def idle_connections(cast: Cast, is_over: Ended) -> None:
    """Connections that ask for nothing, or never get to the end of their headers."""
    connections: list[socket.socket] = []
    try:
        while not is_over.is_set() and len(connections) < 4 * CONNECTIONS:
            with contextlib.suppress(OSError):
                half = b"" if len(connections) % 2 else b"GET /health HTTP/1.1\r\nHost: loc"
                connections.append(cast.connect(half))
        is_over.begun()
        is_over.wait()
    finally:
        for connection in connections:
            connection.close()


def stuck_requests(cast: Cast, is_over: Ended) -> None:
    """Requests to a provider that does not answer, whose sender stays for a while."""
    body = json.dumps({"model": cast.stuck, **asks(max_tokens=5)}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\napi-key: {cast.secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    connections: list[socket.socket] = []
    try:
        while not is_over.is_set() and len(connections) < CONNECTIONS:
            with contextlib.suppress(OSError):
                connections.append(cast.connect(head.encode() + body))
        while answered := _answered(connections):  # those that are refused
            for connection in answered:
                connections.remove(connection)
                connection.close()
        is_over.begun()
        is_over.wait()
    finally:
        for connection in connections:
            connection.close()


def _answered(connections: list[socket.socket]) -> list[socket.socket]:
    """`select` knows no more than 1,024 of them."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
        return [key.data for key, _ in selector.select(0.5)]


def slow_bodies(cast: Cast, is_over: Ended) -> None:
    """Bodies of which a byte comes now and then."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\napi-key: {cast.secret}\r\nContent-Length: 1000\r\n\r\n"
    connections: list[socket.socket] = []
    while not is_over.is_set():
        if len(connections) < CONNECTIONS:
            with contextlib.suppress(OSError):
                connections.append(cast.connect(head.encode()))
            if len(connections) == CONNECTIONS:
                is_over.begun()
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
    return json.dumps({"model": cast.anthropic, **asks(), "messages": [message] * 9_999}).encode()


def large_text(cast: Cast) -> bytes:
    return json.dumps({"model": cast.stuck, **asks("hello world " * 1_600_000)}).encode()


def heavy_headers(cast: Cast, is_over: Ended) -> None:
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"x" * 8000) for number in range(90))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n".encode() + headers + b"\r\n"
    is_over.begun()
    while not is_over.is_set():
        with contextlib.suppress(OSError), cast.connect(head) as connection:
            connection.recv(100)


#: By name: the attack, and how many attackers it has in its short form and in its long form. The long form has as many
#: as made the gateway unusable once, or more.
ATTACKS: dict[str, tuple[Attack, int, int]] = {
    "a body that goes on after its 401": (body_without_key, 2, 8),
    "nested references": (repeated(nested_references), 2, 8),
    "uploads": (uploads, 2, 8),
    "log-ins": (log_ins, 4, 20),
    "idle connections": (idle_connections, 1, 4),
    "requests to a stuck provider": (stuck_requests, 1, 4),
    "slow bodies": (slow_bodies, 1, 4),
    "millions of small objects": (repeated(small_objects), 2, 8),
    "thousands of messages": (repeated(many_messages), 2, 2),
    "large texts": (repeated(large_text), 4, 20),
    "heavy headers": (heavy_headers, 4, 16),
}


def main() -> None:
    """Reads a line of JSON for each attack, says when it has begun, and ends it at the next line."""
    with Simulator() as providers:
        providers.behave("stuck", forever=Behaviour(latency_s=8))
        addresses = {wire: providers.base_url(wire, "attacked") for wire in ("openai", "gemini", "anthropic")}
        _say({**addresses, "stuck": providers.base_url("openai", "stuck")})
        for line in sys.stdin:
            asked = json.loads(line)
            attack, *_ = ATTACKS[asked["attack"]]
            is_over = Ended(asked["attackers"])
            cast = Cast(**asked["cast"])
            threads = [threading.Thread(target=attack, args=[cast, is_over]) for _ in range(asked["attackers"])]
            for thread in threads:
                thread.start()
            is_over.begun()
            _say("begun")
            sys.stdin.readline()
            is_over.set()
            for thread in threads:
                thread.join(60)
            _say("ended")


def order(attack: str, attackers: int, cast: Cast) -> str:
    return json.dumps({"attack": attack, "attackers": attackers, "cast": asdict(cast)}) + "\n"


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
