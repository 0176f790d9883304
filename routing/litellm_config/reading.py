"""From the text of a ``config.yaml`` to plain values. No database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml
from django.core.exceptions import ValidationError

from routing.models import NAME, ChainKind
from routing.upstreams.registry import is_known_provider, needs_base_url

#: Of the providers that a first start knows; all others use LiteLLM's custom, PROVIDER_API_KEY.
USUAL_VARIABLES = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
KEYLESS = frozenset({"ollama", "ollama_chat", "hosted_vllm", "vllm", "lm_studio", "llamafile"})
#: What a model's name says of its provider when it has no prefix.
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
    {
        "model",
        "custom_llm_provider",
        "api_key",
        "api_base",
        "base_url",
        "api_version",
        "timeout",
        "stream_timeout",
        "max_tokens",
    }
)
_COST = re.compile(
    r"(input_cost_per_token|output_cost_per_token|cache_read_input_token_cost|cache_creation_input_token_cost)"
    r"(_above_\d+k_tokens)?|cache_creation_input_token_cost_above_1hr|output_cost_per_reasoning_token"
    r"|(input|output)_cost_per_audio_token"
)
PERIODS = {"1h": "hour", "1d": "day", "24h": "day", "7d": "week", "30d": "month", "1mo": "month"}


class InvalidConfig(Exception):
    """The file is wrong at a named place. Nothing was applied."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


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
    costs: Mapping[str, Any]  # LiteLLM's names, USD a token


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
    notes: tuple[str, ...]  # what a person should know of what was taken over


def read(text: str, environment: Mapping[str, str]) -> Config:
    """Raises InvalidConfig. ``environment`` resolves ``os.environ/NAME``; providers' keys stay references."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidConfig("the file", f"is not YAML: {' '.join(str(error).split())}") from None
    if document is None:
        document = {}
    return _Reader(_mapping(document, "the file"), environment).read()


@dataclass
class _Reader:
    document: dict[str, Any]
    environment: Mapping[str, str]
    unsupported: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def read(self) -> Config:
        known = {"model_list", "litellm_settings", "router_settings", "general_settings"}
        self.unsupported += [str(name) for name in self.document if name not in known]
        litellm = self._section("litellm_settings", _SETTINGS | {"max_budget", "budget_duration"})
        router = self._section("router_settings", _SETTINGS)
        general = self._section("general_settings", {"master_key"})
        # Where both name a setting, the router's wins.
        settings = {**{n: ("litellm_settings", v) for n, v in litellm.items()},
                    **{n: ("router_settings", v) for n, v in router.items()}}  # fmt: skip
        total_s = self._seconds(settings, "timeout") or self._seconds(settings, "request_timeout")
        first_token_s = self._seconds(settings, "stream_timeout")
        models = tuple(self._models(total_s, first_token_s))
        allowed = self._count(settings, "allowed_fails")
        return Config(
            models=models,
            chains=self._chains(settings, models),
            retries=self._count(settings, "num_retries"),
            breaker_failures=None if allowed is None else allowed + 1,
            breaker_cooldown_s=self._seconds(settings, "cooldown_time"),
            budget=self._budget(litellm),
            master_key=self._master_key(general.get("master_key")),
            unsupported=tuple(self.unsupported),
            notes=tuple(self.notes),
        )

    def _section(self, name: str, known: set[str] | frozenset[str]) -> dict[str, Any]:
        section = _mapping(_or(self.document.get(name), {}), name)
        self.unsupported += [f"{name}.{key}" for key in section if key not in known]
        return {key: value for key, value in section.items() if key in known and value is not None}

    # --- model_list -------------------------------------------------------------------------------------------

    def _models(self, total_s: float | None, first_token_s: float | None) -> list[ModelEntry]:
        entries = []
        for index, item in enumerate(_list(_or(self.document.get("model_list"), []), "model_list")):
            entry = self._model(_mapping(item, f"model_list[{index}]"), f"model_list[{index}]", total_s, first_token_s)
            if entry is not None:
                entries.append(entry)
        return entries

    def _model(
        self, item: dict[str, Any], where: str, total_s: float | None, first_token_s: float | None
    ) -> ModelEntry | None:
        alias = _text(item.get("model_name"), f"{where}.model_name")
        params = _mapping(item.get("litellm_params"), f"{where}.litellm_params")
        info = _mapping(_or(item.get("model_info"), {}), f"{where}.model_info")
        model = _text(params.get("model"), f"{where}.litellm_params.model")
        if "*" in alias or "*" in model:
            self.unsupported.append(f"{where} (a wildcard, {alias}: name each model)")
            return None
        try:
            NAME(alias)
        except ValidationError as error:
            raise InvalidConfig(f"{where}.model_name", f"{alias!r} is not usable. {error.message}") from None
        self.unsupported += [
            f"{where}.{key}" for key in item if key not in ("model_name", "litellm_params", "model_info")
        ]
        self.unsupported += [
            f"{where}.litellm_params.{key}" for key in params if key not in _PARAMS and not _COST.fullmatch(key)
        ]
        self.unsupported += [f"{where}.model_info.{key}" for key in info if not _COST.fullmatch(key)]
        provider, model = self._provider(params, model, f"{where}.litellm_params")
        base_url = self._resolved(params.get("api_base") or params.get("base_url"), f"{where}.litellm_params.api_base")
        if needs_base_url(provider) and not base_url:
            raise InvalidConfig(f"{where}.litellm_params", f"the provider {provider} needs an api_base")
        costs = {
            name: value for name, value in {**info, **params}.items() if _COST.fullmatch(name) and value is not None
        }
        for name, value in costs.items():
            _number(value, f"{where}.litellm_params.{name}")
        place = f"{where}.litellm_params"
        cap = params.get("max_tokens")
        return ModelEntry(
            alias=alias,
            litellm_provider=provider,
            model=model,
            base_url=base_url,
            api_version=self._resolved(params.get("api_version"), f"{place}.api_version"),
            key_reference=self._key_reference(params.get("api_key"), provider, f"{place}.api_key"),
            total_timeout_s=_seconds(params.get("timeout"), f"{place}.timeout") or total_s,
            first_token_timeout_s=_seconds(params.get("stream_timeout"), f"{place}.stream_timeout") or first_token_s,
            output_cap_tokens=None if cap is None else _whole(cap, f"{place}.max_tokens", least=1),
            costs=costs,
        )

    def _provider(self, params: dict[str, Any], model: str, where: str) -> tuple[str, str]:
        given = params.get("custom_llm_provider")
        prefix, slash, rest = model.partition("/")
        if given is not None:
            provider = _text(given, f"{where}.custom_llm_provider")
            model = rest if slash and prefix == provider else model
        elif slash and is_known_provider(prefix):
            provider, model = prefix, rest
        else:
            provider = next((name for begin, name in _BARE_NAMES if model.startswith(begin)), "")
        if not is_known_provider(provider):
            raise InvalidConfig(f"{where}.model", f"no provider is known for {model!r}; write provider/model")
        return provider, model

    def _key_reference(self, value: Any, provider: str, where: str) -> str:
        usual = "" if provider in KEYLESS else f"env:{USUAL_VARIABLES.get(provider, f'{provider.upper()}_API_KEY')}"
        if value is None:
            reference = usual
        else:
            text = _text(value, where)
            if text.lower() == "none":
                return ""
            if text.startswith("file:/"):
                return text
            if variable := _variable(text):
                reference = f"env:{variable}"
            else:
                self.notes.append(
                    f"{where} is a key in clear, which is not stored: "
                    + (f"the provider reads {usual} instead" if usual else "the provider is asked without a key")
                )
                reference = usual
        name = reference.removeprefix("env:")
        if name and not self.environment.get(name):
            self.notes.append(f"{name} is not set in this environment; the provider has no key until it is")
        return reference

    # --- settings ---------------------------------------------------------------------------------------------

    def _chains(
        self, settings: Mapping[str, tuple[str, Any]], models: tuple[ModelEntry, ...]
    ) -> dict[tuple[str, ChainKind], tuple[str, ...]]:
        chains: dict[tuple[str, ChainKind], tuple[str, ...]] = {}
        for name, kind in _CHAINS.items():
            section, value = settings.get(name, ("", []))
            for index, item in enumerate(_list(value, f"{section}.{name}")):
                where = f"{section}.{name}[{index}]"
                for alias, targets in _mapping(item, where).items():
                    listed = _list(targets, f"{where}.{alias}")
                    chains[str(alias), kind] = tuple(_text(target, f"{where}.{alias}") for target in listed)
        section, value = settings.get("default_fallbacks", ("", []))
        default = tuple(
            _text(target, f"{section}.default_fallbacks") for target in _list(value, f"{section}.default_fallbacks")
        )
        if default:
            for alias in dict.fromkeys(model.alias for model in models):
                targets = tuple(target for target in default if target != alias)
                chains.setdefault((alias, ChainKind.GENERAL), targets)
        return chains

    def _budget(self, settings: Mapping[str, Any]) -> BudgetEntry | None:
        if "max_budget" not in settings:
            if "budget_duration" in settings:
                self.unsupported.append("litellm_settings.budget_duration (without max_budget)")
            return None
        limit_usd = _number(settings["max_budget"], "litellm_settings.max_budget")
        duration = settings.get("budget_duration")
        if duration is not None and duration not in PERIODS:
            raise InvalidConfig("litellm_settings.budget_duration", f"{duration!r} is not one of {', '.join(PERIODS)}")
        return BudgetEntry(limit_usd, "total" if duration is None else PERIODS[duration])

    def _master_key(self, value: Any) -> str | None:
        if value is None:
            return None
        text = _text(value, "general_settings.master_key")
        variable = _variable(text)
        if variable is None:
            return text
        if not self.environment.get(variable):
            self.notes.append(
                f"general_settings.master_key: {variable} is not set in this environment; no key was made"
            )
        return self.environment.get(variable) or None

    def _seconds(self, settings: Mapping[str, tuple[str, Any]], name: str) -> float | None:
        section, value = settings.get(name, ("", None))
        return _seconds(value, f"{section}.{name}")

    def _count(self, settings: Mapping[str, tuple[str, Any]], name: str) -> int | None:
        section, value = settings.get(name, ("", None))
        return None if value is None else _whole(value, f"{section}.{name}", least=0)

    def _resolved(self, value: Any, where: str) -> str:
        if value is None:
            return ""
        text = _text(value, where)
        variable = _variable(text)
        if variable is None:
            return text
        if not self.environment.get(variable):
            raise InvalidConfig(where, f"the environment variable {variable} is not set")
        return self.environment[variable]


def _variable(text: str) -> str | None:
    return text.removeprefix("os.environ/") if text.startswith("os.environ/") else None


def _or(value: Any, empty: Any) -> Any:
    """YAML's null, as a name without a value reads, is the empty collection; every other wrong type is an error."""
    return empty if value is None else value


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidConfig(where, "must be a mapping (name: value)")
    return {str(name): item for name, item in value.items()}


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidConfig(where, "must be a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidConfig(where, "must be text, and not empty")
    return value.strip()


def _number(value: Any, where: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal(-1)
    if isinstance(value, bool) or not number.is_finite() or number < 0:
        raise InvalidConfig(where, "must be a number, 0 or more")
    return number


def _whole(value: Any, where: str, *, least: int) -> int:
    number = _number(value, where)
    if number != int(number) or number < least:
        raise InvalidConfig(where, f"must be a whole number, {least} or more")
    return int(number)


def _seconds(value: Any, where: str) -> float | None:
    if value is None:
        return None
    seconds = float(_number(value, where))
    if not 0.1 <= seconds <= 3600:
        raise InvalidConfig(where, "must be from 0.1 to 3600 seconds")
    return seconds
