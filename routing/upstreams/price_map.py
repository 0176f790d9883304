"""What litellm's price map says, which comes with the package: no download."""

from __future__ import annotations

from accounting.pricing import PriceList
from routing.upstreams import litellm_import


def price_of(litellm_provider: str, model: str) -> PriceList | None:
    """The list price of a provider's model, None when the map does not have it.

    The map names a model with its provider (``gemini/gemini-2.5-pro``) or, for the oldest providers, without.
    """
    prices = litellm_import.load().model_cost
    entry = prices.get(f"{litellm_provider}/{model}") or prices.get(model)
    if entry is None or not str(entry.get("litellm_provider", "")).startswith(litellm_provider):
        return None
    return PriceList.from_litellm(entry)
