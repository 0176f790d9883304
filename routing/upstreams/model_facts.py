"""What the price map and litellm say of one model: what it refuses, thinks and writes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from routing.upstreams.litellm_import import load
from routing.upstreams.price_map import costs_of
from routing.upstreams.providers import ProviderFacts

#: litellm is asked which of these parameters a model refuses. No value here is refused because of the value.
_PROBES: Final[Mapping[str, Any]] = {
    "frequency_penalty": 0.5,
    "logit_bias": {"1": 1},
    "logprobs": True,
    "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "-"},
    "presence_penalty": 0.5,
    "reasoning_effort": "low",
    "stop": ["-"],
    "temperature": 0.5,
    "top_logprobs": 1,
    "top_p": 0.5,
    "verbosity": "low",
}
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")


@lru_cache(maxsize=4096)
def written_at_most(model: str) -> int | None:
    """How many tokens a model of OpenAI's writes at most. None: the price map does not know."""
    most = costs_of("openai", model).get("max_output_tokens")
    return most if isinstance(most, int) and most > 0 else None


@lru_cache(maxsize=4096)
def has_effort(provider: str, model: str, effort: str) -> bool:
    """Whether the model may be asked for this reasoning effort."""
    return _is_kept(provider, model, "reasoning_effort", {"reasoning_effort": effort})


def refused_by_model(row: ProviderFacts, model: str, body: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that this model refuses, though other models of its provider take them."""
    refused: frozenset[str] = frozenset()
    if not row.thinkers_refuse.isdisjoint(body) and thinks(row.name, model):
        refused = row.thinkers_refuse
    if not row.thinkers_take.isdisjoint(body) and _thinks_never(row.name, model):
        refused |= row.thinkers_take
    if row.by_model and not _PROBES.keys().isdisjoint(body):
        effort = body.get("reasoning_effort")
        asked = effort if isinstance(effort, str) and effort in EFFORTS else None
        refused |= _refused_by_litellm(row.name, model, asked)
    return refused


@lru_cache(maxsize=4096)
def thinks(provider: str, model: str) -> bool:
    """Whether the price map says so."""
    return bool(costs_of(provider, model).get("supports_reasoning"))


@lru_cache(maxsize=4096)
def _thinks_never(provider: str, model: str) -> bool:
    known_of = costs_of(provider, model)
    return bool(known_of) and not known_of.get("supports_reasoning")


@lru_cache(maxsize=4096)
def _refused_by_litellm(provider: str, model: str, effort: str | None) -> frozenset[str]:
    """The parameters that litellm leaves out for this model and this reasoning effort. Takes milliseconds, once."""
    asked = {} if effort is None else {"reasoning_effort": effort}
    return frozenset(
        name for name, value in _PROBES.items() if not _is_kept(provider, model, name, {name: value, **asked})
    )


def _is_kept(provider: str, model: str, name: str, given: Mapping[str, Any]) -> bool:
    try:
        kept = load().utils.get_optional_params(model=model, custom_llm_provider=provider, **given)
    except Exception:  # noqa: BLE001 - when litellm cannot say, nothing is known to be refused
        return True
    return name in kept or name in (kept.get("extra_body") or {})
