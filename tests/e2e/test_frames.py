"""Events of a stream that come at once leave at once: none is lost by it, and none waits for the next or the books."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.clocks import within
from tests.e2e.gateway import Gateway, asks
from tests.wire.upstream_calls import SSE_HEAD, Raw

DONE = b"data: [DONE]\n\n"
PAUSE_S = 1.0


def event(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


USAGE = b'data: {"id": "c-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}\n\n'


def sends(gateway: Gateway, *pieces: bytes) -> Iterator[tuple[float, bytes]]:
    """Each piece in which the gateway sends what this provider sends in pieces, and how long after the request."""
    with Raw(SSE_HEAD, *pieces, pause_s=PAUSE_S) as provider:
        route = gateway.route("openai", base_url=provider.url.removesuffix("/chat/completions"), retries=0)
        body = json.dumps({"model": route.alias, "stream": True, **asks()}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        began = time.monotonic()
        with gateway.send(f"{head}Connection: close\r\n\r\n".encode() + body, timeout_s=20) as connection:
            received = connection.makefile("rb")
            while received.readline() != b"\r\n":
                pass
            while size := int(received.readline(), 16):
                yield time.monotonic() - began, received.read(size)
                received.readline()


def texts(piece: bytes) -> list[str]:
    chunks = [json.loads(line[6:]) for line in piece.splitlines() if line.startswith(b"data: {")]
    return [c["choices"][0]["delta"]["content"] for c in chunks if c.get("choices") and c["choices"][0]["delta"]]


def test_what_comes_at_once_leaves_at_once_and_does_not_wait(gateway: Gateway) -> None:
    words = [f"word {number}" for number in range(20)]
    many = b"".join(map(event, words))
    begun, rest = event("and more")[:20], event("and more")[20:]
    seen = list(sends(gateway, event("first"), many + begun, rest, event(None, "stop") + USAGE + DONE))
    assert [texts(piece) for _, piece in seen[:3]] == [["first"], words, ["and more"]]
    assert seen[-1][1].endswith(DONE)
    first, second, third = (at for at, _ in seen[:3])
    assert within(third - second, PAUSE_S + 0.5, least_s=PAUSE_S / 2)  # it did not wait for the event that had begun
    assert within(second - first, PAUSE_S + 0.5, least_s=PAUSE_S / 2)


@pytest.mark.parametrize("what_follows", [b"", event("half")[:30], b'data: {"error": {"message": "out of order"}}\n\n'])
def test_what_came_at_once_is_not_lost_when_the_provider_breaks(gateway: Gateway, what_follows: bytes) -> None:
    words = [f"word {number}" for number in range(100)]
    pieces = [piece for _, piece in sends(gateway, event("first"), b"".join(map(event, words)) + what_follows)]
    assert [text for piece in pieces for text in texts(piece)] == ["first", *words]
    assert len(pieces) <= 4
    assert b'"code":"stream_interrupted"' in pieces[-1]


def test_a_last_event_is_not_kept_for_the_books(gateway: Gateway) -> None:
    """The end of the stream is what waits for them."""
    seen = list(sends(gateway, event("first"), event("last") + event(None, "stop") + USAGE + DONE))
    assert texts(seen[1][1]) == ["last"]
    assert DONE not in seen[1][1]
    assert DONE in seen[-1][1]
