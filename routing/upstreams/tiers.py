"""Service tiers: what a client asks for and what a provider says it served, in each provider's words.

The tier that the provider says it served decides the cost; the dearest that the request allows decides the hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from accounting import facts
from accounting.usage import Tier
from routing.upstreams.base import Deployment
from routing.upstreams.providers import PROVIDERS, facts_of
from routing.upstreams.scrubbing import scrubbed

STANDARD_ALONE: Final = frozenset({Tier.STANDARD})
ALL: Final = frozenset(Tier)
#: Those that cost more than the standard one. A request for one of them is bounded only where it has a price.
DEARER: Final = frozenset({Tier.PRIORITY, Tier.ULTRA})

#: No two providers mean different things by one word.
#: OpenAI: https://platform.openai.com/docs/api-reference/chat/create#chat_create-service_tier ·
#: https://developers.openai.com/api/docs/guides/ultrafast-mode
#: Anthropic: https://docs.anthropic.com/en/api/service-tiers · Groq: https://console.groq.com/docs/service-tiers
#: Google: https://ai.google.dev/gemini-api/docs/optimization, and Vertex AI's `trafficType`
#: Capacity that is bought ahead (`scale`, `provisioned_throughput`) has no price a token: the standard one is charged.
_WORDS: Final[Mapping[str, Tier]] = {
    **dict.fromkeys(("default", "standard", "standard_only", "on_demand", "scale", "reserved"), Tier.STANDARD),
    **dict.fromkeys(("unspecified", "provisioned_throughput"), Tier.STANDARD),
    **dict.fromkeys(("flex", "on_demand_flex"), Tier.FLEX),
    **dict.fromkeys(("priority", "performance", "fast", "on_demand_priority"), Tier.PRIORITY),
    "ultrafast": Tier.ULTRA,
    "batch": Tier.BATCH,
}
#: Providers whose priority is capacity that is bought ahead, so that it has no other price a token.
_PREPAID_PRIORITY: Final = frozenset({"anthropic"})


def is_priced_apart(litellm_provider: str, tier: Tier) -> bool:
    """Whether the provider has other prices in this tier than in its standard one."""
    if tier is Tier.STANDARD:
        return False
    return not (tier is Tier.PRIORITY and litellm_provider in _PREPAID_PRIORITY)


def asked(body: Mapping[str, Any], deployment: Deployment) -> tuple[Tier, frozenset[Tier]]:
    """The tier that a request asks the deployment for, and all those in which it may be served.

    A provider that has no room in a tier serves some requests in its standard one. `auto` is what the account is set
    to, which may be priority. A word that nobody knows may be any tier. Without a word it is the standard tier.
    """
    if body.get("speed") == "fast" and deployment.litellm_provider == "anthropic":
        return Tier.ULTRA, STANDARD_ALONE | {Tier.ULTRA}
    word = body.get("service_tier")
    if word is None or not _is_sent(word, deployment):
        return Tier.STANDARD, STANDARD_ALONE
    if word == "auto":
        return Tier.STANDARD, frozenset({Tier.STANDARD, Tier.PRIORITY})
    tier = _tier(word)
    return (Tier.STANDARD, ALL) if tier is None else (tier, STANDARD_ALONE | {tier})


def served_by_anthropic(usage: Mapping[str, Any]) -> object:
    """The provider's word for the tier. Its fast mode is one of its own, beside those that it calls tiers.
    https://platform.claude.com/docs/en/build-with-claude/fast-mode"""
    return "ultrafast" if usage.get("speed") == "fast" else usage.get("service_tier")


def served(word: str | None, otherwise: Tier) -> Tier:
    """The tier that the provider says it served. What it does not say is as it was asked for. A word that nobody knows
    is charged at the standard price, and logged, since an operator must learn of it. `auto` is what a client asks for,
    and so says nothing."""
    if word is None or word.lower() == "auto":
        return otherwise
    tier = _tier(word)
    if tier is None:
        facts.service_tier_unknown(scrubbed(word)[:40])
        return Tier.STANDARD
    return tier


def _tier(word: object) -> Tier | None:
    return _WORDS.get(word.lower().removeprefix("service_tier_")) if isinstance(word, str) else None


def _is_sent(word: object, deployment: Deployment) -> bool:
    if PROVIDERS[deployment.litellm_provider].way != "relay":
        return True  # litellm decides, by model
    facts = facts_of(deployment.litellm_provider, deployment.model, deployment.base_url)
    values = facts.values.get("service_tier")
    return "service_tier" in facts.takes and (values is None or (isinstance(word, str) and word in values))
