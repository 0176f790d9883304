"""Reads the text of a ``config.yaml`` into plain values, without the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TypeVar

from django.core.exceptions import ValidationError

from accounting import wildcards
from accounting.models import validate_tag_names
from routing.litellm_config import document
from routing.litellm_config.entries import Defaults, EntryReader, ModelEntry, NotServed
from routing.litellm_config.key_references import KeyReferences
from routing.litellm_config.remarks import Remark
from routing.litellm_config.settings import BudgetEntry, Settings, budget, count, seconds
from routing.litellm_config.values import Found, InvalidConfig
from routing.models import ChainKind

T = TypeVar("T")

_CHAINS = {
    "fallbacks": ChainKind.GENERAL,
    "context_window_fallbacks": ChainKind.CONTEXT_WINDOW,
    "content_policy_fallbacks": ChainKind.CONTENT_POLICY,
}
_SHARED = frozenset(
    {*_CHAINS, "default_fallbacks", "num_retries", "timeout", "stream_timeout", "request_timeout", "allowed_fails",
     "cooldown_time"}
)  # fmt: skip
_SECTIONS = frozenset(
    {"model_list", "litellm_settings", "router_settings", "general_settings", "environment_variables",
     "credential_list"}
)  # fmt: skip
_MAIN_SECTIONS = ("model_list", "litellm_settings", "router_settings", "general_settings")
#: What LiteLLM says once for all keys, and the gateway of each key.
KEY_SETTINGS = ("enforced_params", "enforce_fallback_model_access")
_NOT_BY_TAGS = "deployments are not chosen by tags here"
_NOT_TAKEN = "the model itself is not taken over"


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """``place`` and ``line`` are where the file says it."""

    targets: tuple[str, ...]
    place: str
    line: str


@dataclass(frozen=True)
class Config:
    models: tuple[ModelEntry, ...]
    chains: Mapping[tuple[str, ChainKind], ChainEntry]  # by alias and kind
    retries: int | None
    breaker_failures: int | None
    breaker_cooldown_s: float | None
    budget: BudgetEntry | None
    provider_budgets: tuple[BudgetEntry, ...]  # by litellm's name of the provider
    tag_budgets: tuple[BudgetEntry, ...]  # by the value of the tag `tags`
    master_key: str | None
    required_tags: tuple[str, ...] | None  # of requests with the master key, as the next
    binds_fallbacks: bool | None
    left_out: tuple[Remark, ...]  # what is wrong, or cannot be what the file says
    unsupported: tuple[Remark, ...]  # keys that have no counterpart here, and entries that are not for chat
    notes: tuple[Remark, ...]  # what a person should know about the entries that were taken over


def read(text: str, environment: Mapping[str, str], path: Path | None = None) -> Config:
    """``environment`` resolves ``os.environ/NAME``; providers' keys stay references. ``path`` is where the file lies,
    beside those that it includes. Raises InvalidConfig when the file cannot be read at all."""
    left_out: list[Remark] = []
    root = document.read(text, environment, path, left_out)
    return _Reader(root, environment, left_out).read()


@dataclass
class _Reader:
    root: Found
    process_environment: Mapping[str, str]
    left_out: list[Remark]
    unsupported: list[Remark] = field(default_factory=list)
    notes: list[Remark] = field(default_factory=list)
    #: Aliases without any entry that was taken over.
    skipped: set[str] = field(default_factory=set)

    def read(self) -> Config:
        self.root = replace(self.root, environment=self._environment())
        sections = self.root.fields()
        if sections and not sections.keys() & _SECTIONS:
            raise InvalidConfig("the file", f"has none of LiteLLM's sections at its top ({', '.join(_MAIN_SECTIONS)})")
        self.unsupported += [Remark(name, value.line) for name, value in sections.items() if name not in _SECTIONS]
        litellm = self._section("litellm_settings", _SHARED | {"max_budget", "budget_duration", "tag_budget_config"})
        router = self._section(
            "router_settings", _SHARED | {"model_group_alias", "provider_budget_config", "enable_tag_filtering"}
        )
        general = self._section("general_settings", frozenset({"master_key", *KEY_SETTINGS}))
        settings = litellm | router  # when both sections have a setting, the router's wins
        total_s = self._seconds(settings, "timeout") or self._seconds(settings, "request_timeout")
        models = self._models(Defaults(total_s, self._seconds(settings, "stream_timeout")))
        filtering = router.get("enable_tag_filtering")
        is_filtering = self._or_leave_out(partial(_switch, filtering))
        if filtering is not None and is_filtering:
            self.unsupported.append(Remark(filtering.path, filtering.line, _NOT_BY_TAGS))
            models = list(self._of_requests_without_tags(models))
        models = self._named_otherwise(models, router.get("model_group_alias"))
        self.skipped -= {model.alias for model in models}
        chains = self._chains(settings, models)
        models, chains = self._by_order(self._made_from_wildcards(models, chains), chains)
        allowed = self._count(settings, "allowed_fails", most=1000)
        return Config(
            models=tuple(models),
            chains=chains,
            retries=self._count(settings, "num_retries", most=10),
            breaker_failures=None if allowed is None else allowed + 1,
            breaker_cooldown_s=self._seconds(settings, "cooldown_time"),
            budget=self._or_leave_out(lambda: self._budget(litellm)),
            provider_budgets=tuple(self._named_budgets(router.get("provider_budget_config"))),
            tag_budgets=tuple(self._named_budgets(litellm.get("tag_budget_config"))),
            master_key=self._or_leave_out(lambda: self._master_key(general.get("master_key"))),
            required_tags=self._or_leave_out(lambda: self._required_tags(general.get("enforced_params"))),
            binds_fallbacks=self._or_leave_out(lambda: _switch(general.get("enforce_fallback_model_access"))),
            left_out=tuple(self.left_out),
            unsupported=tuple(self.unsupported),
            notes=tuple(self.notes),
        )

    def _or_leave_out(self, read: Callable[[], T], name: str = "") -> T | None:
        """What `read` gives; None, and a remark, when the file is wrong there."""
        try:
            return read()
        except InvalidConfig as error:
            self.left_out.append(Remark.of(error, name))
            return None

    def _environment(self) -> Mapping[str, str]:
        """The process's, and the file's own variables, which win as in LiteLLM. They are not stored: what the gateway
        needs at each request must be in its own environment."""
        section = self.root.fields().get("environment_variables")
        if section is None:
            return self.process_environment
        own: dict[str, str] = {}
        for name, value in (self._or_leave_out(section.fields) or {}).items():
            if value.raw in (None, ""):
                continue
            found = self._or_leave_out(partial(_plain, value))
            if found is None:
                continue
            own[name] = found
            if self.process_environment.get(name) != found:
                why = "is used to read this file and not stored: set it in the gateway's own environment"
                self.notes.append(Remark(value.path, value.line, why))
        return {**self.process_environment, **own}

    def _section(self, name: str, known: frozenset[str]) -> dict[str, Found]:
        section = self.root.fields().get(name)
        fields = {} if section is None else self._or_leave_out(section.fields) or {}
        self.unsupported += [Remark(value.path, value.line) for key, value in fields.items() if key not in known]
        return {key: value for key, value in fields.items() if key in known and not value.is_empty}

    def _items(self, value: Found | None) -> list[Found]:
        return [] if value is None else self._or_leave_out(lambda: list(value.items())) or []

    # --- model_list -------------------------------------------------------------------------------------------

    def _models(self, defaults: Defaults) -> list[ModelEntry]:
        keys = KeyReferences(self.process_environment, self.notes)
        reader = EntryReader(defaults, keys, self._credentials(), self.left_out, self.unsupported, self.notes)
        entries: list[ModelEntry] = []
        for item in self._items(self.root.fields().get("model_list")):
            alias = ""
            try:
                alias = reader.alias(item)
                entries += reader.entries(item, alias)
            except NotServed as why:
                self.unsupported.append(Remark(item.path, item.line, str(why), alias))
            except InvalidConfig as error:
                self.left_out.append(Remark(error.place, error.line or item.line, error.problem, alias))
            else:
                continue
            self.skipped.add(alias)
        return entries

    def _of_requests_without_tags(self, models: list[ModelEntry]) -> Iterator[ModelEntry]:
        """``enable_tag_filtering``: requests are not sent by their tags here, so an alias keeps the deployments that
        LiteLLM asks for a request without tags: those tagged ``default``, or all when nobody is."""
        with_default = {model.alias for model in models if "default" in model.tags}
        for model in models:
            if model.alias not in with_default or "default" in model.tags:
                yield model
                continue
            tags = ", ".join(model.tags)
            why = f"only for requests with the tags {tags}" if tags else "not tagged default, as others of its name are"
            self.left_out.append(Remark(model.place, model.line, f"{why}: {_NOT_BY_TAGS}", model.alias))

    def _credentials(self) -> dict[str, dict[str, Found]]:
        """``credential_list``: values of ``litellm_params`` that several entries share under a name."""
        found: dict[str, dict[str, Found]] = {}
        for item in self._items(self.root.fields().get("credential_list")):
            fields = self._or_leave_out(item.fields) or {}
            name = fields.get("credential_name")
            values = fields.get("credential_values")
            text = None if name is None else self._or_leave_out(name.text)
            if text is not None and values is not None:
                found[text] = self._or_leave_out(values.fields) or {}
        return found

    def _named_otherwise(self, models: list[ModelEntry], value: Found | None) -> list[ModelEntry]:
        """``model_group_alias``: a further name for an alias of the file. It wins over an entry of that name."""
        fields = {} if value is None else self._or_leave_out(value.fields) or {}
        for name, item in fields.items():
            target = self._or_leave_out(partial(self._meant, item), name)
            if target is None:
                continue
            meant = [model for model in models if model.alias == target]
            meant = meant or _from_wildcards(models, target)
            if not meant:
                why = _NOT_TAKEN if target in self.skipped else f"{target!r} is in no model_list entry"
                self.left_out.append(Remark(item.path, item.line, why))
                self.skipped.add(name)
                continue
            models = [model for model in models if model.alias != name]
            models += [replace(model, alias=name, stands_for=target, line=item.line) for model in meant]
        return models

    def _meant(self, item: Found) -> str:
        if not isinstance(item.value, dict):
            return item.text()
        fields = item.fields()
        if "model" not in fields:
            raise item.refused("has no model")
        if fields.get("hidden") and fields["hidden"].value is True:
            self.notes.append(Remark(item.path, item.line, "hidden at LiteLLM, listed here as every alias"))
        return fields["model"].text()

    def _made_from_wildcards(
        self, models: list[ModelEntry], chains: Mapping[tuple[str, ChainKind], ChainEntry]
    ) -> list[ModelEntry]:
        """A chain is between aliases: a model that it names and that only a wildcard answers becomes one."""
        named = dict.fromkeys(name for (owner, _), chain in chains.items() for name in (owner, *chain.targets))
        aliases = {model.alias for model in models}
        for name in named:
            if name not in aliases and not wildcards.is_wildcard(name):
                models = [*models, *_from_wildcards(models, name)]
        return models

    def _by_order(
        self, models: list[ModelEntry], chains: dict[tuple[str, ChainKind], ChainEntry]
    ) -> tuple[list[ModelEntry], dict[tuple[str, ChainKind], ChainEntry]]:
        """``order``: who is asked only after the others failed is an alias of its own, first in the chain, so that
        weights hold among those of one order."""
        orders: dict[str, dict[Decimal, None]] = {}
        for model in models:
            orders.setdefault(model.alias, {})[model.order] = None
        placed: list[ModelEntry] = []
        chains = dict(chains)
        for alias, of_alias in orders.items():
            first, *later = sorted(of_alias)
            names = {first: alias, **{order: _spare_name(alias, order) for order in later}}
            placed += [replace(m, alias=names[m.order]) for m in models if m.alias == alias] if later else []
            if later:
                own = chains.get((alias, ChainKind.GENERAL), ChainEntry((), "model_list", ""))
                spares = tuple(names[order] for order in later)
                chains[alias, ChainKind.GENERAL] = replace(own, targets=(*spares, *own.targets))
        split = {alias for alias, of_alias in orders.items() if len(of_alias) > 1}
        return [*(model for model in models if model.alias not in split), *placed], chains

    # --- settings ---------------------------------------------------------------------------------------------

    def _chains(
        self, settings: Mapping[str, Found], models: list[ModelEntry]
    ) -> dict[tuple[str, ChainKind], ChainEntry]:
        chains: dict[tuple[str, ChainKind], ChainEntry] = {}
        defaults: dict[ChainKind, ChainEntry] = {}
        for kind, listed in self._listed_chains(settings):
            alias = self._or_leave_out(listed.name)
            chain = self._chain(listed)
            if alias is None or chain is None:
                continue
            if alias == wildcards.ANY:
                defaults[kind] = chain
            elif alias in self.skipped:
                self.unsupported.append(Remark(listed.path, listed.line, _NOT_TAKEN))
            else:
                chains.setdefault((alias, kind), chain)  # of several, the first counts, as in LiteLLM
        if "default_fallbacks" in settings:
            chain = self._chain(settings["default_fallbacks"])
            if chain is not None:
                defaults[ChainKind.GENERAL] = chain
        _inherit(chains, defaults, {model.alias: model.stands_for for model in models})
        return chains

    def _listed_chains(self, settings: Mapping[str, Found]) -> Iterator[tuple[ChainKind, Found]]:
        for name, kind in _CHAINS.items():
            section = settings.get(name)
            is_mapping = section is not None and isinstance(section.raw, dict)  # one mapping in the place of a list
            for item in [section] if section is not None and is_mapping else self._items(section):
                for listed in (self._or_leave_out(item.fields) or {}).values():
                    yield kind, listed

    def _chain(self, value: Found) -> ChainEntry | None:
        """None when all its targets are left out."""
        targets, said = [], self._items(value)
        for item in said:
            target = self._or_leave_out(item.text)
            if target in self.skipped:
                self.unsupported.append(Remark(value.path, item.line, f"{target} ({_NOT_TAKEN})"))
            elif target is not None:
                targets.append(target)
        is_said = not said and isinstance(value.value, list)  # an empty list takes the chain away
        return ChainEntry(tuple(dict.fromkeys(targets)), value.path, value.line) if targets or is_said else None

    def _budget(self, settings: Mapping[str, Found]) -> BudgetEntry | None:
        limit, duration = settings.get("max_budget"), settings.get("budget_duration")
        if limit is None:
            if duration is not None:
                self.unsupported.append(Remark(duration.path, duration.line, "without max_budget"))
            return None
        found = budget(limit, duration)
        if found is None:
            why = "0 means no budget to LiteLLM: no budget was changed"
            self.notes.append(Remark(limit.path, limit.line, why))
        return found

    def _named_budgets(self, value: Found | None) -> Iterator[BudgetEntry]:
        for item in ({} if value is None else self._or_leave_out(value.fields) or {}).values():
            fields = self._or_leave_out(item.fields) or {}
            limit = fields.get("budget_limit") or fields.get("max_budget")
            duration = fields.get("time_period") or fields.get("budget_duration")
            if limit is None:
                self.left_out.append(Remark(item.path, item.line, "has no budget_limit"))
                continue
            found = self._or_leave_out(partial(budget, limit, duration))
            scope_value = self._or_leave_out(item.name)
            if found is not None and scope_value is not None:
                yield replace(found, scope_value=scope_value)

    def _master_key(self, value: Found | None) -> str | None:
        if value is None:
            return None
        if value.variable is not None and not value.environment.get(value.variable):
            why = f"{value.variable} is not set in this environment; no key was made"
            self.notes.append(Remark(value.path, value.line, why))
            return None
        return value.text()

    def _required_tags(self, value: Found | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        tags: list[str] = []
        for item in value.items():
            section, _, tag = item.text().partition(".")
            if section != "metadata" or not tag:
                self.unsupported.append(Remark(item.path, item.line, "only tags (metadata.NAME) can be required here"))
                continue
            try:
                validate_tag_names([*tags, tag])
            except ValidationError as error:
                raise item.refused(" ".join(error.messages)) from None
            tags.append(tag)
        return tuple(tags)

    def _seconds(self, settings: Settings, name: str) -> float | None:
        return self._or_leave_out(lambda: seconds(settings.get(name), self.notes))

    def _count(self, settings: Settings, name: str, *, most: int) -> int | None:
        return self._or_leave_out(lambda: count(settings.get(name), self.notes, most=most))


def _switch(value: Found | None) -> bool | None:
    if value is None:
        return None
    found = value.value
    if not isinstance(found, bool):
        raise value.refused("must be true or false")
    return found


def _inherit(
    chains: dict[tuple[str, ChainKind], ChainEntry],
    defaults: Mapping[ChainKind, ChainEntry],
    aliases: Mapping[str, str],
) -> None:
    """An alias without a chain has that of the alias that it stands for, or else the default one."""
    for alias, stands_for in aliases.items():
        for kind in ChainKind:
            if stands_for and (stands_for, kind) in chains:
                chains.setdefault((alias, kind), chains[stands_for, kind])
    for kind, default in defaults.items():
        for alias in aliases:
            if targets := tuple(target for target in default.targets if target != alias):
                chains.setdefault((alias, kind), replace(default, targets=targets))


def _plain(value: Found) -> str:
    return str(value.value)


def _from_wildcards(models: list[ModelEntry], name: str) -> list[ModelEntry]:
    """The entries of the longest wildcard that answers to the name, as entries of that name."""
    patterns = sorted(
        {model.alias for model in models if wildcards.is_wildcard(model.alias)},
        key=wildcards.specificity,
        reverse=True,
    )
    for pattern in patterns:
        parts = wildcards.stands_for(pattern, name)
        if parts is not None:
            return [
                replace(model, alias=name, model=wildcards.filled(model.model, parts), is_from_wildcard=True)
                for model in models
                if model.alias == pattern
            ]
    return []


def _spare_name(alias: str, order: Decimal) -> str:
    return f"{alias} (order {order:f})" if order.is_finite() else f"{alias} (without order)"
