"""An immutable snapshot of the configuration, for the hot path: no query per request.

The first request after an operator's save uses the new configuration, on every worker and replica. An admitted request
proves in the hold's transaction that its snapshot is current. If it is not, the ledger raises ``ConfigurationChanged``
and the request starts again with a fresh snapshot. Before a request is refused because of a snapshot, the gateway asks
the database for the version (:func:`fresh`). So an old configuration never decides.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from django.db import connection, transaction

from accounting import wildcards
from accounting.budgets import BudgetRule, load_rules
from accounting.keys import Key, load_keys
from accounting.models import ConfigurationVersion, Price
from accounting.pricing import PriceList
from routing.exceptions import ModelNotAllowed, ModelNotFound
from routing.models import ALIAS_CHARACTERS, ChainKind, Fallback, FurtherDeployment, ModelAlias, ProviderKey
from routing.models import Provider as ProviderRow
from routing.upstreams import fees, price_map
from routing.upstreams.base import Deployment, Timeouts, thinking_limit_s


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    litellm_provider: str
    enabled: bool
    key_references: tuple[str, ...]  # the provider's own first; routing.secrets.rotation chooses one for a call
    retries: int
    breaker_failures: int
    breaker_failure_rate: float
    breaker_cooldown_s: float


@dataclass(frozen=True, slots=True, eq=False)  # a step is itself, whatever is equal to it
class Step:
    """A deployment that a request may call, and the alias that the deployment answers for."""

    alias: str
    output_cap_tokens: int | None  # None: the model's own maximum
    provider: Provider
    deployment: Deployment
    weight: int | None = None  # its share among the alias's weighted deployments; None: tried after them, in order
    is_of_wildcard: bool = False  # the client has named the model, not the operator


@dataclass(frozen=True)
class Alias:
    name: str
    enabled: bool
    output_cap_tokens: int | None  # None: the model's own maximum
    rescues_streams: bool  # whether the next step continues a stream that breaks off
    own: tuple[Step, ...]  # the alias's own deployments, in order
    chains: Mapping[str, tuple[str, ...]]  # ChainKind → names of aliases
    wildcard: str = ""  # the wildcard that answers to this name; empty: the name is an alias's own
    created_at: datetime | None = None  # None: it is older than our knowledge of that


@dataclass(frozen=True)
class Catalog:
    version: int
    aliases: Mapping[str, Alias]  # in their order
    keys: Mapping[str, Key]
    budgets: tuple[BudgetRule, ...]
    prices: Mapping[tuple[str, str], tuple[tuple[datetime, PriceList], ...]]  # newest first

    @cached_property
    def enabled_aliases(self) -> tuple[str, ...]:
        return tuple(alias.name for alias in self.aliases.values() if alias.enabled)

    def alias(self, name: str) -> Alias | None:
        """The alias of that name; else what the longest wildcard that answers to it makes of it."""
        found = self.aliases.get(name)
        if found is not None:
            return None if wildcards.is_wildcard(name) else found
        if not self._wildcards or len(name) > ALIAS_CHARACTERS or not name.isprintable():
            return None
        return next(self._made_from_wildcards(name), None)

    def models(self, may_use: Callable[[str, str], bool]) -> list[str]:
        """The names that a client may send: the aliases, and in the place of a wildcard the models that the price map
        has of its provider. ``may_use`` is asked with a name and the wildcard that it comes from."""
        names: dict[str, None] = {}
        for alias in self.aliases.values():
            if not alias.enabled:
                continue
            if not wildcards.is_wildcard(alias.name):
                names |= {alias.name: None} if may_use(alias.name, "") else {}
                continue
            for name in self._listed[alias.name]:
                found = self.alias(name)
                if found is not None and found.wildcard == alias.name and may_use(name, alias.name):
                    names[name] = None
        return list(names)

    def aliases_at(self, provider: str, model: str | None = None) -> tuple[str, ...]:
        """The enabled aliases with a deployment of their own at the provider, of that model or of any."""
        return tuple(
            alias.name
            for alias in self.aliases.values()
            if alias.enabled
            and any(
                step.provider.name == provider
                and step.provider.enabled
                and (model in (None, step.deployment.model) or wildcards.is_of(step.deployment.model, model or ""))
                for step in alias.own
            )
        )

    def alias_for(self, key: Key, name: str) -> Alias:
        """The alias that a client with this key asks for. Raises ModelNotFound or ModelNotAllowed.

        A key with a list of aliases hears the same of each name that is not on it, whether there is such an alias."""
        found = self.alias(name)
        if not key.may_use(name, "" if found is None else found.wildcard):
            raise ModelNotAllowed(key.name, name, self.aliases_of(key))
        if found is None or not found.enabled:
            raise ModelNotFound(name, self.aliases_of(key))
        return found

    def aliases_of(self, key: Key) -> list[str]:
        """The enabled aliases that the key may use, wildcards included."""
        return [name for name in self.enabled_aliases if key.may_use(name)]

    def chain(
        self,
        name: str,
        kind: str = ChainKind.GENERAL,
        chance: Callable[[str], float] | None = None,
        may_fall_back_to: Callable[[str], bool] = lambda _: True,
    ) -> tuple[Step, ...]:
        """The steps of a request for an alias: its own deployments, then those of its fallbacks, in order.

        Chains of the other kinds have only the fallbacks' deployments. Disabled aliases and providers are left out.
        Among the deployments of one alias, the weighted ones come first, in an order that is drawn for this request:
        ``chance`` gives each, by its name, a number from 0 to below 1. None: at random.
        """
        alias = self.alias(name)
        if alias is None:
            return ()
        steps = _drawn(alias.own, chance) if kind == ChainKind.GENERAL else []
        for target in filter(may_fall_back_to, alias.chains.get(kind, ())):
            fallback = self.alias(target)
            steps.extend(_drawn(fallback.own, chance) if fallback is not None and fallback.enabled else ())
        return tuple(step for step in steps if step.provider.enabled)

    def answering(self, alias: Alias, may_fall_back_to: Callable[[str], bool]) -> list[Alias]:
        """The aliases whose deployments a request for this one may call: itself, and those of all its chains."""
        targets = {target for chain in alias.chains.values() for target in chain if may_fall_back_to(target)}
        fallbacks = (found for found in map(self.alias, sorted(targets)) if found is not None and found.enabled)
        return [alias, *fallbacks]

    def price(self, provider: str, model: str, at: datetime) -> PriceList | None:
        """What the provider charges for the model at that time; None when the model has no price.

        A model that nobody has priced, and that a wildcard may ask for, has the wildcard's price or else litellm's."""
        found = self._written_price(provider, model, at)
        if found is None:
            for litellm_provider, base_url, pattern in self._open_to.get(provider, ()):
                if wildcards.stands_for(pattern, model) is not None:
                    price = self._written_price(provider, pattern, at) or price_map.chat_price_of(
                        litellm_provider, model
                    )
                    if price is not None and fees.is_documented(litellm_provider, base_url):
                        return fees.with_documented_fees(price, model)
                    return price
        return found

    def _written_price(self, provider: str, model: str, at: datetime) -> PriceList | None:
        for effective_from, price in self.prices.get((provider, model), ()):
            if effective_from <= at:
                return price
        return None

    # --- wildcards ------------------------------------------------------------------------------------------------

    @cached_property
    def _wildcards(self) -> tuple[Alias, ...]:
        """The enabled ones, the longest first."""
        found = (alias for alias in self.aliases.values() if alias.enabled and wildcards.is_wildcard(alias.name))
        return tuple(sorted(found, key=lambda alias: wildcards.specificity(alias.name), reverse=True))

    @cached_property
    def _open_to(self) -> Mapping[str, tuple[tuple[str, str, str], ...]]:
        """By provider: its wire format and address, and the patterns of the models that wildcards may ask it for."""
        found: dict[str, dict[tuple[str, str, str], None]] = {}
        for alias in self._wildcards:
            for step in alias.own:
                if wildcards.is_wildcard(step.deployment.model):
                    deployment = step.deployment
                    place = (step.provider.litellm_provider, deployment.base_url or "", deployment.model)
                    found.setdefault(step.provider.name, {})[place] = None
        return {provider: tuple(places) for provider, places in found.items()}

    @cached_property
    def _listed(self) -> Mapping[str, tuple[str, ...]]:
        """By wildcard: the names that stand for models of the price map."""
        return {alias.name: tuple(dict.fromkeys(_names_of_models(alias))) for alias in self._wildcards}

    def _made_from_wildcards(self, name: str) -> Iterator[Alias]:
        now = datetime.now(UTC)
        for alias in self._wildcards:
            parts = wildcards.stands_for(alias.name, name)
            if parts is None:
                continue
            steps = (
                replace(
                    step,
                    alias=name,
                    deployment=replace(step.deployment, model=wildcards.filled(step.deployment.model, parts)),
                    is_of_wildcard=wildcards.is_wildcard(step.deployment.model),
                )
                for step in alias.own
            )
            own = tuple(step for step in steps if self.price(step.provider.name, step.deployment.model, now))
            if own:
                yield replace(alias, name=name, own=own, wildcard=alias.name)


def _names_of_models(wildcard: Alias) -> Iterator[str]:
    for step in wildcard.own:
        pattern = step.deployment.model
        if wildcards.is_wildcard(pattern):
            for model in price_map.chat_models_of(step.provider.litellm_provider):
                parts = wildcards.stands_for(pattern, model)
                if parts is not None:
                    yield wildcards.filled(wildcard.name, parts)


def _drawn(own: tuple[Step, ...], chance: Callable[[str], float] | None) -> list[Step]:
    """An alias's deployments in the order of one request.

    Each weighted deployment comes first in its share of the requests. The other weighted deployments follow by the same
    rule (Efraimidis and Spirakis, "Weighted random sampling", 2006). Those without a weight come last.
    """
    if len(own) == 1:
        return list(own)
    weighted = [step for step in own if step.weight is not None and step.provider.enabled]
    if len(weighted) > 1:
        # An exponential time with the weight as its rate: each deployment has the shortest time in its weight's share.
        weighted.sort(key=lambda step: -math.log(1.0 - _chance_of(step, chance)) / (step.weight or 1))
    return [*weighted, *(step for step in own if step.weight is None)]


def _chance_of(step: Step, chance: Callable[[str], float] | None) -> float:
    if chance is None:
        return random.random()  # noqa: S311  shares out requests, and keeps no secret
    return chance(f"{step.provider.name}\0{step.deployment.model}")


_lock = threading.Lock()
_current: Catalog | None = None
_checked_at = 0.0  # monotonic: when the last query for the version began


def current() -> Catalog:
    """The process's snapshot. It may be outdated, so the ledger proves it when it admits a request."""
    return _current or fresh()


def fresh() -> Catalog:
    """A snapshot as new as the database. Takes one query by primary key when nothing has changed.

    Raises django.db.Error when Postgres cannot be reached.
    """
    global _current, _checked_at  # noqa: PLW0603  the process's one snapshot
    asked_at = time.monotonic()
    with _lock:  # one caller queries at a time
        # When many callers ask at once, at most two query: a query that began after a caller asked answers that caller
        # too. The other callers need no connection to Postgres.
        if _current is None or _checked_at < asked_at:
            looking_at = time.monotonic()
            if _current is None or _current.version != _version():
                _current = _load()
            _checked_at = looking_at
        return _current


def _version() -> int:
    return ConfigurationVersion.objects.values_list("version", flat=True).get()


def _load() -> Catalog:
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:  # repeatable read, so that the version and the tables are of one moment
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        version = _version()
        return Catalog(
            version=version,
            aliases=_aliases(),
            keys=load_keys(),
            budgets=load_rules(),
            prices=_prices(),
        )


def _prices() -> Mapping[tuple[str, str], tuple[tuple[datetime, PriceList], ...]]:
    """With the documented fees, but for wildcards: :meth:`Catalog.price` adds those of the model that is asked for."""
    documented = {
        row.name for row in ProviderRow.objects.all() if fees.is_documented(row.litellm_provider, row.base_url)
    }
    return {
        (provider, model): tuple((since, fees.with_documented_fees(price, model)) for since, price in dated)
        if provider in documented and not wildcards.is_wildcard(model)
        else dated
        for (provider, model), dated in Price.objects.dated().items()
    }


def _aliases() -> dict[str, Alias]:
    """All aliases. Rows are put together here: Django's own way makes a query object for each row, which takes seconds
    for thousands of aliases, and requests wait for it."""
    further_keys: dict[int, list[str]] = {}
    for provider_id, reference in (
        ProviderKey.objects.filter(enabled=True).order_by("pk").values_list("provider_id", "key_reference")
    ):
        further_keys.setdefault(provider_id, []).append(reference)
    providers = {row.pk: (row, _provider(row, further_keys.get(row.pk, ()))) for row in ProviderRow.objects.all()}
    further: dict[int, list[tuple[int, str, int | None]]] = {}
    for row in FurtherDeployment.objects.order_by("position"):
        further.setdefault(row.alias_id, []).append((row.provider_id, row.upstream_model, row.weight))
    chains: dict[int, dict[str, list[str]]] = {}
    for alias_id, kind, target in Fallback.objects.order_by("position").values_list("alias_id", "kind", "target__name"):
        chains.setdefault(alias_id, {}).setdefault(kind, []).append(target)
    return {
        alias.name: Alias(
            name=alias.name,
            enabled=alias.enabled,
            output_cap_tokens=alias.output_cap_tokens,
            rescues_streams=alias.rescues_streams,
            own=tuple(
                _step(alias, *providers[provider_id], model, weight)
                for provider_id, model, weight in (
                    (alias.provider_id, alias.upstream_model, alias.weight),
                    *further.get(alias.pk, ()),
                )
            ),
            chains={kind: tuple(names) for kind, names in chains.get(alias.pk, {}).items()},
            created_at=alias.created_at,
        )
        for alias in ModelAlias.objects.all()
    }


def _provider(row: ProviderRow, further_keys: Iterable[str]) -> Provider:
    return Provider(
        name=row.name,
        litellm_provider=row.litellm_provider,
        enabled=row.enabled,
        key_references=tuple(dict.fromkeys((row.key_reference, *further_keys))),
        retries=row.retries,
        breaker_failures=row.breaker_failures,
        breaker_failure_rate=row.breaker_failure_rate,
        breaker_cooldown_s=row.breaker_cooldown_s,
    )


def _step(alias: ModelAlias, row: ProviderRow, provider: Provider, model: str, weight: int | None) -> Step:
    return Step(
        alias=alias.name,
        weight=weight,
        output_cap_tokens=alias.output_cap_tokens,
        provider=provider,
        deployment=Deployment(
            provider=row.name,
            litellm_provider=row.litellm_provider,
            model=model,
            base_url=row.base_url or None,
            api_version=row.api_version or None,
            parameters=tuple(sorted(row.parameters.items())),
            timeouts=Timeouts(
                connect_s=row.connect_timeout_s,
                first_token_s=alias.first_token_timeout_s or row.first_token_timeout_s,
                idle_s=row.idle_timeout_s,
                total_s=row.total_timeout_s,
                thinking_s=alias.first_token_timeout_s or thinking_limit_s(row.first_token_timeout_s),
            ),
        ),
    )
