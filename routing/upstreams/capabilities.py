"""What litellm knows of a model, asked once.

Each look-up in litellm's price map tries a dozen names, and a translation makes as many look-ups: together a fifth of
an Anthropic request's CPU. The map does not change while the process runs, and so the answers do not either.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from routing.upstreams.litellm_import import load

#: Clients may name models that a wildcard answers to, so the names are without end.
_MODELS: Final = 4096
_MAPPINGS: Final = 1024

#: Parameters whose values hardly come twice. A mapping with one of them would only push out others.
_OF_ONE_REQUEST: Final = frozenset({"user", "safety_identifier", "seed"})


class Thinking(NamedTuple):
    """How a Claude model thinks."""

    is_adaptive: bool  # it is asked for an effort, not for a budget of tokens
    is_always_on: bool
    knows_xhigh: bool


@lru_cache(maxsize=_MODELS)
def thinking_of_claude(model: str) -> Thinking:
    config, provider = load().AnthropicConfig, "anthropic"
    return Thinking(
        is_adaptive=config.is_adaptive_thinking_model(model=model, custom_llm_provider=provider),
        is_always_on=config._is_always_on_thinking_model(model=model, custom_llm_provider=provider),
        knows_xhigh=config.validate_effort_for_model(model=model, effort="xhigh", custom_llm_provider=provider) is None,
    )


@cache
def anthropic_config() -> Any:
    """litellm's `AnthropicConfig`, which looks a model up for each request's headers, with that answer remembered."""

    class Remembering(load().AnthropicConfig):  # type: ignore[misc]  # litellm is imported late, and is `Any`
        @staticmethod
        def _is_adaptive_thinking_model(model: str, custom_llm_provider: str) -> bool:
            assert custom_llm_provider == "anthropic"
            return thinking_of_claude(model).is_adaptive

    return Remembering()


@lru_cache(maxsize=_MODELS)
def supported_params(litellm_provider: str, model: str) -> frozenset[str] | None:
    """OpenAI's parameters that litellm knows a word for at this provider's model. None: nobody knows."""
    try:
        names = load().get_supported_openai_params(model=model, custom_llm_provider=litellm_provider)
    except Exception:  # noqa: BLE001 - a list for the client's information must not fail its request
        return None
    return None if names is None else frozenset(names) | {"max_tokens", "max_completion_tokens"}


def optional_params(litellm_provider: str, model: str, given: Mapping[str, Any], messages: list[Any]) -> dict[str, Any]:
    """litellm's `optional_params`: the request's parameters in the provider's words. The messages change nothing of it.

    Most clients send the same few numbers and words with each request, so those are mapped once.
    """
    if _OF_ONE_REQUEST.isdisjoint(given) and all(type(value) in (int, float, str, bool) for value in given.values()):
        # The type too, because 1, 1.0 and True are equal.
        plain = tuple((name, type(value), value) for name, value in given.items())
        return copy.deepcopy(_mapped_plain(litellm_provider, model, plain))
    return _mapped(litellm_provider, model, given, messages)


@lru_cache(maxsize=_MAPPINGS)
def _mapped_plain(litellm_provider: str, model: str, plain: tuple[tuple[str, type, Any], ...]) -> dict[str, Any]:
    return _mapped(litellm_provider, model, {name: value for name, _, value in plain}, [])


def _mapped(litellm_provider: str, model: str, given: Mapping[str, Any], messages: list[Any]) -> dict[str, Any]:
    mapped: dict[str, Any] = load().utils.get_optional_params(
        model=model, custom_llm_provider=litellm_provider, messages=messages, **given
    )
    return mapped
