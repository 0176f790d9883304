"""Service tiers in the providers' words."""

from __future__ import annotations

import pytest

from accounting.usage import Tier
from routing.upstreams import tiers
from routing.upstreams.base import Deployment, Timeouts

STANDARD, FLEX, PRIORITY, ULTRA, BATCH = Tier.STANDARD, Tier.FLEX, Tier.PRIORITY, Tier.ULTRA, Tier.BATCH


def deployment(provider: str, model: str = "gpt-4o", base_url: str | None = None) -> Deployment:
    return Deployment(provider, provider, model, base_url, Timeouts())


@pytest.mark.parametrize(
    ("word", "tier"),
    [
        ("default", STANDARD), ("scale", STANDARD), ("flex", FLEX), ("priority", PRIORITY),  # OpenAI
        ("fast", PRIORITY), ("ultrafast", ULTRA),
        ("standard", STANDARD), ("batch", BATCH),  # Anthropic
        ("on_demand", STANDARD), ("performance", PRIORITY),  # Groq
        ("SERVICE_TIER_FLEX", FLEX), ("PRIORITY", PRIORITY), ("SERVICE_TIER_UNSPECIFIED", STANDARD),  # Gemini
        ("ON_DEMAND_PRIORITY", PRIORITY), ("PROVISIONED_THROUGHPUT", STANDARD),  # Vertex AI
    ],
)  # fmt: skip
def test_a_providers_word_for_its_tier(word: str, tier: Tier) -> None:
    assert tiers.served(word, otherwise=BATCH) is tier


def test_a_provider_that_says_nothing_served_what_was_asked() -> None:
    assert tiers.served("auto", otherwise=FLEX) is FLEX  # that is a client's word
    assert tiers.served(None, otherwise=FLEX) is FLEX


@pytest.mark.parametrize(
    ("provider", "word", "tier", "possible"),
    [
        ("openai", None, STANDARD, {STANDARD}),
        ("openai", "default", STANDARD, {STANDARD}),
        ("openai", "auto", STANDARD, {STANDARD, PRIORITY}),
        ("openai", "flex", FLEX, {STANDARD, FLEX}),
        ("openai", "priority", PRIORITY, {STANDARD, PRIORITY}),
        ("openai", "fast", PRIORITY, {STANDARD, PRIORITY}),
        ("openai", "ultrafast", ULTRA, {STANDARD, ULTRA}),
        ("openai", "warp", STANDARD, set(Tier)),
        ("openai", {"type": "priority"}, STANDARD, set(Tier)),
        ("anthropic", "standard_only", STANDARD, {STANDARD}),
        ("groq", "performance", PRIORITY, {STANDARD, PRIORITY}),
        ("groq", "priority", STANDARD, {STANDARD}),  # not a word of Groq's, so it is not sent
        ("deepseek", "priority", STANDARD, {STANDARD}),  # has no tiers, so it is not asked for one
    ],
)
def test_what_is_asked_allows_some_tiers(provider: str, word: object, tier: Tier, possible: set[Tier]) -> None:
    body = {} if word is None else {"service_tier": word}
    assert tiers.asked(body, deployment(provider)) == (tier, frozenset(possible))


def test_anthropics_fast_mode_is_a_tier() -> None:
    """https://platform.claude.com/docs/en/build-with-claude/fast-mode"""
    fast = {"service_tier": "auto", "speed": "fast"}
    assert tiers.asked(fast, deployment("anthropic")) == (ULTRA, frozenset({STANDARD, ULTRA}))
    assert tiers.asked(fast, deployment("openai")) == (STANDARD, frozenset({STANDARD, PRIORITY}))
    assert tiers.asked({"speed": "standard"}, deployment("anthropic")) == (STANDARD, frozenset({STANDARD}))
    assert tiers.served_by_anthropic({"service_tier": "standard", "speed": "fast"}) == "ultrafast"
    assert tiers.served_by_anthropic({"service_tier": "standard", "speed": "standard"}) == "standard"
