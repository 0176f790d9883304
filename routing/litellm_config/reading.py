"""Reads the text of a ``config.yaml`` into plain values, without the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from routing.litellm_config import values
from routing.litellm_config.key_references import KeyReferences
from routing.litellm_config.values import InvalidConfig
from routing.models import MAX_WEIGHT, NAME, ChainKind
from routing.upstreams import price_map
from routing.upstreams.providers import is_known_provider, needs_base_url

#: The provider of a model name without a prefix. litellm's price map knows the provider of other names.
_BARE_NAMES = (("gpt-", "openai"), ("chatgpt-", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"),
               ("claude-", "anthropic"), ("gemini-", "gemini"))  # fmt: skip
_CHAINS = {
    "fallbacks": ChainKind.GENERAL,
    "context_window_fallbacks": ChainKind.CONTEXT_WINDOW,
    "content_policy_fallbacks": ChainKind.CONTENT_POLICY,
}
_SETTINGS = frozenset(
    {*_CHAINS, "default_fallbacks", "num_retries", "timeout", "stream_timeout", "request_timeout", "allowed_fails",
     "cooldown_time"}
)  # fmt: skip
_PARAMS = frozenset(
    {"model", "custom_llm_provider", "api_key", "api_base", "base_url", "api_version", "timeout", "stream_timeout",
     "max_tokens", "weight"}
)  # fmt: skip
_INFO = frozenset({"mode", "base_model"})
_CHAT_MODES = frozenset({"", "chat", "responses"})
#: Beginnings of names of models that do not chat and that the price map does not list without a prefix.
_NOT_CHAT = ("dall-e", "gpt-image-", "whisper", "tts-", "text-embedding-", "text-moderation-")
PERIODS = {"1h": "hour", "1d": "day", "24h": "day", "7d": "week", "30d": "month", "1mo": "month"}
DEAREST_USD = 99_000_000  # for a million tokens, or for one image: the most that fits into a price
ANY_MODEL = "*"  # in a list of fallbacks: every model that has no fallbacks by name


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One element of ``model_list``."""

    alias: str
    litellm_provider: str
    model: str
    base_url: str
    api_version: str
    key_reference: str
    total_timeout_s: float | None
    first_token_timeout_s: float | None
    output_cap_tokens: int | None
    costs: Mapping[str, Any]  # LiteLLM's names; exact USD a token, an image, …
    weight: Decimal | None  # as in the file: LiteLLM also takes fractions
    base_model: str  # the model whose price applies, which an Azure deployment's name does not tell


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    limit_usd: Decimal
    period: str


@dataclass(frozen=True)
class Config:
    models: tuple[ModelEntry, ...]
    chains: Mapping[tuple[str, ChainKind], tuple[str, ...]]  # (alias, kind) → targets
    retries: int | None
    breaker_failures: int | None
    breaker_cooldown_s: float | None
    budget: BudgetEntry | None
    master_key: str | None
    unsupported: tuple[str, ...]  # dotted names of keys, never values
    notes: tuple[str, ...]  # what a person should know about the entries that were taken over


def read(text: str, environment: Mapping[str, str]) -> Config:
    """``environment`` resolves ``os.environ/NAME``; providers' keys stay references. Raises InvalidConfig."""
    return _Reader(values.document(text), environment).read()


class _Skipped(Exception):
    """The gateway cannot serve this entry, and the text says why. The rest of the file is taken over."""


@dataclass
class _Reader:
    document: dict[str, Any]
    environment: Mapping[str, str]
    unsupported: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Aliases without any entry that was taken over.
    skipped: set[str] = field(default_factory=set)
    keys: KeyReferences = field(init=False)

    def __post_init__(self) -> None:
        self.keys = KeyReferences(self.environment, self.notes)

    def read(self) -> Config:
        known = {"model_list", "litellm_settings", "router_settings", "general_settings"}
        self.unsupported += [name for name in self.document if name not in known]
        litellm = self._section("litellm_settings", _SETTINGS | {"max_budget", "budget_duration"})
        router = self._section("router_settings", _SETTINGS)
        general = self._section("general_settings", {"master_key"})
        # When both sections have a setting, the router's wins.
        settings = {**{n: ("litellm_settings", v) for n, v in litellm.items()},
                    **{n: ("router_settings", v) for n, v in router.items()}}  # fmt: skip
        total_s = self._setting_seconds(settings, "timeout") or self._setting_seconds(settings, "request_timeout")
        first_token_s = self._setting_seconds(settings, "stream_timeout")
        models = tuple(self._models(total_s, first_token_s))
        self.skipped -= {model.alias for model in models}
        allowed = self._count(settings, "allowed_fails", most=1000)
        return Config(
            models=models,
            chains=self._chains(settings, models),
            retries=self._count(settings, "num_retries", most=10),
            breaker_failures=None if allowed is None else allowed + 1,
            breaker_cooldown_s=self._setting_seconds(settings, "cooldown_time"),
            budget=self._budget(litellm),
            master_key=self._master_key(general.get("master_key")),
            unsupported=tuple(self.unsupported),
            notes=tuple(self.notes),
        )

    def _section(self, name: str, known: set[str] | frozenset[str]) -> dict[str, Any]:
        section = values.mapping(values.or_empty(self.document.get(name), {}), name)
        self.unsupported += [f"{name}.{key}" for key in section if key not in known]
        return {key: value for key, value in section.items() if key in known and value is not None}

    # --- model_list -------------------------------------------------------------------------------------------

    def _models(self, total_s: float | None, first_token_s: float | None) -> list[ModelEntry]:
        entries = []
        for index, value in enumerate(
            values.sequence(values.or_empty(self.document.get("model_list"), []), "model_list")
        ):
            where = f"model_list[{index}]"
            item = values.mapping(value, where)
            alias = values.text(item.get("model_name"), f"{where}.model_name")
            try:
                entries.append(self._model(item, alias, where, total_s, first_token_s))
            except _Skipped as skipped:
                self.unsupported.append(f"{where} ({alias}: {skipped})")
                self.skipped.add(alias)
        return entries

    def _model(
        self, item: dict[str, Any], alias: str, where: str, total_s: float | None, first_token_s: float | None
    ) -> ModelEntry:
        place = f"{where}.litellm_params"
        params = values.mapping(item.get("litellm_params"), place)
        info = values.mapping(values.or_empty(item.get("model_info"), {}), f"{where}.model_info")
        model = self._resolved(values.text(params.get("model"), f"{place}.model"), f"{place}.model")
        if "*" in alias or "*" in model:
            raise _Skipped("a wildcard; name each model")
        if model.rpartition("/")[2].startswith(_NOT_CHAT):
            raise _Skipped("not a chat model")
        provider, model = self._provider(params, model, place)
        mode = str(values.or_empty(info.get("mode"), "") or price_map.mode_of(provider, model))
        if mode not in _CHAT_MODES:
            raise _Skipped(f"{mode}, not chat")
        try:
            NAME(alias)
        except ValidationError as error:
            raise InvalidConfig(f"{where}.model_name", f"{alias!r} is not usable. {error.message}") from None
        self.unsupported += [
            f"{where}.{key}" for key in item if key not in ("model_name", "litellm_params", "model_info")
        ]
        self.unsupported += [f"{place}.{key}" for key in params if key not in _PARAMS and not price_map.is_price(key)]
        self.unsupported += [
            f"{where}.model_info.{key}" for key in info if key not in _INFO and not price_map.is_price(key)
        ]
        base_url = self._resolved(params.get("api_base") or params.get("base_url"), f"{place}.api_base")
        if needs_base_url(provider) and not base_url:
            raise InvalidConfig(place, f"the provider {provider} needs an api_base")
        costs = {
            name: self._cost(value, name, f"{place}.{name}")
            for name, value in {**info, **params}.items()
            if price_map.is_price(name) and value is not None
        }
        cap = params.get("max_tokens")
        return ModelEntry(
            alias=alias,
            litellm_provider=provider,
            model=model,
            base_url=base_url,
            api_version=self._resolved(params.get("api_version"), f"{place}.api_version"),
            key_reference=self.keys.reference(params.get("api_key"), provider, base_url, f"{place}.api_key"),
            total_timeout_s=self._seconds(params.get("timeout"), f"{place}.timeout") or total_s,
            first_token_timeout_s=(
                self._seconds(params.get("stream_timeout"), f"{place}.stream_timeout") or first_token_s
            ),
            output_cap_tokens=None if cap is None else values.whole(cap, f"{place}.max_tokens", least=1),
            costs=costs,
            weight=self._weight(params.get("weight"), f"{place}.weight"),
            base_model=str(values.or_empty(info.get("base_model"), "")),
        )

    def _cost(self, value: Any, name: str, where: str) -> Any:
        if name == price_map.SEARCHES:
            sizes = values.mapping(value, where)
            return {size: self._cost(usd, "input_cost_per_query", f"{where}.{size}") for size, usd in sizes.items()}
        usd, most = values.number(value, where), Decimal(DEAREST_USD) / price_map.unit_size(name)
        if usd > most:
            unit = "a token" if "token" in name else "a unit"
            raise InvalidConfig(where, f"must be a price {unit}, at most {most:f} USD")
        return usd

    def _weight(self, value: Any, where: str) -> Decimal | None:
        if value is None:
            return None
        weight = values.number(value, where)
        if weight and not 1 / Decimal(MAX_WEIGHT) <= weight <= MAX_WEIGHT:
            raise InvalidConfig(where, f"must be 0, or 0.000001 to {MAX_WEIGHT}")
        return weight

    def _provider(self, params: dict[str, Any], model: str, where: str) -> tuple[str, str]:
        given = params.get("custom_llm_provider")
        prefix, slash, rest = model.partition("/")
        if given is not None:
            provider = values.text(given, f"{where}.custom_llm_provider")
            model = rest if slash and prefix == provider else model
        elif slash and is_known_provider(prefix):
            provider, model = prefix, rest
        elif slash and price_map.is_litellm_provider(prefix):
            provider = prefix
        else:
            provider = next((name for begin, name in _BARE_NAMES if model.startswith(begin)), "")
            provider = provider or price_map.provider_of(model)
        if not is_known_provider(provider):
            if price_map.is_litellm_provider(provider):
                raise _Skipped(f"the provider {provider} has no chat API here")
            raise InvalidConfig(f"{where}.model", f"no provider is known for {model!r}; write provider/model")
        if not model:
            raise _Skipped(f"no model is named after {provider}/")
        if len(model) > 200:
            raise InvalidConfig(f"{where}.model", "must have at most 200 characters after the provider")
        return provider, model

    # --- settings ---------------------------------------------------------------------------------------------

    def _chains(
        self, settings: Mapping[str, tuple[str, Any]], models: tuple[ModelEntry, ...]
    ) -> dict[tuple[str, ChainKind], tuple[str, ...]]:
        chains: dict[tuple[str, ChainKind], tuple[str, ...]] = {}
        defaults: dict[ChainKind, tuple[str, ...]] = {}
        for name, kind in _CHAINS.items():
            section, value = settings.get(name, ("", []))
            for index, item in enumerate(values.sequence(value, f"{section}.{name}")):
                where = f"{section}.{name}[{index}]"
                for alias, listed in values.mapping(item, where).items():
                    targets = self._targets(listed, f"{where}.{alias}")
                    if alias == ANY_MODEL:
                        defaults[kind] = targets
                    elif alias in self.skipped:
                        self.unsupported.append(f"{where}.{alias} (the model itself is not taken over)")
                    elif not (listed and not targets):  # all its targets were left out, which `_targets` has noted
                        chains.setdefault((alias, kind), targets)  # of several, the first counts, as in LiteLLM
        if "default_fallbacks" in settings:
            section, value = settings["default_fallbacks"]
            defaults[ChainKind.GENERAL] = self._targets(value, f"{section}.default_fallbacks")
        for kind, default in defaults.items():
            for alias in dict.fromkeys(model.alias for model in models):
                if targets := tuple(target for target in default if target != alias):
                    chains.setdefault((alias, kind), targets)
        return chains

    def _targets(self, value: Any, where: str) -> tuple[str, ...]:
        targets = [values.text(target, where) for target in values.sequence(value, where)]
        self.unsupported += [
            f"{where}: {target} (the model itself is not taken over)" for target in targets if target in self.skipped
        ]
        return tuple(target for target in targets if target not in self.skipped)

    def _budget(self, settings: Mapping[str, Any]) -> BudgetEntry | None:
        if "max_budget" not in settings:
            if "budget_duration" in settings:
                self.unsupported.append("litellm_settings.budget_duration (without max_budget)")
            return None
        limit_usd = values.number(settings["max_budget"], "litellm_settings.max_budget")
        duration = settings.get("budget_duration")
        if duration is not None and duration not in PERIODS:
            raise InvalidConfig("litellm_settings.budget_duration", f"{duration!r} is not one of {', '.join(PERIODS)}")
        if not limit_usd:
            self.notes.append("litellm_settings.max_budget 0 means no budget to LiteLLM: no budget was changed")
            return None
        return BudgetEntry(limit_usd, "total" if duration is None else PERIODS[duration])

    def _master_key(self, value: Any) -> str | None:
        if value is None:
            return None
        text = values.text(value, "general_settings.master_key")
        variable = values.variable(text)
        if variable is None:
            return text
        if not self.environment.get(variable):
            self.notes.append(
                f"general_settings.master_key: {variable} is not set in this environment; no key was made"
            )
        return self.environment.get(variable) or None

    def _setting_seconds(self, settings: Mapping[str, tuple[str, Any]], name: str) -> float | None:
        section, value = settings.get(name, ("", None))
        return self._seconds(value, f"{section}.{name}")

    def _seconds(self, value: Any, where: str) -> float | None:
        return None if value is None else float(self._bounded(values.number(value, where), where, "0.1", "3600"))

    def _count(self, settings: Mapping[str, tuple[str, Any]], name: str, *, most: int) -> int | None:
        section, value = settings.get(name, ("", None))
        where = f"{section}.{name}"
        return None if value is None else int(self._bounded(values.whole(value, where, least=0), where, "0", str(most)))

    def _bounded(self, value: Decimal | int, where: str, least: str, most: str) -> Decimal:
        """The nearest number that we take. LiteLLM takes any number (its own request_timeout is 6000 s)."""
        taken = min(max(Decimal(value), Decimal(least)), Decimal(most))
        if taken != value:
            self.notes.append(f"{where} may be {least} to {most} here: taken as {taken}")
        return taken

    def _resolved(self, value: Any, where: str) -> str:
        if value is None:
            return ""
        text = values.text(value, where)
        variable = values.variable(text)
        if variable is None:
            return text
        if not self.environment.get(variable):
            raise InvalidConfig(where, f"the environment variable {variable} is not set")
        return self.environment[variable]
