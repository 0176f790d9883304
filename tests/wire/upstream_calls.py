"""How the tests of the upstreams make a call: a deployment at the simulator, and a request to it."""

from __future__ import annotations

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
    return UpstreamRequest(deployment, api_key, body, timeouts, "req-1")


def call_to(sim: Simulator, format: str, body: Mapping[str, Any] = HELLO, **options: Any) -> UpstreamRequest:
    return call(sim.base_url(format), body, provider=format, **options)


def text_of(chunks: Iterable[Mapping[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def read(stream: AnswerStream) -> list[dict[str, Any]]:
    return list(stream)
