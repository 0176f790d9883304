"""Reads the elements of ``model_list``: what each of them is asked as, where, with which key, at what price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from django.core.exceptions import ValidationError

from accounting import wildcards
from routing.litellm_config import parameters
from routing.litellm_config.key_references import KeyReferences
from routing.litellm_config.remarks import Remark
from routing.litellm_config.settings import BudgetEntry, budget, seconds
from routing.litellm_config.values import Found, InvalidConfig
from routing.models import MAX_WEIGHT, validate_alias_name, validate_base_url
from routing.upstreams import price_map
from routing.upstreams.providers import PROVIDERS, is_known_provider, needs_base_url

T = TypeVar("T")

#: The provider of a model name without a prefix. litellm's price map knows the provider of other names.
_BARE_NAMES = (("gpt-", "openai"), ("chatgpt-", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"),
               ("dall-e-", "openai"), ("chatgpt-image", "openai"),
               ("claude-", "anthropic"), ("gemini-", "gemini"))  # fmt: skip
_SERVED_MODES = frozenset(
    {
        "", "audio_speech", "audio_transcription", "chat", "completion", "embedding", "image_edit", "image_generation",
        "moderation", "rerank", "responses",
    }
)  # fmt: skip
_INFO = frozenset({"mode", "base_model"})
#: litellm's way to OpenAI's Responses API. A chat completion asks the same model.
_RESPONSES = "responses/"
#: litellm's way to OpenAI's completions of the old kind. Its models are served by that endpoint here.
_TEXT_COMPLETION = "text-completion-"
DEAREST_USD = 99_000_000  # for a million tokens, or for one image: the most that fits into a price
#: Nothing costs so much a token, not even a tenth: a price a million was written down as it stands.
_ABSURD_USD_PER_TOKEN = Decimal("0.01")
_ABSURD_FACTOR = 100_000  # against litellm's price
WITHOUT_ORDER = Decimal("Infinity")  # asked last, as at LiteLLM


class NotServed(Exception):
    """The gateway has nothing for such an entry, and the text says why. The file is not wrong."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the file says for all entries."""

    total_timeout_s: float | None
    first_token_timeout_s: float | None


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
    tags: tuple[str, ...] = ()  # of the requests that are for this deployment, where LiteLLM looks at tags
    parameters: Mapping[str, Any] = field(default_factory=dict)  # Provider.parameters
    mode: str = ""  # what the model is for, in LiteLLM's words
    other_costs: tuple[str, ...] = ()  # names of costs that a price here does not carry
    odd_costs: tuple[Remark, ...] = ()  # prices a million, by the look of them: what is odd about each
    order: Decimal = WITHOUT_ORDER
    budget: BudgetEntry | None = None  # of this deployment alone
    place: str = ""
    line: str = ""
    stands_for: str = ""  # of `model_group_alias`: the alias that it names otherwise
    is_from_wildcard: bool = False  # made because a chain names it


@dataclass
class EntryReader:
    """``left_out``, ``unsupported`` and ``notes`` collect what is said of the entries."""

    defaults: Defaults
    keys: KeyReferences
    credentials: Mapping[str, Mapping[str, Found]]
    left_out: list[Remark]
    unsupported: list[Remark]
    notes: list[Remark]

    def alias(self, item: Found) -> str:
        """Raises InvalidConfig."""
        name = item.fields().get("model_name")
        if name is None:
            raise InvalidConfig(f"{item.path}.model_name", "must be text, and not empty", item.line)
        alias = name.text()
        try:
            validate_alias_name(alias)
        except ValidationError as error:
            raise name.refused(f"is not usable. {' '.join(error.messages)}") from None
        return alias

    def entries(self, item: Found, alias: str) -> list[ModelEntry]:
        """One, or several for a wildcard of all providers. Raises InvalidConfig, or NotServed."""
        fields = item.fields()
        if "litellm_params" not in fields:
            raise InvalidConfig(f"{item.path}.litellm_params", "must be a mapping (name: value)", item.line)
        params = self._with_credential(fields["litellm_params"].fields())
        info = fields["model_info"].fields() if "model_info" in fields else {}
        if "blocked" in info and info["blocked"].value is True:
            raise NotServed("it is blocked, so LiteLLM sends nobody there")
        if "model" not in params:
            raise fields["litellm_params"].refused("has no model")
        model = params["model"].text()
        if alias == model == wildcards.ANY:
            return self._of_all_providers(item, params, info)
        return [self._entry(item, alias, model, params, info)]

    def _with_credential(self, params: dict[str, Found]) -> dict[str, Found]:
        name = params.get("litellm_credential_name")
        if name is None or name.is_empty:
            return params
        credential = self.credentials.get(name.text())
        if credential is None:
            raise name.refused(f"no credential of the name {name.text()!r} is in credential_list")
        return {**credential, **params}

    def _of_all_providers(
        self, item: Found, params: Mapping[str, Found], info: Mapping[str, Found]
    ) -> list[ModelEntry]:
        """LiteLLM asks the provider that a request's model names. Here that is a wildcard for each provider whose key
        is in this environment, and one for each beginning by which a model without a provider is known."""
        present = [
            facts.name
            for facts in PROVIDERS.values()
            if not facts.keyless and self.keys.environment.get(facts.key_variable) and not needs_base_url(facts.name)
            and facts.name not in ("custom_openai", "openai_like")
        ]  # fmt: skip
        if not present:
            raise params["model"].refused("which provider is meant is not said, and no provider's key is here")
        patterns = [(f"{provider}/*", f"{provider}/*") for provider in present]
        patterns += [(f"{begin}*", f"{provider}/{begin}*") for begin, provider in _BARE_NAMES if provider in present]
        why = f"of all providers: taken as one wildcard each for those whose keys are here ({', '.join(present)})"
        self.notes.append(Remark(item.path, item.line, why, wildcards.ANY))
        return [self._entry(item, alias, model, params, info) for alias, model in patterns]

    def _entry(
        self, item: Found, alias: str, model: str, params: Mapping[str, Found], info: Mapping[str, Found]
    ) -> ModelEntry:
        place = f"{item.path}.litellm_params"
        if not wildcards.can_fill(alias, model):
            raise params["model"].refused("has a * for which model_name has none")
        provider, model = self._provider(params, model)
        mode = "" if "mode" not in info else str(info["mode"].value or "")
        mode = mode or price_map.mode_of(provider, model)
        if mode not in _SERVED_MODES:
            raise NotServed(f"there is no endpoint for {mode}")
        address = params.get("api_base") or params.get("base_url")
        base_url = "" if address is None or address.raw in (None, "") else address.text()
        if needs_base_url(provider) and not base_url:
            raise InvalidConfig(place, f"the provider {provider} needs an api_base", item.line)
        if address is not None and base_url:
            try:
                validate_base_url(base_url)
            except ValidationError as error:
                raise address.refused(" ".join(error.messages)) from None
        version = params.get("api_version")
        carried = parameters.carried(params, provider, self.keys)
        key_reference = self.keys.reference(params.get("api_key"), provider, base_url)
        self._name_unknown(item, params, info, provider)
        fields = {**info, **params}
        costs, odd = self._costs(provider, model, fields)
        cap = _said(params, "max_tokens") or _said(params, "max_completion_tokens")
        base_model = _said(info, "base_model") or _said(params, "base_model")
        return ModelEntry(
            alias=alias,
            litellm_provider=provider,
            model=model,
            base_url=base_url,
            api_version="" if version is None or version.raw in (None, "") else version.text(),
            key_reference=key_reference,
            total_timeout_s=self._seconds(params.get("timeout")) or self.defaults.total_timeout_s,
            first_token_timeout_s=self._seconds(params.get("stream_timeout")) or self.defaults.first_token_timeout_s,
            output_cap_tokens=(None if cap is None else self._or_leave_out(lambda: _cap(cap))),
            costs=costs,
            mode=mode,
            weight=self._or_leave_out(lambda: _weight(params.get("weight"))),
            base_model="" if base_model is None else str(base_model.value),
            tags=self._tags(params.get("tags")),
            parameters=carried,
            other_costs=tuple(name for name, value in fields.items() if _is_other_cost(name, value)),
            odd_costs=odd,
            order=self._order(params.get("order")),
            budget=self._budget(params),
            place=item.path,
            line=item.line,
        )

    def _or_leave_out(self, read: Callable[[], T]) -> T | None:
        """What `read` gives. Where the file is wrong, the value alone is left out: the entry is the same without it."""
        try:
            return read()
        except InvalidConfig as error:
            self.left_out.append(Remark.of(error))
            return None

    def _seconds(self, value: Found | None) -> float | None:
        return self._or_leave_out(lambda: seconds(value, self.notes))

    def _budget(self, params: Mapping[str, Found]) -> BudgetEntry | None:
        limit = params.get("max_budget")
        if limit is None or limit.is_empty:
            return None
        return self._or_leave_out(lambda: budget(limit, params.get("budget_duration")))

    def _tags(self, value: Found | None) -> tuple[str, ...]:
        is_list = value is not None and isinstance(value.raw, list)
        return tuple(str(tag) for tag in value.raw) if value is not None and is_list else ()

    def _order(self, value: Found | None) -> Decimal:
        if value is None or value.is_empty:
            return WITHOUT_ORDER
        found = self._or_leave_out(lambda: value.whole(least=0))
        return WITHOUT_ORDER if found is None else Decimal(found)

    def _provider(self, params: Mapping[str, Found], model: str) -> tuple[str, str]:
        given, where = params.get("custom_llm_provider"), params["model"]
        model = model.removeprefix(_TEXT_COMPLETION)
        prefix, slash, rest = model.partition("/")
        if given is not None and not given.is_empty:
            provider = given.text().removeprefix(_TEXT_COMPLETION)
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
                raise NotServed(f"the provider {provider} has no chat API here")
            raise where.refused(f"no provider is known for {model!r}; write provider/model")
        if PROVIDERS[provider].way == "relay":
            model = model.removeprefix(_RESPONSES)
        if not model:
            raise NotServed(f"no model is named after {provider}/")
        if len(model) > 200:
            raise where.refused("must have at most 200 characters after the provider")
        return provider, model

    def _name_unknown(self, item: Found, params: Mapping[str, Found], info: Mapping[str, Found], provider: str) -> None:
        unknown = [
            value for name, value in item.fields().items() if name not in ("model_name", "litellm_params", "model_info")
        ]
        unknown += [
            value
            for name, value in params.items()
            if not (name in parameters.READ or price_map.is_price(name))
            and (not parameters.is_decisive(name, provider) or name in ("headers", "extra_headers"))
        ]
        unknown += [value for name, value in info.items() if name not in _INFO and not price_map.is_price(name)]
        for value in unknown:
            is_price = any(word in value.path.rpartition(".")[2] for word in ("cost", "pricing"))
            why = "a price that is not carried" if is_price else ""
            self.unsupported.append(Remark(value.path, value.line, why))

    # --- prices -----------------------------------------------------------------------------------------------

    def _costs(
        self, provider: str, model: str, fields: Mapping[str, Found]
    ) -> tuple[dict[str, Any], tuple[Remark, ...]]:
        """What the entry says it costs; and what of it looks like a price a million, written as a price a token."""
        listed = price_map.costs_of(provider, model)
        costs: dict[str, Any] = {}
        odd = []
        for name, value in fields.items():
            if value.is_empty or not price_map.is_price(name):
                continue
            cost = self._or_leave_out(partial(self._cost, value, name))
            if cost is None:
                continue
            costs[name] = cost
            if isinstance(cost, Decimal) and (why := _oddity(name, cost, listed.get(name))):
                odd.append(Remark(value.path, value.line, why))
        return costs, tuple(odd)

    def _cost(self, value: Found, name: str) -> Any:
        if name == price_map.SEARCHES:
            return {size: self._cost(usd, "input_cost_per_query") for size, usd in value.fields().items()}
        usd, most = value.number(), Decimal(DEAREST_USD) / price_map.unit_size(name)
        if usd > most:
            unit = "a token" if "token" in name else "a unit"
            raise value.refused(f"must be a price {unit}, at most {most:f} USD")
        return usd


def _oddity(name: str, cost: Decimal, listed: Any) -> str:
    if "token" not in name.partition("_above_")[0] or not cost:
        return ""
    known = Decimal(str(listed)) if isinstance(listed, int | float) and listed else None
    if known is not None and cost / known >= _ABSURD_FACTOR:
        return f"{cost / known:,.0f} times litellm's price"
    return f"{cost * 1_000_000:,.0f} USD a million tokens" if cost >= _ABSURD_USD_PER_TOKEN else ""


def _said(fields: Mapping[str, Found], name: str) -> Found | None:
    value = fields.get(name)
    return None if value is None or value.is_empty else value


def _cap(value: Found) -> int:
    cap = value.whole(least=1)
    if cap > 2_000_000_000:
        raise value.refused("must be at most 2000000000")
    return cap


def _is_other_cost(name: str, value: Found) -> bool:
    if "cost" not in name or price_map.is_price(name) or isinstance(value.raw, bool):
        return False
    try:
        return value.number() > 0
    except InvalidConfig:
        return False


def _weight(value: Found | None) -> Decimal | None:
    if value is None or value.is_empty:
        return None
    weight = value.number()
    if weight and not 1 / Decimal(MAX_WEIGHT) <= weight <= MAX_WEIGHT:
        raise value.refused(f"must be 0, or 0.000001 to {MAX_WEIGHT}")
    return weight
