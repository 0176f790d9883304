"""Changes the database to match a configuration, and reports what was created, changed and left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from accounting import keys, price_import
from accounting.models import ApiKey, Budget, BudgetMode, BudgetScope, Price
from accounting.money import plain_usd
from accounting.usage import Meter, Tier
from routing.litellm_config.reading import Config, ModelEntry
from routing.litellm_config.values import InvalidConfig
from routing.litellm_config.weights import whole_weights
from routing.models import ChainKind, Fallback, FurtherDeployment, ModelAlias, Provider
from routing.upstreams import price_map

MASTER = "master"
GLOBAL = "global"


@dataclass
class Report:
    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def apply(config: Config, *, dry_run: bool) -> Report:
    """Apply the configuration in one transaction. With ``dry_run``, or on InvalidConfig, nothing is written."""
    application = _Application(config)
    with transaction.atomic():
        application.run()
        transaction.set_rollback(dry_run)
    return application.report


@dataclass
class _Application:
    config: Config
    report: Report = field(default_factory=Report)
    #: The identity that each provider row was used for, so that two identities never share a row by accident.
    claimed: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    #: The costs of each provider's model in the file. The first entry counts, so that a second run changes nothing.
    priced: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def run(self) -> None:
        entries: dict[str, list[ModelEntry]] = {}
        for entry in self.config.models:
            entries.setdefault(entry.alias, []).append(entry)
        for alias, deployments in entries.items():
            self._alias(alias, deployments)
        self._chains(set(entries))
        self._budget()
        self._master_key()
        others = ModelAlias.objects.exclude(name__in=entries).values_list("name", flat=True)
        self.report.left += [f"alias {name}" for name in others]

    # --- providers --------------------------------------------------------------------------------------------

    def _provider(self, entry: ModelEntry, current: Provider | None = None) -> Provider:
        """The row for the entry. Keeps ``current``, the deployment's present provider, while it matches the file."""
        where = (entry.litellm_provider, entry.base_url, entry.api_version, entry.key_reference)
        identity = (*where, entry.total_timeout_s, entry.first_token_timeout_s)
        provider = self._existing(entry, identity, current) or self._new_provider(entry)
        self.claimed[provider.pk] = identity
        self._set(provider, f"provider {provider.name}", self._wanted(entry))
        if not provider.enabled:
            self.report.notes.append(f"the provider {provider.name} is disabled, and stays so")
        return provider

    def _wanted(self, entry: ModelEntry) -> dict[str, Any]:
        values = {
            "total_timeout_s": entry.total_timeout_s,
            "first_token_timeout_s": entry.first_token_timeout_s,
            "retries": self.config.retries,
            "breaker_failures": self.config.breaker_failures,
            "breaker_cooldown_s": self.config.breaker_cooldown_s,
        }
        return {name: value for name, value in values.items() if value is not None}

    def _existing(self, entry: ModelEntry, identity: tuple[Any, ...], current: Provider | None) -> Provider | None:
        wanted = self._wanted(entry)
        rows = Provider.objects.filter(
            litellm_provider=entry.litellm_provider,
            base_url=entry.base_url,
            api_version=entry.api_version,
            key_reference=entry.key_reference,
        )

        def unlike(row: Provider) -> tuple[bool, ...]:
            """Sorts a current row that matches first, then rows that this file uses already, then the oldest row."""
            differs = any(getattr(row, name) != value for name, value in wanted.items())
            is_current = current is not None and row.pk == current.pk
            return (not (is_current and not differs), row.pk not in self.claimed, differs, not is_current)

        free = [row for row in rows.order_by("pk") if self.claimed.get(row.pk, identity) == identity]
        return min(free, key=unlike, default=None)

    def _new_provider(self, entry: ModelEntry) -> Provider:
        base = {"gemini": "google"}.get(entry.litellm_provider, entry.litellm_provider)
        names = set(Provider.objects.values_list("name", flat=True))
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        provider = Provider(
            name=name,
            litellm_provider=entry.litellm_provider,
            base_url=entry.base_url,
            api_version=entry.api_version,
            key_reference=entry.key_reference,
            **self._wanted(entry),
        )
        _save(provider, f"the provider of {entry.alias}")
        key = provider.key_reference or "without a key"
        self.report.created.append(f"provider {name} ({', '.join(filter(None, (provider.base_url, key)))})")
        return provider

    # --- aliases ----------------------------------------------------------------------------------------------

    def _alias(self, name: str, entries: list[ModelEntry]) -> None:
        first, *further = entries
        weight, *further_weights = self._weights(name, entries)
        row = ModelAlias.objects.filter(name=name).select_related("provider").first()
        provider = self._provider(first, None if row is None else row.provider)
        cap = next((entry.output_cap_tokens for entry in entries if entry.output_cap_tokens is not None), None)
        if row is None:
            last = ModelAlias.objects.aggregate(last=models.Max("position"))["last"] or 0
            row = ModelAlias(name=name, provider=provider, upstream_model=first.model, weight=weight, position=last + 1)
            if cap is not None:
                row.output_cap_tokens = cap
            _save(row, f"the alias {name}")
            self.report.created.append(f"alias {name} ({provider.name} {first.model})")
        else:
            wanted: dict[str, Any] = {"provider": provider, "upstream_model": first.model, "weight": weight}
            if cap is not None:
                wanted["output_cap_tokens"] = cap
            self._set(row, f"alias {name}", wanted)
            if not row.enabled:
                self.report.notes.append(f"the alias {name} is disabled, and stays so")
        self._price(provider, first)
        self._deployments(row, further, further_weights)

    def _weights(self, alias: str, entries: list[ModelEntry]) -> list[int | None]:
        said = [entry.weight for entry in entries]
        taken = whole_weights(said)
        if any(weight is not None for weight in said) and said != taken:
            before, after = (", ".join("none" if w is None else f"{w}" for w in weights) for weights in (said, taken))
            self.report.notes.append(f"{alias}: the weights {before} are taken as {after}")
        return taken

    def _deployments(self, alias: ModelAlias, entries: list[ModelEntry], weights: list[int | None]) -> None:
        rows = alias.deployments.select_related("provider").order_by("position")
        existing = [(row.provider, row.upstream_model, row.weight) for row in rows]
        wanted = []
        for index, (entry, weight) in enumerate(zip(entries, weights, strict=True)):
            provider = self._provider(entry, existing[index][0] if index < len(existing) else None)
            self._price(provider, entry)
            wanted.append((provider, entry.model, weight))
        if wanted == existing:
            return
        alias.deployments.all().delete()
        FurtherDeployment.objects.bulk_create(
            FurtherDeployment(alias=alias, position=position, provider=provider, upstream_model=model, weight=weight)
            for position, (provider, model, weight) in enumerate(wanted, start=1)
        )
        before, after = (", ".join(map(_deployment, rows)) or "none" for rows in (existing, wanted))
        self.report.changed.append(f"alias {alias.name}: further deployments {before} → {after}")

    def _chains(self, in_file: set[str]) -> None:
        known = {row.name: row for row in ModelAlias.objects.all()}
        for (name, kind), targets in self.config.chains.items():
            label = {ChainKind.GENERAL: "fallbacks"}.get(kind, f"{kind.value}_fallbacks")
            for wanted in (name, *targets):
                if wanted not in known:
                    raise InvalidConfig(
                        label, f"{wanted!r} is in no model_list entry, and no alias of that name exists"
                    )
            if name in targets:
                raise InvalidConfig(label, f"{name!r} cannot fall back to itself")
            steps = Fallback.objects.filter(alias=known[name], kind=kind).order_by("position")
            existing = tuple(step.target.name for step in steps.select_related("target"))
            unique = tuple(dict.fromkeys(targets))
            if existing == unique:
                continue
            steps.delete()
            Fallback.objects.bulk_create(
                Fallback(alias=known[name], kind=kind, position=position, target=known[target])
                for position, target in enumerate(unique, start=1)
            )
            before, after = (" → ".join(chain) or "none" for chain in (existing, unique))
            self.report.changed.append(f"alias {name}: {label} {before} becomes {after}")

    # --- money and keys ---------------------------------------------------------------------------------------

    def _price(self, provider: Provider, entry: ModelEntry) -> None:
        label = f"{provider.name} {entry.model}"
        if entry.costs and self.priced.setdefault(label, entry.costs) != entry.costs:
            self.report.notes.append(f"{label} has two different prices in the file; the first is taken")
            return
        known = Price.objects.filter(provider=provider.name, model=entry.model).in_force(datetime.now(UTC)).first()
        if known is not None:
            # Keep the known price when it has every cost that the file states, or when the file states no cost.
            in_force, _ = price_map.write(known.price_list(), entry.litellm_provider)
            if all(in_force.get(name) == cost for name, cost in entry.costs.items()):
                return
        listed = price_map.costs_of(entry.litellm_provider, entry.model)
        if not listed and entry.base_model:
            listed = price_map.costs_of(
                entry.litellm_provider, entry.base_model.removeprefix(f"{entry.litellm_provider}/")
            )
        prices = price_map.read({**listed, **entry.costs}, entry.litellm_provider)
        rates = {} if prices is None else prices.rates_of(Tier.STANDARD, 0)
        if prices is None or Meter.INPUT not in rates or Meter.OUTPUT not in rates:
            if label not in self.report.unpriced:
                self.report.unpriced.append(label)
            return
        source = "load_config" if entry.costs else price_map.SOURCE
        found = price_import.changes([(provider.name, entry.model, prices)])
        price_import.apply(found, source)
        for change in found:
            what = "; ".join(price_import.differences(change))
            group = self.report.created if change.before is None else self.report.changed
            group.append(f"price of {label} ({source}): {what}")

    def _budget(self) -> None:
        wanted = self.config.budget
        if wanted is None:
            return
        row = Budget.objects.filter(name=GLOBAL).first()
        if row is None:
            row = Budget(name=GLOBAL, scope=BudgetScope.GLOBAL, mode=BudgetMode.HARD)
            row.limit_usd, row.period = wanted.limit_usd, wanted.period
            _save(row, "litellm_settings.max_budget")
            self.report.created.append(f"budget {GLOBAL} ({plain_usd(row.limit_usd)} USD, {row.period})")
            return
        if row.scope != BudgetScope.GLOBAL:
            raise InvalidConfig(
                "litellm_settings.max_budget",
                f"the budget named {GLOBAL!r} here has the scope {row.scope}; rename it first",
            )
        values = {
            "limit_usd": wanted.limit_usd,
            "period": wanted.period,
            "mode": BudgetMode.HARD.value,
            "enabled": True,
        }
        self._set(row, f"budget {GLOBAL}", values)

    def _master_key(self) -> None:
        secret = self.config.master_key
        if secret is None:
            return
        fields = keys.fields_for(secret)
        same = ApiKey.objects.filter(digest=fields["digest"]).exclude(name=MASTER).first()
        if same is not None:
            self.report.notes.append(f"general_settings.master_key is the API key {same.name} already")
            return
        row = ApiKey.objects.filter(name=MASTER).first()
        if row is None:
            _save(ApiKey(name=MASTER, **fields), "general_settings.master_key")
            self.report.created.append(f"API key {MASTER} (general_settings.master_key; only its hash is kept)")
        elif row.digest != fields["digest"]:
            row.prefix, row.digest = fields["prefix"], fields["digest"]
            _save(row, "general_settings.master_key")
            self.report.changed.append(f"API key {MASTER}: the key itself")

    def _set(self, row: models.Model, label: str, wanted: Mapping[str, Any]) -> None:
        changed = {name: value for name, value in wanted.items() if getattr(row, name) != value}
        if not changed:
            return
        for name, value in changed.items():
            self.report.changed.append(f"{label}: {name} {getattr(row, name)} → {value}")
            setattr(row, name, value)
        _save(row, label)


def _deployment(row: tuple[Provider, str, int | None]) -> str:
    provider, model, weight = row
    return f"{provider.name} {model}" + (f" (weight {weight})" if weight is not None else "")


def _save(row: models.Model, place: str) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise InvalidConfig(place, " ".join(error.messages)) from None
    row.save()
