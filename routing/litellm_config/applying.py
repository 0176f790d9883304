"""Brings the database to a configuration, and tells what that created, changed and left.

Everything is worked out in memory first. What is written then takes a few statements, so that running requests, which
prove their snapshot of the configuration, wait for milliseconds and not for thousands of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction

from accounting import keys, price_import, wildcards
from accounting.models import ApiKey, Budget, BudgetMode, BudgetScope, Price
from accounting.money import plain_usd
from accounting.pricing import PriceList
from routing.litellm_config.entries import ModelEntry
from routing.litellm_config.reading import KEY_SETTINGS, ChainEntry, Config
from routing.litellm_config.remarks import Remark
from routing.litellm_config.settings import BudgetEntry
from routing.litellm_config.values import InvalidConfig
from routing.litellm_config.weights import whole_weights
from routing.models import ChainKind, Fallback, FurtherDeployment, ModelAlias, Provider
from routing.upstreams import price_map

MASTER = "master"
SCOPE_VALUE_CHARACTERS = Budget._meta.get_field("scope_value").max_length or 0
GLOBAL = "global"

_Identity = tuple[Any, ...]
_Deployment = tuple[Provider, str, int | None]  # provider, model, weight


@dataclass
class Report:
    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unpriced: list[str] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)
    left_out: list[Remark] = field(default_factory=list)
    taken: int = 0  # aliases, chains, budgets and keys of the file that are there now

    def note(self, what: str, why: str) -> None:
        self.notes.append(Remark(what, why=why))


class Refused(Exception):
    """Something of the file cannot be taken over, and the caller wanted all of it. Nothing was applied."""

    def __init__(self, left_out: Iterable[Remark]) -> None:
        super().__init__("not everything can be taken over")
        self.left_out = tuple(left_out)


def apply(config: Config, *, dry_run: bool = False, strict: bool = False, accept_prices: bool = False) -> Report:
    """One transaction; with ``dry_run`` nothing is written. What cannot be taken over is left out and in the report, or
    with ``strict`` raises Refused, and then nothing is applied. ``accept_prices``: odd ones, too."""
    application = _Application(config, accept_prices)
    with transaction.atomic():
        application.work_out()
        left_out = (*config.left_out, *application.report.left_out)
        if strict and left_out:
            raise Refused(left_out)
        if not dry_run:
            application.write()
    return application.report


@dataclass
class _Application:
    config: Config
    accept_prices: bool
    report: Report = field(default_factory=Report)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: The identity that each provider row has in this run, so that two identities never get the same row by accident.
    claimed: dict[str, _Identity] = field(default_factory=dict)
    #: The first cost that the file gives for a provider's model. It counts, so that a second run changes nothing.
    priced: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    providers: dict[str, Provider] = field(default_factory=dict)
    by_address: dict[_Identity, list[Provider]] = field(default_factory=dict)
    aliases: dict[str, ModelAlias] = field(default_factory=dict)
    deployments: dict[str, list[_Deployment]] = field(default_factory=dict)
    chains: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    prices: Mapping[tuple[str, str], PriceList] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    last_position: int = 0
    offered: list[tuple[str, str, PriceList, str]] = field(default_factory=list)  # provider, model, price, source
    dirty: dict[models.Model, set[str]] = field(default_factory=dict)  # the columns to write; of a new row all
    unpriced: dict[str, None] = field(default_factory=dict)
    new: list[models.Model] = field(default_factory=list)
    new_deployments: dict[str, list[_Deployment]] = field(default_factory=dict)
    new_chains: dict[tuple[str, ChainKind], tuple[str, ...]] = field(default_factory=dict)

    def work_out(self) -> None:
        self._read_database()
        entries: dict[str, list[ModelEntry]] = {}
        for entry in self.config.models:
            entries.setdefault(entry.alias, []).append(entry)
        known = set(self.aliases)
        for alias, of_alias in entries.items():
            if not (alias in known and of_alias[0].is_from_wildcard):  # an alias of that name needs no wildcard
                self._alias(alias, of_alias)
        self._chains()
        self._price_changes()
        if self.config.budget is not None:
            self._budget(GLOBAL, BudgetScope.GLOBAL, "", self.config.budget)
        self._provider_budgets()
        for wanted in self.config.tag_budgets:
            tag = f"tags={wanted.scope_value}"  # as LiteLLM's clients send them: metadata.tags, a list
            if len(tag) > SCOPE_VALUE_CHARACTERS:
                why = f"must have at most {SCOPE_VALUE_CHARACTERS - len('tags=')} characters"
                self.report.left_out.append(Remark(wanted.place, wanted.line, why))
                continue
            self._budget(f"tag {wanted.scope_value}"[:100], BudgetScope.TAG, tag, wanted)
        self._deployment_budgets(entries)
        self._master_key()
        self.report.unpriced += self.unpriced
        self.report.left += [f"alias {name}" for name in self.aliases if name in known and name not in entries]

    def _read_database(self) -> None:
        self.providers = {row.name: row for row in Provider.objects.order_by("pk")}
        for provider in self.providers.values():
            self.by_address.setdefault(_address_of(provider), []).append(provider)
        by_pk = {row.pk: row for row in self.providers.values()}
        for alias in ModelAlias.objects.all():
            alias.provider = by_pk[alias.provider_id]
            self.aliases[alias.name] = alias
        self.last_position = max((alias.position for alias in self.aliases.values()), default=0)
        names = {alias.pk: alias.name for alias in self.aliases.values()}
        for row in FurtherDeployment.objects.order_by("position"):
            deployment = (by_pk[row.provider_id], row.upstream_model, row.weight)
            self.deployments.setdefault(names[row.alias_id], []).append(deployment)
        for step in Fallback.objects.order_by("position"):
            place = (names[step.alias_id], step.kind)
            self.chains[place] = (*self.chains.get(place, ()), names[step.target_id])
        self.prices = price_import.in_force(self.now)
        self.budgets = {budget.name: budget for budget in Budget.objects.all()}

    # --- providers --------------------------------------------------------------------------------------------

    def _provider(self, entry: ModelEntry, current: Provider | None = None) -> Provider:
        """The provider's row for an entry. ``current``, the row that the deployment has now, is preferred if it fits.
        Raises InvalidConfig when the entry's provider cannot be one of ours."""
        identity = (*_address(entry), entry.total_timeout_s, entry.first_token_timeout_s)
        provider = self._existing(entry, identity, current) or self._new_provider(entry)
        self.claimed[provider.name] = identity
        self._set(provider, f"provider {provider.name}", self._wanted(entry))
        if not provider.enabled:
            self.report.note(f"the provider {provider.name}", "is disabled, and stays so")
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

    def _existing(self, entry: ModelEntry, identity: _Identity, current: Provider | None) -> Provider | None:
        wanted = self._wanted(entry)

        def unlike(row: Provider) -> tuple[bool, ...]:
            """In order: the row that changes nothing at a second run, one that this run already uses, the oldest."""
            differs = any(getattr(row, name) != value for name, value in wanted.items())
            is_current = row is current
            return (not (is_current and not differs), row.name not in self.claimed, differs, not is_current)

        free = [
            row for row in self.by_address.get(_address(entry), ()) if self.claimed.get(row.name, identity) == identity
        ]
        return min(free, key=unlike, default=None)

    def _new_provider(self, entry: ModelEntry) -> Provider:
        base = {"gemini": "google"}.get(entry.litellm_provider, entry.litellm_provider)
        name, number = base, 1
        while name in self.providers:
            number += 1
            name = f"{base}-{number}"
        provider = Provider(
            name=name,
            litellm_provider=entry.litellm_provider,
            base_url=entry.base_url,
            api_version=entry.api_version,
            key_reference=entry.key_reference,
            parameters=dict(entry.parameters),
            **self._wanted(entry),
        )
        _check(provider, entry.place, entry.line)
        self.providers[name] = provider
        self.by_address.setdefault(_address_of(provider), []).append(provider)
        self.new.append(provider)
        key = provider.key_reference or "without a key"
        self.report.created.append(f"provider {name} ({', '.join(filter(None, (provider.base_url, key)))})")
        return provider

    # --- aliases ----------------------------------------------------------------------------------------------

    def _alias(self, name: str, entries: list[ModelEntry]) -> None:
        row = self.aliases.get(name)
        before = (
            [] if row is None else [(row.provider, row.upstream_model, row.weight), *self.deployments.get(name, ())]
        )
        taken: list[ModelEntry] = []
        providers: list[Provider] = []
        for entry in entries:
            current = before[len(taken)][0] if len(taken) < len(before) else None
            try:
                providers.append(self._provider(entry, current))
            except InvalidConfig as error:
                self.report.left_out.append(Remark.of(error, name, entry.line))
            else:
                taken.append(entry)
        if not taken:
            return
        models_ = [entry.model for entry in taken]
        first, *further = zip(providers, models_, self._weights(name, taken), strict=True)
        try:
            self._alias_row(name, row, first, taken)
        except InvalidConfig as error:
            self.report.left_out.append(Remark.of(error, name, taken[0].line))
            return
        self.report.taken += 1
        for provider, entry in zip(providers, taken, strict=True):
            self._price(provider, entry)
        existing = self.deployments.get(name, [])
        if further != existing:
            self.new_deployments[name] = further
            old, new = (", ".join(map(_words, rows)) or "none" for rows in (existing, further))
            self.report.changed.append(f"alias {name}: further deployments {old} → {new}")

    def _alias_row(self, name: str, row: ModelAlias | None, first: _Deployment, entries: list[ModelEntry]) -> None:
        provider, model, weight = first
        cap = next((entry.output_cap_tokens for entry in entries if entry.output_cap_tokens is not None), None)
        wanted: dict[str, Any] = {"provider": provider, "upstream_model": model, "weight": weight}
        if cap is not None:
            wanted["output_cap_tokens"] = cap
        if row is not None:
            self._set(row, f"alias {name}", wanted)
            if not row.enabled:
                self.report.note(f"the alias {name}", "is disabled, and stays so")
            return
        row = ModelAlias(name=name, position=self.last_position + 1, **wanted)
        _check(row, entries[0].place, entries[0].line)
        self.last_position += 1
        self.aliases[name] = row
        self.new.append(row)
        self.report.created.append(f"alias {name} ({provider.name} {model})")

    def _weights(self, alias: str, entries: list[ModelEntry]) -> list[int | None]:
        said = [entry.weight for entry in entries]
        taken = whole_weights(said)
        if any(weight is not None for weight in said) and said != taken:
            before, after = (", ".join("none" if w is None else f"{w}" for w in weights) for weights in (said, taken))
            self.report.note(alias, f"the weights {before} are taken as {after}")
        return taken

    def _chains(self) -> None:
        for (name, kind), chain in self.config.chains.items():
            label = {ChainKind.GENERAL: "fallbacks"}.get(kind, f"{kind.value}_fallbacks")
            if not self._is_target(name, chain):
                continue
            targets = tuple(
                target for target in dict.fromkeys(chain.targets) if self._is_target(target, chain, of_alias=name)
            )
            if not targets and chain.targets:
                continue
            self.report.taken += 1
            existing = self.chains.get((name, kind), ())
            if existing == targets:
                continue
            self.new_chains[name, kind] = targets
            before, after = (" → ".join(names) or "none" for names in (existing, targets))
            self.report.changed.append(f"alias {name}: {label} {before} becomes {after}")

    def _is_target(self, name: str, chain: ChainEntry, of_alias: str = "") -> bool:
        """Whether the chain may name this; a remark says why not."""
        why = ""
        if name not in self.aliases:
            why = f"{name!r} is in no model_list entry, and no alias of that name exists"
        elif name == of_alias:
            why = f"{name!r} cannot fall back to itself"
        elif of_alias and wildcards.is_wildcard(name):
            why = f"{name!r} is a wildcard: name the model that is meant"
        if why:
            self.report.left_out.append(Remark(chain.place, chain.line, why))
        return not why

    # --- money and keys ---------------------------------------------------------------------------------------

    def _price(self, provider: Provider, entry: ModelEntry) -> None:
        place = (provider.name, entry.model)
        label = " ".join(place)
        costs: Mapping[str, Any] = entry.costs
        if entry.odd_costs and not self.accept_prices:
            why = "a price a million, written as a price a token? It is taken with --accept-prices alone"
            self.report.left_out += [
                Remark(odd.place, odd.line, f"{odd.why}: {why}", entry.alias) for odd in entry.odd_costs
            ]
            costs = {}
        if costs and self.priced.setdefault(place, costs) != costs:
            self.report.note(label, "has two different prices in the file; the first is taken")
            return
        known = self.prices.get(place)
        if known is not None:
            # Only a cost in the file that differs from the price in force changes it.
            in_force, _ = price_map.write(known, entry.litellm_provider)
            if all(in_force.get(name) == cost for name, cost in costs.items()):
                return
        if wildcards.is_wildcard(entry.model) and not costs:
            # Each of its models has litellm's price, at the time of a request.
            if next(price_map.chat_models_of(entry.litellm_provider), None) is None:
                self.unpriced[label] = None
            return
        # As LiteLLM, first by what the model is said to be: an Azure deployment may be named after another model.
        priced_as = entry.base_model.removeprefix(f"{entry.litellm_provider}/")
        listed = price_map.costs_of(entry.litellm_provider, priced_as) if priced_as else {}
        listed = listed or price_map.costs_of(entry.litellm_provider, entry.model)
        others = dict.fromkeys(entry.other_costs, 1)
        mode = {"mode": entry.mode} if entry.mode else {}
        prices = price_map.price_in({**listed, **others, **costs, **mode}, entry.litellm_provider, entry.model)
        if prices is None:
            self.unpriced[label] = None
            return
        self.offered.append((*place, prices, "load_config" if costs else price_map.SOURCE))

    def _price_changes(self) -> None:
        offered: dict[tuple[str, str], tuple[str, str, PriceList, str]] = {}
        for offer in self.offered:
            offered.setdefault(offer[:2], offer)
        self.offered = []
        for provider, model, prices, source in offered.values():
            before, after = self.prices.get((provider, model)), prices.rounded()
            if before == after:
                continue
            self.offered.append((provider, model, after, source))
            what = "; ".join(price_import.differences(price_import.PriceChange(provider, model, before, after)))
            group = self.report.created if before is None else self.report.changed
            group.append(f"price of {provider} {model} ({source}): {what}")

    def _budget(self, name: str, scope: BudgetScope, scope_value: str, wanted: BudgetEntry) -> None:
        row = self.budgets.get(name)
        values = {
            "limit_usd": wanted.limit_usd,
            "period": wanted.period,
            "mode": BudgetMode.HARD.value,
            "enabled": True,
        }
        self.report.taken += 1
        if row is None:
            row = Budget(name=name, scope=scope, scope_value=scope_value, **values)
            self.budgets[name] = row
            self.new.append(row)
            self.report.created.append(f"budget {name} ({plain_usd(wanted.limit_usd)} USD, {wanted.period})")
        elif (row.scope, row.scope_value) != (scope, scope_value):
            self.report.taken -= 1
            why = f"the budget named {name!r} here has the scope {row.scope}; rename it first"
            self.report.left_out.append(Remark(wanted.place, wanted.line, why))
        else:
            self._set(row, f"budget {name}", values)

    def _provider_budgets(self) -> None:
        """``provider_budget_config``: LiteLLM's is for all deployments of a provider, ours for one provider row."""
        for wanted in self.config.provider_budgets:
            rows = [row.name for row in self.providers.values() if row.litellm_provider == wanted.scope_value]
            if not rows:
                why = f"no provider {wanted.scope_value} is here"
                self.report.left_out.append(Remark(wanted.place, wanted.line, why))
            if len(rows) > 1:
                why = f"each of {', '.join(rows)} has this budget of its own: together they may spend more"
                self.report.notes.append(Remark(wanted.place, wanted.line, why))
            for name in rows:
                self._budget(f"provider {name}", BudgetScope.PROVIDER, name, wanted)

    def _deployment_budgets(self, entries: Mapping[str, list[ModelEntry]]) -> None:
        for alias, of_alias in entries.items():
            for entry in of_alias:
                if entry.budget is None or alias not in self.aliases:
                    continue
                if len(of_alias) > 1:
                    why = "a budget of one of several deployments: only an alias or a provider has one here"
                    self.report.left_out.append(Remark(entry.budget.place, entry.budget.line, why, alias))
                else:
                    self._budget(f"alias {alias}"[:100], BudgetScope.ALIAS, alias, entry.budget)

    def _master_key(self) -> None:
        row, secret = ApiKey.objects.filter(name=MASTER).first(), self.config.master_key
        if secret is not None:
            self.report.taken += 1
            fields = keys.fields_for(secret)
            same = ApiKey.objects.filter(digest=fields["digest"]).exclude(name=MASTER).first()
            if same is not None:
                self.report.note("general_settings.master_key", f"is the API key {same.name} already")
            elif row is None:
                row = ApiKey(name=MASTER, **fields)
                self.new.append(row)
                self.report.created.append(f"API key {MASTER} (general_settings.master_key; only its hash is kept)")
            elif row.digest != fields["digest"]:
                row.prefix, row.digest = fields["prefix"], fields["digest"]
                self.dirty[row] = {"prefix", "digest"}
                self.report.changed.append(f"API key {MASTER}: the key itself")
        said = {"required_tags": self.config.required_tags, "binds_fallbacks": self.config.binds_fallbacks}
        wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if row is not None and wanted:
            self.report.taken += 1
            self._set(row, f"API key {MASTER}", wanted)
        for setting, name in zip(KEY_SETTINGS, said, strict=True):
            if name in wanted and row is None:
                self.report.note(f"general_settings.{setting}", "each key has this for itself here; no key was changed")

    def _set(self, row: models.Model, label: str, wanted: Mapping[str, Any]) -> None:
        changed = {name: value for name, value in wanted.items() if getattr(row, name) != value}
        for name, value in changed.items():
            self.report.changed.append(f"{label}: {name} {getattr(row, name)} → {value}")
            setattr(row, name, value)
        if changed and row.pk is not None:
            self.dirty.setdefault(row, set()).update(changed)

    # --- writing ----------------------------------------------------------------------------------------------

    def write(self) -> None:
        """All of it in a few statements. Providers first: aliases point to them."""
        models_: tuple[type[models.Model], ...] = (Provider, ModelAlias, Budget, ApiKey)
        for model in models_:
            model._default_manager.bulk_create(row for row in self.new if isinstance(row, model))
            alike: dict[tuple[str, ...], list[models.Model]] = {}
            for row, columns in self.dirty.items():
                if isinstance(row, model):
                    alike.setdefault(tuple(sorted(columns)), []).append(row)
            for columns_, rows in alike.items():
                model._default_manager.bulk_update(rows, columns_)
        self._write_deployments()
        self._write_chains()
        if self.offered:
            Price.objects.add_all(self.offered, self.now)

    def _write_deployments(self) -> None:
        if not self.new_deployments:
            return
        FurtherDeployment.objects.filter(alias__in=[self.aliases[name] for name in self.new_deployments]).delete()
        FurtherDeployment.objects.bulk_create(
            FurtherDeployment(
                alias=self.aliases[name], position=position, provider=provider, upstream_model=model, weight=weight
            )
            for name, rows in self.new_deployments.items()
            for position, (provider, model, weight) in enumerate(rows, start=1)
        )

    def _write_chains(self) -> None:
        if not self.new_chains:
            return
        replaced = models.Q()
        for kind in {kind for _, kind in self.new_chains}:
            owners = [self.aliases[name].pk for name, of_kind in self.new_chains if of_kind == kind]
            replaced |= models.Q(kind=kind, alias__in=owners)
        Fallback.objects.filter(replaced).delete()
        Fallback.objects.bulk_create(
            Fallback(alias=self.aliases[name], kind=kind, position=position, target=self.aliases[target])
            for (name, kind), targets in self.new_chains.items()
            for position, target in enumerate(targets, start=1)
        )


def _address(entry: ModelEntry) -> _Identity:
    parameters = tuple(sorted(entry.parameters.items()))
    return (entry.litellm_provider, entry.base_url, entry.api_version, entry.key_reference, parameters)


def _address_of(row: Provider) -> _Identity:
    parameters = tuple(sorted(row.parameters.items()))
    return (row.litellm_provider, row.base_url, row.api_version, row.key_reference, parameters)


def _words(row: _Deployment) -> str:
    provider, model, weight = row
    return f"{provider.name} {model}" + (f" (weight {weight})" if weight is not None else "")


def _check(row: models.Model, place: str, line: str) -> None:
    """The rules of the row's own columns. That names are unique is known in memory."""
    try:
        row.clean_fields(exclude={"provider"})  # a new one has no id yet
        row.clean()
    except ValidationError as error:
        raise InvalidConfig(place, " ".join(error.messages), line) from None
