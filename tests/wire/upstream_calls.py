"""How the tests of the upstreams make a call: a deployment at the simulator, and a request to it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from routing.upstreams.base import AnswerStream, Deployment, Timeouts, UpstreamRequest
from tests.simulator import Simulator

KEY = "sk-test-4f1b0c9e77"
MODELS = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-pro"}
HELLO: dict[str, Any] = {
    "model": "alias",
    "messages": [{"role": "user", "content": "Say hello"}],
    "max_tokens": 200,
}
PATIENT = Timeouts(connect_s=2, first_token_s=5, idle_s=5, total_s=10)


def call(
    base_url: str | None,
    body: Mapping[str, Any] = HELLO,
    *,
    provider: str = "openai",
    model: str | None = None,
    timeouts: Timeouts = PATIENT,
    api_key: str = KEY,
) -> UpstreamRequest:
    deployment = Deployment(
        provider=provider,
        litellm_provider=provider,
        model=model or MODELS.get(provider, "some-model"),
        base_url=base_url,
        timeouts=timeouts,
    )
    return UpstreamRequest(deployment, api_key, body, timeouts)


def call_to(sim: Simulator, wire: str, body: Mapping[str, Any] = HELLO, **options: Any) -> UpstreamRequest:
    return call(sim.base_url(wire), body, provider=wire, **options)


def text_of(chunks: Iterable[Mapping[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def read(stream: AnswerStream) -> list[dict[str, Any]]:
    return list(stream)


class Raw:
    """A server that sends exactly these pieces to every connection, with pauses, then lingers and closes."""

    def __init__(
        self,
        *pieces: bytes,
        pause_s: float = 0.0,
        linger_s: float = 0.0,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self._pieces, self._pause_s, self._linger_s = pieces, pause_s, linger_s
        self._tls = tls
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self.host = f"{f'[{address}]' if ':' in address else address}:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.host}/v1/chat/completions"
        self.connections = 0
        self.requests: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
        except OSError:
            return  # the client does not trust us
        with connection:
            request = b""
            try:
                while b"\r\n\r\n" not in request or (request.startswith(b"POST") and not request.endswith(b"}")):
                    if not (part := connection.recv(65536)):
                        return  # with TLS 1.3, a client that does not trust us says so only now
                    request += part
                self.requests.append(request)
                for piece in self._pieces:
                    connection.sendall(piece)
                    time.sleep(self._pause_s)
                time.sleep(self._linger_s)
            except OSError:
                return  # the client has had enough

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
