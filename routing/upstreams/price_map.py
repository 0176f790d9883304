"""What litellm's price map says, which comes with the package: no download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounting.pricing import PriceList
from routing.upstreams import litellm_import
from routing.upstreams.providers import PROVIDERS

SOURCE = "litellm price map"


def costs_of(litellm_provider: str, model: str) -> Mapping[str, Any]:
    """The map's entry of a provider's model; empty when it has none.

    The map names a model with its provider (``gemini/gemini-2.5-pro``) or, for the oldest providers, without.
    """
    prices = litellm_import.load().model_cost
    entry: Mapping[str, Any] | None = prices.get(f"{litellm_provider}/{model}") or prices.get(model)
    if entry is None or not str(entry.get("litellm_provider", "")).startswith(litellm_provider):
        return {}
    return entry


def mode_of(litellm_provider: str, model: str) -> str:
    """What the model is for, in litellm's words: ``chat``, ``embedding``, …; empty when the map does not know it."""
    return str(costs_of(litellm_provider, model).get("mode") or "")


def provider_of(model: str) -> str:
    """litellm's provider of a model that is named without one; empty when it knows none."""
    return str(litellm_import.load().model_cost.get(model, {}).get("litellm_provider") or "")


def is_litellm_provider(name: str) -> bool:
    """Whether litellm has a provider of this name, for chat or for anything else."""
    return name in {str(getattr(known, "value", known)) for known in litellm_import.load().provider_list}


def price_of(litellm_provider: str, model: str) -> PriceList | None:
    """The list price of a provider's model, None when the map does not have it."""
    return PriceList.from_litellm(costs_of(litellm_provider, model))


def continues_prefill(litellm_provider: str, model: str) -> bool:
    """Whether the model goes on from an assistant message at the end of the request, as far as litellm knows.

    Only where that message means it by itself. OpenAI's own models take it for an earlier turn; Mistral, DeepSeek and
    Moonshot want a field or an address of their own for it.
    """
    row = PROVIDERS.get(litellm_provider)
    if row is None or row.prefill != "message":
        return False
    return bool(costs_of(litellm_provider, model).get("supports_assistant_prefill"))
