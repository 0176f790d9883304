"""Whatever a provider says, its request is settled, its client gets no 500, and nobody reads our key in it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from routing.models import Provider
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, asks

KEY = PROVIDER_KEYS["OPENAI_API_KEY"]
#: The provider that litellm's SDK calls, which speaks OpenAI's format. All of them have the same key here.
SDK = "github"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ROADS = [
    ("openai", CHAT),
    ("anthropic", CHAT),
    ("gemini", CHAT),
    (SDK, CHAT),
    ("anthropic", MESSAGES),
    ("openai", MESSAGES),
]
LONG = "x" * 300_000
NUL = "a\x00b" * 30
LONE = "\ud83d" * 70
HIDDEN = f"{KEY[:9]}\x00{KEY[9:]}"  # which is our key once it is cleaned for the books

COUNTS: list[Any] = [
    10**14, 10**30, -5, "7", "many", True, 1.5, 1e30, [3], {"n": 3}, None, 10**8 + 1, LONG, NUL, KEY,
]  # fmt: skip
USAGES: list[Any] = ["many", [], 7, {"nested": {"deep": [1]}}, None, True]
TEXTS: list[Any] = [
    "c" * 65,
    LONG,
    NUL,
    LONE,
    KEY,
    f"x {HIDDEN} x",
    10**30,
    {"deep": [KEY]},
    ["a", KEY],
    True,
    None,
    "",
]
STATUSES = (400, 403, 404, 413, 422, 429, 500, 529)


def usage_of(dialect: str, counted: Any) -> dict[str, Any]:
    names = {
        "anthropic": ("input_tokens", "output_tokens", "cache_read_input_tokens"),
        "gemini": ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    }.get(dialect, ("prompt_tokens", "completion_tokens", "total_tokens"))
    usage = dict.fromkeys(names, counted)
    if dialect in ("openai", SDK):
        usage |= {"prompt_tokens_details": {"cached_tokens": counted}}
    return usage


def answer(dialect: str, usage: Any, text: Any = "i-1") -> dict[str, Any]:
    if dialect == "anthropic":
        said = [{"type": "text", "text": "Hello"}]
        return {
            "id": text, "type": "message", "role": "assistant", "model": text, "content": said,
            "stop_reason": "end_turn", "stop_sequence": None, "usage": usage,
        }  # fmt: skip
    if dialect == "gemini":
        candidate = {"content": {"parts": [{"text": "Hello"}], "role": "model"}, "finishReason": "STOP", "index": 0}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": text, "responseId": text}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    return {
        "id": text, "object": "chat.completion", "created": 1, "model": text, "choices": [choice], "usage": usage,
        "service_tier": text, "system_fingerprint": text,
    }  # fmt: skip


def events(dialect: str, usage: Any, text: Any = "i-1", error: Any = None) -> Iterator[Any]:
    """The same as a stream, which breaks off with the error if there is one."""
    whole = answer(dialect, usage, text)
    if dialect == "anthropic":
        yield {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
        if error is None:
            yield {"type": "content_block_stop", "index": 0}
            yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}
            yield {"type": "message_stop"}
    elif dialect == "gemini":
        if error is not None:
            del whole["candidates"][0]["finishReason"]
        yield whole
    else:
        chunk = {**whole, "object": "chat.completion.chunk", "usage": None}
        choice = {"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}
        yield {**chunk, "choices": [choice]}
        if error is None:
            yield {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            yield {**chunk, "choices": [], "usage": usage}
            yield "[DONE]"
    if error is not None:
        yield {"type": "error", "error": error}


def refusal(text: Any) -> dict[str, Any]:
    said = f"no: {text}" if isinstance(text, str) else text
    return {"message": said, "type": text, "param": text, "code": text, "status": text}


Case = tuple[str, Any]
CASES: list[Case] = [
    *(("count", counted) for counted in COUNTS),
    *(("usage", usage) for usage in USAGES),
    *(("answer", text) for text in TEXTS),
    *(("error", text) for text in TEXTS),
    *(("detail", text) for text in TEXTS),
    *(("error with 200", text) for text in TEXTS),
    *(("breaks off", text) for text in TEXTS),
    *(("id", text) for text in (KEY, "y" * 8000, "a b", f"id-{KEY}", "h\xe9")),
    *(("retry-after", text) for text in ("nan", "1e300", "-1", "x" * 2000, "9" * 400)),
]


def played(dialect: str, case: Case, *, streams: bool) -> tuple[int, dict[str, str], bytes, bool]:
    """The answer of the case: its status, its headers, its body, and whether that is a stream."""
    kind, odd = case
    match kind:
        case "error":
            status = STATUSES[TEXTS.index(odd) % len(STATUSES)]
            return status, {}, json.dumps({"type": "error", "error": refusal(odd)}).encode(), False
        case "error with 200":
            return 200, {}, json.dumps({"type": "error", "error": refusal(odd)}).encode(), False
        case "detail":
            said = {"detail": [{"loc": ["body", odd], "msg": odd, "type": odd}], "code": odd, "type": odd}
            return 400, {}, json.dumps(said).encode(), False
        case "retry-after":
            headers = {"retry-after": odd, "retry-after-ms": odd}
            return 429, headers, json.dumps({"error": refusal("later")}).encode(), False
    headers = dict.fromkeys(("x-request-id", "request-id", "x-goog-request-id"), odd) if kind == "id" else {}
    usage = usage_of(dialect, odd) if kind == "count" else odd if kind == "usage" else usage_of(dialect, 7)
    text = odd if kind == "answer" else "i-1"
    error = refusal(odd) if kind == "breaks off" else None
    if not streams:
        whole = {"error": error} if error is not None else answer(dialect, usage, text)
        return 200, headers, json.dumps(whole).encode(), False
    lines = (event if event == "[DONE]" else json.dumps(event) for event in events(dialect, usage, text, error))
    return 200, headers, "".join(f"data: {line}\n\n" for line in lines).encode(), True


class OddProvider(BaseHTTPRequestHandler):
    """Answers as the case says whose number stands in the request's text."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        found = re.search(r"case-(\d+)-([a-z]+)", body)
        assert found is not None
        streams = "alt=sse" in self.path or re.search(r'"stream": ?true', body) is not None
        status, headers, said, is_stream = played(found[2], CASES[int(found[1])], streams=streams)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/event-stream" if is_stream else "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def odd_provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OddProvider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("dialect", "path"), ROADS)
def test_nothing_that_a_provider_says_keeps_its_request_from_settling_or_shows_our_key(
    gateway: Gateway, odd_provider: str, dialect: str, path: str, streamed: bool
) -> None:
    route = gateway.route("openai", retries=0, breaker_failures=30_000, breaker_failure_rate=1, base_url=odd_provider)
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(litellm_provider=dialect)

    def ask(case: int) -> tuple[int, str]:
        body = asks(f"case-{case}-{dialect}", model=route.alias, stream=streamed, max_tokens=64)
        answered = gateway.post(json.dumps(body).encode(), path=path)
        return answered.status_code, f"{answered.text} {dict(answered.headers)}"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(len(CASES))))
    gateway.wait_settled(route.alias, len(CASES))
    for (kind, odd), (status, text) in zip(CASES, answers, strict=True):
        said = (kind, repr(odd)[:80], status, text[:500])
        assert status != 500, said
        assert "internal_error" not in text, said
        if kind != "answer":  # which is the model's, and is handed on as it is
            assert KEY not in text, said
            assert len(text) < 9_000, said
    assert {entry["state"] for entry in gateway.entries(route.alias)} <= {"posted", "voided"}
    for row in (*gateway.entries(route.alias), *gateway.attempts(route.alias)):
        assert KEY not in str(row)
    for entry in gateway.entries(route.alias):
        assert (entry["cost_usd"] > 0) == (entry["usage_source"] != "none") == (entry["state"] == "posted"), entry
    assert KEY not in gateway.running.output
