"""What a first start begins with: three providers, four aliases with their chains and prices, one budget.

Names and chains are those of the service that this replaces. Its models (Claude 3.7, Gemini 1.5) are retired at their
providers: each alias starts on the model of the same tier that is served today, at today's list price, and the old
models' prices stand as history. Run at every start; what an operator changed or deleted since is left alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import transaction

from accounting.models import Budget, BudgetMode, BudgetPeriodLength, BudgetScope, LedgerEntry, Price
from routing.models import Fallback, ModelAlias, Provider

PROVIDERS = {
    "anthropic": ("anthropic", "env:ANTHROPIC_API_KEY"),
    "openai": ("openai", "env:OPENAI_API_KEY"),
    "google": ("gemini", "env:GEMINI_API_KEY"),
}
ALIASES = {  # in their order: provider, model, what it falls back to
    "claude-sonnet": ("anthropic", "claude-sonnet-4-6", ("gpt-4o", "gemini-pro")),
    "gpt-4o": ("openai", "gpt-4o", ("gemini-pro",)),
    "gemini-pro": ("google", "gemini-2.5-pro", ("gemini-flash",)),
    "gemini-flash": ("google", "gemini-2.5-flash-lite", ()),
}
TODAY = datetime(2026, 1, 1, tzinfo=UTC)  # before any entry that these prices could apply to
SEED = datetime(2026, 1, 17, tzinfo=UTC)  # the date of the seed's price table
PRICES = [  # USD per million tokens, litellm's price map
    Price(provider="anthropic", model="claude-sonnet-4-6", effective_from=TODAY, source="list price",
          input_usd_per_mtok=Decimal(3), output_usd_per_mtok=Decimal(15), cached_input_usd_per_mtok=Decimal("0.30"),
          cache_write_usd_per_mtok=Decimal("3.75"), cache_write_1h_usd_per_mtok=Decimal(6)),
    Price(provider="openai", model="gpt-4o", effective_from=TODAY, source="list price",
          input_usd_per_mtok=Decimal("2.50"), output_usd_per_mtok=Decimal(10),
          cached_input_usd_per_mtok=Decimal("1.25")),
    Price(provider="google", model="gemini-2.5-pro", effective_from=TODAY, source="list price",
          input_usd_per_mtok=Decimal("1.25"), output_usd_per_mtok=Decimal(10),
          cached_input_usd_per_mtok=Decimal("0.125"), long_context_above_tokens=200_000,
          long_input_usd_per_mtok=Decimal("2.50"), long_output_usd_per_mtok=Decimal(15),
          long_cached_input_usd_per_mtok=Decimal("0.25")),
    Price(provider="google", model="gemini-2.5-flash-lite", effective_from=TODAY, source="list price",
          input_usd_per_mtok=Decimal("0.10"), output_usd_per_mtok=Decimal("0.40"),
          cached_input_usd_per_mtok=Decimal("0.01"), reasoning_usd_per_mtok=Decimal("0.40"),
          audio_input_usd_per_mtok=Decimal("0.30")),
    Price(provider="anthropic", model="claude-3-7-sonnet-20250219", effective_from=SEED, source="seed README",
          input_usd_per_mtok=Decimal(3), output_usd_per_mtok=Decimal(15)),
    Price(provider="google", model="gemini-1.5-pro", effective_from=SEED, source="seed README",
          input_usd_per_mtok=Decimal("1.25"), output_usd_per_mtok=Decimal(5)),
    Price(provider="google", model="gemini-1.5-flash", effective_from=SEED, source="seed README",
          input_usd_per_mtok=Decimal("0.075"), output_usd_per_mtok=Decimal("0.30")),
]  # fmt: skip


def is_untouched() -> bool:
    """Whether nobody has configured anything yet: only then may defaults appear."""
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
    Price.objects.bulk_create(PRICES)
    Budget.objects.create(
        name="global",
        scope=BudgetScope.GLOBAL,
        mode=BudgetMode.HARD,
        limit_usd=Decimal(10),
        period=BudgetPeriodLength.DAY,
        time_zone="UTC",
    )
    return True
