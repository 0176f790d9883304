"""Which requests may be thought about in silence, and how long their first token is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from routing.upstreams.base import Deployment, Timeouts, thinking_limit_s
from routing.upstreams.thinking import asks_to_think, may_think

CASES: list[tuple[str, str, dict[str, Any], bool]] = [
    ("openai", "gpt-5", {}, True),
    ("openai", "o3", {}, True),
    ("openai", "gpt-4o", {}, False),
    ("openai", "gpt-5", {"reasoning_effort": "none"}, False),
    ("gemini", "gemini-2.5-pro", {}, True),
    ("gemini", "gemini-2.5-flash-lite", {}, False),
    ("gemini", "gemini-2.5-flash-lite", {"reasoning_effort": "low"}, True),
    ("anthropic", "claude-sonnet-4-6", {}, False),
    ("anthropic", "claude-sonnet-4-6", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
    ("anthropic", "claude-sonnet-4-6", {"thinking": {"type": "disabled"}}, False),
    ("anthropic", "claude-sonnet-4-6", {"reasoning_effort": "high"}, True),
    ("openai", "gpt-4o", {"reasoning_effort": "high"}, False),
    ("openai", "a-model-that-nobody-knows", {"reasoning_effort": "high"}, False),
]


@pytest.mark.parametrize(("provider", "model", "asked", "thinks"), CASES)
def test_a_request_may_be_thought_about(provider: str, model: str, asked: dict[str, Any], thinks: bool) -> None:
    assert may_think(Deployment(provider, provider, model, None, Timeouts()), asked) is thinks


@pytest.mark.parametrize(("usual_s", "thinking_s"), [(12, 120), (1, 10), (60, 120), (300, 300)])
def test_a_thinkers_limit_is_ten_times_the_usual_and_two_minutes_at_most_unless_that_is_longer(
    usual_s: float, thinking_s: float
) -> None:
    assert thinking_limit_s(usual_s) == thinking_s


@pytest.mark.parametrize(
    ("asked", "is_asked"),
    [
        ({}, False),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"thinking": {"type": "enabled"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": "yes"}, False),
    ],
)
def test_a_request_asks_for_thought_whatever_its_model(asked: dict[str, Any], is_asked: bool) -> None:
    assert asks_to_think(asked) is is_asked
