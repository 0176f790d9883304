"""Fees that a provider documents for its own tools, whatever the model, where a model's price says nothing of them.

An agent such as Codex offers OpenAI's search with each of its requests. Price maps and operators say a model's tokens,
so without these fees every such request would be refused under a hard budget.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from accounting.pricing import PriceList, Rate
from accounting.usage import Meter
from routing.upstreams.kinds import Kind, can_serve, kind_of
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.thinking import reasons

#: What a search of the older kind is called in a usage.
PREVIEW: Final = "preview"
#: https://platform.openai.com/docs/pricing#built-in-tools
_SEARCH_USD, _PREVIEW_USD = Decimal("0.01"), Decimal("0.025")


def is_documented(litellm_provider: str, base_url: str) -> bool:
    """Whether the fees are those of whoever answers at this address: of another server nothing is known."""
    return litellm_provider == "openai" and base_url.rstrip("/") in ("", PROVIDERS["openai"].base_url)


def with_documented_fees(price: PriceList, model: str) -> PriceList:
    """The price of a model at OpenAI, with the fees that it does not say itself. Only who answers in words searches."""
    meters = {rate.meter for rate in price.rates}
    if Meter.SEARCH in meters or Meter.OUTPUT not in meters or not can_serve(kind_of("openai", model), Kind.CHAT):
        return price
    fees = [Rate(Meter.SEARCH, _PREVIEW_USD if "-search-preview" in model else _SEARCH_USD)]
    if not reasons("openai", model):
        fees.append(Rate(Meter.SEARCH, _PREVIEW_USD, PREVIEW))
    return PriceList((*price.rates, *fees))


def search_of(tool: object) -> str:
    """The qualifier of the searches that are made with a tool of OpenAI's: the older kind, whose fee is another at
    models that do not reason, or the size of their context."""
    if not isinstance(tool, dict):
        return ""
    if str(tool.get("type")).startswith("web_search_preview"):
        return PREVIEW
    size = tool.get("search_context_size")
    return size if size in ("low", "medium", "high") else ""
