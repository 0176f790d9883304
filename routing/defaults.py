"""The configuration of a first start: three providers, four aliases with their chains and prices, one budget.

The names and chains are those of the service that this gateway replaces. Its providers no longer serve the old models
(Claude 3.7, Gemini 1.5). So each alias starts on today's model of the same tier, at today's list price, and the old
models' prices remain as history. This runs at every start, and leaves alone what an operator has changed or deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from accounting.models import Budget, BudgetMode, BudgetPeriodLength, BudgetScope, LedgerEntry, Price
from accounting.pricing import PriceList
from routing.models import Fallback, ModelAlias, Provider

PROVIDERS = {
    "anthropic": ("anthropic", "env:ANTHROPIC_API_KEY"),
    "openai": ("openai", "env:OPENAI_API_KEY"),
    "google": ("gemini", "env:GEMINI_API_KEY"),
}
ALIASES = {  # in order: provider, model, fallbacks
    "claude-sonnet": ("anthropic", "claude-sonnet-4-6", ("gpt-4o", "gemini-pro")),
    "gpt-4o": ("openai", "gpt-4o", ("gemini-pro",)),
    "gemini-pro": ("google", "gemini-2.5-pro", ("gemini-flash",)),
    "gemini-flash": ("google", "gemini-2.5-flash-lite", ()),
}
TODAY = datetime(2026, 1, 1, tzinfo=UTC)  # before any entry that these prices could apply to
SEED = datetime(2026, 1, 17, tzinfo=UTC)  # the date of the seed's price table
PRICES = [  # provider, model, from when, by whom; USD per million tokens, a search, a call: litellm's price map
    ("anthropic", "claude-sonnet-4-6", TODAY, "list price", PriceList.of({
        "standard": {"input": "3", "output": "15", "cached_input": "0.3", "cache_write": "3.75", "cache_write_1h": "6",
                     "search": "0.01"},
        "batch": {"input": "1.5", "output": "7.5", "cached_input": "0.15", "cache_write": "1.875"},
    })),
    ("openai", "gpt-4o", TODAY, "list price", PriceList.of({
        "standard": {"input": "2.5", "output": "10", "cached_input": "1.25"},
        "priority": {"input": "4.25", "output": "17", "cached_input": "2.125"},
        "batch": {"input": "1.25", "output": "5"},
    })),
    ("google", "gemini-2.5-pro", TODAY, "list price", PriceList.of({
        "standard": {"input": "1.25", "output": "10", "cached_input": "0.125", "search": "0.035",
                     "tool_call:google_maps": "0.025"},
        "standard above 200000": {"input": "2.5", "output": "15", "cached_input": "0.25"},
        "flex": {"input": "0.625", "output": "5", "cached_input": "0.125"},
        "flex above 200000": {"input": "1.25", "output": "7.5", "cached_input": "0.25"},
        "priority": {"input": "2.25", "output": "18", "cached_input": "0.225"},
        "priority above 200000": {"input": "4.5", "output": "27", "cached_input": "0.45"},
        "batch": {"input": "0.625", "output": "5", "cached_input": "0.125"},
        "batch above 200000": {"input": "1.25", "output": "7.5", "cached_input": "0.25"},
    })),
    ("google", "gemini-2.5-flash-lite", TODAY, "list price", PriceList.of({
        "standard": {"input": "0.1", "output": "0.4", "cached_input": "0.01", "cached_audio_input": "0.03",
                     "audio_input": "0.3", "reasoning": "0.4", "search": "0.035", "tool_call:google_maps": "0.025"},
        "flex": {"input": "0.05", "output": "0.2", "cached_input": "0.01", "cached_audio_input": "0.03",
                 "audio_input": "0.15"},
        "priority": {"input": "0.18", "output": "0.72", "cached_input": "0.018", "cached_audio_input": "0.054",
                     "audio_input": "0.54"},
        "batch": {"input": "0.05", "output": "0.2", "cached_input": "0.01", "cached_audio_input": "0.03",
                  "audio_input": "0.15"},
    })),
    ("anthropic", "claude-3-7-sonnet-20250219", SEED, "seed README",
     PriceList.of({"standard": {"input": "3", "output": "15"}})),
    ("google", "gemini-1.5-pro", SEED, "seed README", PriceList.of({"standard": {"input": "1.25", "output": "5"}})),
    ("google", "gemini-1.5-flash", SEED, "seed README",
     PriceList.of({"standard": {"input": "0.075", "output": "0.3"}})),
]  # fmt: skip


def is_untouched() -> bool:
    """Whether nobody has configured anything yet. Defaults are written only then."""
    return not (
        Provider.objects.exists()
        or ModelAlias.objects.exists()
        or Price.objects.exists()
        or Budget.objects.exists()
        or LedgerEntry.objects.exists()
    )


@transaction.atomic
def ensure() -> bool:
    """Create the defaults in an untouched database. Returns whether it did."""
    if not is_untouched():
        return False
    providers = {
        name: Provider.objects.create(name=name, litellm_provider=wire, key_reference=reference)
        for name, (wire, reference) in PROVIDERS.items()
    }
    aliases = {
        name: ModelAlias.objects.create(
            name=name, provider=providers[provider], upstream_model=model, position=position
        )
        for position, (name, (provider, model, _)) in enumerate(ALIASES.items(), start=1)
    }
    for name, (_, _, targets) in ALIASES.items():
        for position, target in enumerate(targets, start=1):
            Fallback.objects.create(alias=aliases[name], position=position, target=aliases[target])
    for provider, model, since, source, prices in PRICES:
        Price.objects.add(provider, model, since, prices, source)
    Budget.objects.create(
        name="global",
        scope=BudgetScope.GLOBAL,
        mode=BudgetMode.HARD,
        limit_usd=Decimal(10),
        period=BudgetPeriodLength.DAY,
        time_zone="UTC",
    )
    return True
