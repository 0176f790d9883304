"""The configuration in the database as LiteLLM's ``config.yaml``. Loading it back changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import yaml

from accounting import wildcards
from accounting.models import ApiKey, Budget, BudgetMode, BudgetScope, Price
from accounting.money import plain_usd
from routing.litellm_config.applying import GLOBAL, MASTER
from routing.litellm_config.settings import PERIODS
from routing.models import ChainKind, ModelAlias, Provider
from routing.upstreams import price_map

_DURATIONS = {"hour": "1h", "day": "1d", "week": "7d", "month": "30d"}
assert all(PERIODS[duration] == period for period, duration in _DURATIONS.items())


def write(*, in_unicode: bool = True) -> str:
    """The YAML text. It has no keys of clients, because the database holds only their hashes.

    ``in_unicode=False`` writes names in other letters with YAML's own escapes, for a reader who knows ASCII alone.
    """
    aliases = list(
        ModelAlias.objects.select_related("provider").prefetch_related("deployments__provider", "fallbacks__target")
    )
    document: dict[str, Any] = {
        "model_list": [
            _model(alias, provider, model, weight)
            for alias in aliases
            for provider, model, weight in (
                (alias.provider, alias.upstream_model, alias.weight),
                *((row.provider, row.upstream_model, row.weight) for row in alias.deployments.all()),
            )
        ]
    }
    settings: dict[str, Any] = {}
    for kind in ChainKind:
        chains = [
            {alias.name: targets}
            for alias in aliases
            if (targets := [step.target.name for step in alias.fallbacks.all() if step.kind == kind])
        ]
        if chains:
            settings["fallbacks" if kind is ChainKind.GENERAL else f"{kind.value}_fallbacks"] = chains
    settings |= _shared(aliases)
    unsaid = [f"alias {alias.name} is disabled" for alias in aliases if not alias.enabled]
    unsaid += [
        f"provider {name} is disabled" for name in sorted({p.name for p in _providers(aliases) if not p.enabled})
    ]
    unsaid += [
        f"provider {name} has further keys"
        for name in sorted({p.name for p in _providers(aliases) if p.further_keys.exists()})
    ]
    unsaid += [f"alias {alias.name} does not rescue broken streams" for alias in aliases if not alias.rescues_streams]
    unsaid += [
        f"alias {alias.name} has a first-token limit of its own"
        for alias in aliases
        if alias.first_token_timeout_s is not None
    ]
    budget = Budget.objects.filter(name=GLOBAL, scope=BudgetScope.GLOBAL).first()
    if budget is not None and budget.enabled and budget.mode == BudgetMode.HARD and budget.limit_usd:
        settings["max_budget"] = _plain_number(budget.limit_usd)
        if budget.period in _DURATIONS:
            settings["budget_duration"] = _DURATIONS[budget.period]
    elif budget is not None:
        unsaid.append(f"budget {GLOBAL} is not a hard one that is enabled and above 0")
    others = Budget.objects.exclude(name=GLOBAL, scope=BudgetScope.GLOBAL).values_list("name", flat=True)
    unsaid += [f"budget {name}" for name in others]
    unsaid += [
        f"{entry['litellm_params']['model']} has no price here; loading takes litellm's, if it has one"
        for entry in document["model_list"]
        if "input_cost_per_token" not in entry["litellm_params"]
        and not wildcards.is_wildcard(entry["litellm_params"]["model"])
    ]
    deployments = {(alias.provider, alias.upstream_model) for alias in aliases}
    deployments |= {(row.provider, row.upstream_model) for alias in aliases for row in alias.deployments.all()}
    unsaid += sorted(line for provider, model in deployments for line in _unsaid_rates(provider, model))
    if settings:
        document["litellm_settings"] = settings
    master = ApiKey.objects.filter(name=MASTER).first()
    if master is not None and master.required_tags:
        general = document.setdefault("general_settings", {})
        general["enforced_params"] = [f"metadata.{tag}" for tag in master.required_tags]
    if master is not None and master.binds_fallbacks:
        document.setdefault("general_settings", {})["enforce_fallback_model_access"] = True
    header = "# Exported from the gateway. Provider keys are references; clients' keys are not in it.\n"
    header += "".join(f"# This schema cannot say: {what}\n" for what in unsaid)
    return header + yaml.safe_dump(document, sort_keys=False, allow_unicode=in_unicode)


def _model(alias: ModelAlias, provider: Provider, model: str, weight: int | None) -> dict[str, Any]:
    params: dict[str, Any] = {"model": f"{provider.litellm_provider}/{model}", "api_key": _key(provider)}
    if provider.base_url:
        params["api_base"] = provider.base_url
    if provider.api_version:
        params["api_version"] = provider.api_version
    params |= provider.parameters
    params["timeout"] = provider.total_timeout_s
    params["stream_timeout"] = provider.first_token_timeout_s
    if alias.output_cap_tokens is not None:
        params["max_tokens"] = alias.output_cap_tokens
    if weight is not None:
        params["weight"] = weight
    price = Price.objects.filter(provider=provider.name, model=model).in_force(datetime.now(UTC)).first()
    if price is not None:
        params |= _costs(price_map.write(price.price_list(), provider.litellm_provider)[0])
    return {"model_name": alias.name, "litellm_params": params}


def _key(provider: Provider) -> str:
    kind, _, place = provider.key_reference.partition(":")
    return f"os.environ/{place}" if kind == "env" else provider.key_reference or "none"


def _costs(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _costs(usd) if isinstance(usd, Mapping) else _plain_number(usd) for name, usd in said.items()}


def _unsaid_rates(provider: Provider, model: str) -> list[str]:
    price = Price.objects.filter(provider=provider.name, model=model).in_force(datetime.now(UTC)).first()
    unsaid = [] if price is None else price_map.write(price.price_list(), provider.litellm_provider)[1]
    return [f"the price of {provider.name} {model} has a rate of {rate.words}" for rate in unsaid]


def _providers(aliases: list[ModelAlias]) -> set[Provider]:
    return {alias.provider for alias in aliases} | {row.provider for a in aliases for row in a.deployments.all()}


def _shared(aliases: list[ModelAlias]) -> dict[str, Any]:
    """Settings that LiteLLM has once for all providers. They are written when all providers in use have the same."""
    providers = _providers(aliases)
    shared: dict[str, Any] = {}
    for name, values in (
        ("num_retries", {provider.retries for provider in providers}),
        ("allowed_fails", {provider.breaker_failures - 1 for provider in providers}),
        ("cooldown_time", {provider.breaker_cooldown_s for provider in providers}),
    ):
        if len(values) == 1:
            shared[name] = values.pop()
    return shared


def _plain_number(amount: Decimal) -> int | float | str:
    """The amount as a YAML number, or as text when a float cannot hold it. Reading takes both exactly."""
    if amount == int(amount):
        return int(amount)
    return float(amount) if Decimal(str(float(amount))) == amount else plain_usd(amount)
