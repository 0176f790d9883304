"""Clients that leave in mid-stream: the provider's call ends at once, and what was received is charged."""

from __future__ import annotations

import json
import socket
import struct
import time
from decimal import Decimal

import pytest

from tests.clocks import within
from tests.e2e.gateway import Gateway, asks, cost
from tests.simulator import Behaviour, Usage, faults
from tests.wire.upstream_calls import SSE_HEAD, Raw


def _event(choices: list[dict[str, object]], **fields: object) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **fields}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


HELLO = _event([{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}])
FINISH = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
COUNT = _event([], usage={"prompt_tokens": 11, "completion_tokens": 5000, "total_tokens": 5011})
DONE = b"data: [DONE]\n\n"


def test_a_client_that_leaves_while_the_provider_is_silent_is_noticed_within_a_second(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.stall_after(3, 30))
    body = json.dumps(
        {"model": route.alias, "stream": True, **asks("Tell me of the sea and of its many ships")}
    ).encode()
    client = gateway.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    received = b""
    while received.count(b"data: ") < 4:
        received += client.recv(4096)
    left_at = time.monotonic()
    client.close()
    gateway.wait_settled(route.alias, within_s=5)
    took_s = time.monotonic() - left_at
    # Twice the interval of the watch, and slack for a busy machine.
    assert within(took_s, 2.5)
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["error_code"], entry["state"]) == (499, "client_closed", "posted")
    assert entry["usage_source"] == "estimated"
    assert entry["output_tokens"] > 0
    assert entry["cost_usd"] > Decimal(0)
    assert gateway.sim.wait_until(
        lambda requests: any(r.provider == route.providers[0] and r.closed_by_client_at is not None for r in requests)
    )


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("fault", [faults.silent(), faults.slow_first_token(9)], ids=["silent", "slow"])
def test_a_client_that_leaves_before_the_first_token_is_noticed_within_a_second(
    gateway: Gateway, wire: str, fault: Behaviour
) -> None:
    route = gateway.route(wire, "openai")
    gateway.sim.behave(route.providers[0], fault)
    body = json.dumps({"model": route.alias, "stream": True, **asks("Tell me of the sea")}).encode()
    client = gateway.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    assert gateway.sim.wait_until(lambda requests: any(r.provider == route.providers[0] for r in requests))
    left_at = time.monotonic()
    client.close()
    gateway.wait_settled(route.alias, within_s=5)
    assert within(time.monotonic() - left_at, 2.5)
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["error_code"], entry["state"]) == (499, "client_closed", "posted")
    # Anthropic's streams begin with a count, which is not yet the answer's.
    counted = ("estimated", 1 if wire == "anthropic" and fault.first_token_s else 0)
    assert (entry["usage_source"], entry["output_tokens"]) == counted
    assert entry["attempts"] == 1
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"]) > 0
    assert gateway.sim.wait_until(
        lambda requests: any(r.provider == route.providers[0] and r.closed_by_client_at is not None for r in requests)
    )
    assert gateway.sim.requests_to(route.providers[1]) == [], "nobody is asked for a client that has left"


def test_a_stream_that_is_only_slow_is_left_alone(gateway: Gateway) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.slow_first_token(1.3))
    stream = gateway.client().chat.completions.create(model=route.alias, stream=True, **asks("hello there"))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["usage_source"]) == (200, "provider")


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
def test_a_client_that_leaves_at_the_last_word_pays_what_the_provider_counted(gateway: Gateway, wire: str) -> None:
    """Its count comes a moment later: thoughts that nobody saw are in it."""
    route = gateway.route(wire)
    counted = Usage(input_tokens=11, output_tokens=5000, reasoning_tokens=0)
    gateway.sim.behave(route.providers[0], Behaviour(tokens=("Here", " is", " END"), token_s=0.02, usage=counted))
    body = json.dumps({"model": route.alias, "stream": True, **asks()}).encode()
    client = gateway.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    received = b""
    while b" END" not in received:
        received += client.recv(4096)
    client.close()  # with a reset
    entry = gateway.entry(route.alias)
    assert (entry["input_tokens"], entry["output_tokens"], entry["usage_source"]) == (11, 5000, "provider")
    assert entry["cost_usd"] == cost(11, 5000)


def test_the_end_of_a_stream_is_told_when_its_count_is_in(gateway: Gateway) -> None:
    with Raw(SSE_HEAD, HELLO, FINISH, COUNT, DONE, pause_s=0.15) as server:
        route = gateway.route("openai", base_url=server.url.removesuffix("/chat/completions"))
        body = json.dumps({"model": route.alias, "stream": True, **asks()}).encode()
        client = gateway.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        received = b""
        while b'"stop"' not in received:
            received += client.recv(4096)
        client.close()
        entry = gateway.entry(route.alias)
    assert (entry["input_tokens"], entry["output_tokens"], entry["usage_source"]) == (11, 5000, "provider")
