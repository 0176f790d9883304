"""The provider simulator: an HTTP server that speaks OpenAI's, Anthropic's and Gemini's formats.

    with Simulator() as sim:
        sim.behave("openai", faults.rate_limited(retry_after_s=1))
        client = openai.OpenAI(base_url=sim.base_url("openai"), api_key="sk-test")
        ...
        assert sim.requests[0].status == 429

A thread a connection: several hundred slow streams are carried well. `/openai/…`, `/anthropic/…` and
`/gemini/…` are providers of those names; `/p/<name>/openai/…` is a provider called `<name>`, so that a test
can tell several apart. Some names are those of real providers, and refuse what these refuse (`strictness`)."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote

from tests.simulator import (
    anthropic_format,
    cohere_rerank,
    gemini_embeddings,
    gemini_format,
    gemini_images,
    openai_completions,
    openai_embeddings,
    openai_format,
    openai_images,
    openai_moderations,
    openai_responses,
    openai_sound,
)
from tests.simulator.behaviour import Behaviour, behaviour_from_json
from tests.simulator.connection import ClientGone, Connection, RawRequest, response_head
from tests.simulator.exchange import Exchange
from tests.simulator.log import ReceivedRequest, RequestLog
from tests.simulator.model import PromptCache
from tests.simulator.script import Script, Where
from tests.simulator.wire_format import Asked, WireFormat

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMED = re.compile(r"^/p/([^/]+)/")
_GEMINI = re.compile(r"/models/([^/:]+):(generateContent|streamGenerateContent|batchEmbedContents|predict)$")
_BASE_PATHS = {"openai": "/openai/v1", "anthropic": "/anthropic", "gemini": "/gemini/v1beta"}
_FORMATS: dict[str, WireFormat] = {
    "completions": openai_completions,
    "embeddings": openai_embeddings,
    "images": openai_images,
    "moderations": openai_moderations,
    "rerank": cohere_rerank,
    "imagen": gemini_images,
    "gemini_embeddings": gemini_embeddings,
    "speech": openai_sound.SPEECH,
    "transcriptions": openai_sound.TRANSCRIPTIONS,
    "translations": openai_sound.TRANSLATIONS,
    "openai": openai_format,
    "responses": openai_responses,
    "anthropic": anthropic_format,
    "gemini": gemini_format,
}
_GEMINI_METHODS = {"batchEmbedContents": "gemini_embeddings", "predict": "imagen"}
_NOT_FOUND = b'{"error": {"message": "The simulator has nothing at this address"}}'
_KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


_KEY_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")


class Simulator:
    """Use as a context manager, or `start()` and `stop()`. Port 0 takes a free one. Thread-safe.

    `default` is how requests are answered that no script speaks of.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        default: Behaviour | None = None,
        keep_requests: int = 20_000,
    ) -> None:
        self._address = (host, port)
        self._script = Script(default or Behaviour())
        self._log = RequestLog(keep_requests)
        self._caches: dict[tuple[str, str, str], PromptCache] = {}  # by provider, model and key
        self._listener: socket.socket | None = None
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._stopping = False

    # --- running ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._stopping = False
        self._listener = socket.create_server(self._address, backlog=1024)
        self._address = self._listener.getsockname()[:2]
        threading.Thread(target=self._accept, args=(self._listener,), name="simulator", daemon=True).start()

    def stop(self) -> None:
        """Closes the port and every connection. The address is kept: `start()` comes back on the same one."""
        self._stopping = True
        if self._listener:
            # Wakes accept(). Platforms differ in whether that is an error for a socket that is not connected.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.hang_up()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    def base_url(self, wire: str, provider: str | None = None) -> str:
        """The URL to give to a client of that format as its base URL (litellm: `api_base`)."""
        return f"{self.url}{f'/p/{provider}' if provider else ''}{_BASE_PATHS[wire]}"

    # --- scripting -------------------------------------------------------------------------------

    def behave(self, where: Where | str, *behaviours: Behaviour, forever: Behaviour | None = None) -> None:
        """Queues behaviours for matching requests, one a request; afterwards `forever`, or else the default.

        A string is the provider's name. Of several selectors that match, the most exact one speaks: model
        before provider before format."""
        self._script.add(Where(provider=where) if isinstance(where, str) else where, behaviours, forever)

    def reset(self) -> None:
        """Forgets scripts, the log and the prompt cache."""
        self._script.clear()
        self._log.clear()
        self._caches.clear()

    @property
    def requests(self) -> list[ReceivedRequest]:
        """What was received since the start or the last reset, oldest first."""
        return self._log.all()

    def requests_to(self, provider: str) -> list[ReceivedRequest]:
        return [request for request in self._log.all() if request.provider == provider]

    def wait_until(self, condition: Callable[[list[ReceivedRequest]], object], timeout_s: float = 5.0) -> bool:
        """Waits until the condition is true of the log; False if it does not come true in time."""
        return self._log.wait_until(condition, timeout_s)

    # --- serving ---------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # stopped
            threading.Thread(target=self._serve, args=(Connection(sock),), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with self._lock:
            self._connections.add(connection)
        try:
            while not self._stopping and (raw := connection.read_request()):
                keep = self._answer(connection, raw)
                if not keep or raw.headers.get("connection", "").lower() == "close":
                    return
        except ClientGone:
            pass  # noted in the log by _answer, if a request was running
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer(self, connection: Connection, raw: RawRequest) -> bool:
        path, _, query = raw.target.partition("?")
        if path.startswith("/_sim/"):
            return self._control(connection, raw, path)
        if kept := openai_responses.KEPT.search(path):
            return self._answer_kept(connection, raw, path, query, kept)
        found = _route(path)
        if not found or raw.method != "POST":
            return _send_json(connection, 404, _NOT_FOUND)
        wire, provider, model, streamed = found
        content_type = raw.headers.get("content-type", "")
        is_form = content_type.startswith("multipart/form-data")
        body = openai_sound.form(raw.body, content_type) if is_form else _json_object(raw.body)
        if wire not in (gemini_format, gemini_embeddings, gemini_images) and body is not None:
            model = str(body.get("model", ""))
            streamed = body.get("stream") is True
        number = self._log.add(
            ReceivedRequest(
                number=0,
                received_at=time.monotonic(),
                provider=provider,
                format=wire.NAME,
                method=raw.method,
                path=path,
                query=query,
                headers=raw.headers,
                body=body,
                raw=raw.body,
                model=model,
                streamed=streamed,
            )
        )
        exchange = Exchange(connection, wire, lambda status: self._log.update(number, status=status))
        left_at = None
        try:
            if body is None:
                return exchange.fail(wire.not_json())
            asked = Asked(body, raw.headers, dict(parse_qsl(query)), model, streamed, provider)
            if refusal := wire.refuse(asked):
                return exchange.fail(refusal)
            behaviour = self._script.take(provider, wire.NAME, model)
            return exchange.play(wire.read(asked), behaviour, self._cache_of(asked))
        except ClientGone:
            if not self._stopping:
                left_at = time.monotonic()
            raise
        finally:
            self._log.update(
                number,
                ended_at=time.monotonic(),
                tokens_sent=exchange.tokens_sent,
                closed_by_client_at=left_at,
            )

    def _cache_of(self, asked: Asked) -> PromptCache:
        key = next((asked.headers[name] for name in _KEY_HEADERS if name in asked.headers), asked.query.get("key", ""))
        return self._caches.setdefault((asked.provider, asked.model, key), PromptCache())

    def _answer_kept(self, connection: Connection, raw: RawRequest, path: str, query: str, kept: re.Match[str]) -> bool:
        named = _NAMED.match(path)
        provider = unquote(named[1]) if named else "openai"
        body = _json_object(raw.body) or {}
        asked = Asked(body, raw.headers, dict(parse_qsl(query)), str(body.get("model", "")), False, provider)
        received = ReceivedRequest(
            number=0, received_at=time.monotonic(), provider=provider, format=openai_responses.NAME, method=raw.method,
            path=path, query=query, headers=raw.headers, body=body, raw=raw.body,
        )  # fmt: skip
        number = self._log.add(received)
        status, answer = openai_responses.answer_kept(raw.method, unquote(kept["id"]), kept["more"], asked)
        self._log.update(number, status=status, ended_at=time.monotonic())
        return _send_json(connection, status, json.dumps(answer).encode())

    # --- the same over HTTP, for a simulator in its own process ------------------------------------

    def _control(self, connection: Connection, raw: RawRequest, path: str) -> bool:
        if (raw.method, path) == ("GET", "/_sim/log"):
            listed = [_log_entry(request) for request in self.requests]
            return _send_json(connection, 200, json.dumps(listed, default=lambda raw: f"{len(raw)} bytes").encode())
        if (raw.method, path) == ("POST", "/_sim/reset"):
            self.reset()
            return _send_json(connection, 200, b"{}")
        if (raw.method, path) == ("POST", "/_sim/behave"):
            try:
                order = json.loads(raw.body)
                where = order["where"]
                forever = order.get("forever")
                self.behave(
                    where if isinstance(where, str) else Where(**where),
                    *[behaviour_from_json(item) for item in order.get("behaviours", ())],
                    forever=behaviour_from_json(forever) if forever is not None else None,
                )
            except (ValueError, TypeError, KeyError) as error:
                return _send_json(connection, 400, json.dumps({"error": repr(error)}).encode())
            return _send_json(connection, 200, b"{}")
        return _send_json(connection, 404, _NOT_FOUND)


def _route(path: str) -> tuple[WireFormat, str, str, bool] | None:
    """The format, the provider's name, and for Gemini the model and whether the answer is streamed."""
    model, streamed = "", False
    provider = ""
    if path.endswith("/chat/completions"):
        name = "openai"
    elif path.endswith("/responses"):
        name, provider = "responses", "openai"
    elif path.endswith(("/embeddings", "/completions", "/moderations")):
        name, provider = path.rpartition("/")[2], "openai"
    elif path.endswith("/rerank"):
        name, provider = "rerank", "cohere"
    elif path.endswith(("/images/generations", "/images/edits")):
        name, provider = "images", "openai"
    elif "/audio/" in path and (sound := path.rpartition("/")[2]) in ("speech", "transcriptions", "translations"):
        name, provider = sound, "openai"
    elif path.endswith("/v1/messages"):
        name = "anthropic"
    elif match := _GEMINI.search(path):
        name, model, streamed = "gemini", unquote(match[1]), match[2] == "streamGenerateContent"
        name = _GEMINI_METHODS.get(match[2], name)
        provider = "gemini"
    else:
        return None
    named = _NAMED.match(path)
    return _FORMATS[name], unquote(named[1]) if named else provider or name, model, streamed


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _log_entry(request: ReceivedRequest) -> dict[str, Any]:
    """The record as JSON, without the raw bytes and with keys shortened: a demo may be given a real one."""
    headers = {name: f"…{value[-4:]}" if name in _KEY_HEADERS else value for name, value in request.headers.items()}
    shown = {name: getattr(request, name) for name in request.__slots__ if name not in ("raw", "query")}
    return shown | {"headers": headers}


def _send_json(connection: Connection, status: int, body: bytes) -> bool:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    connection.send(response_head(status, headers) + body)
    return True
