"""Which models may think for long before the first word of a stream, and say nothing meanwhile.

OpenAI's reasoning models send no byte for half a minute and more; Gemini's think by themselves. From outside that looks
like a dead provider, so only the model's name tells: litellm's price map says which models reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from routing.upstreams.base import Deployment
from routing.upstreams.price_map import costs_of

#: Parts of the names of models that reason only when they are asked to.
#: https://docs.claude.com/en/docs/build-with-claude/extended-thinking
#: https://ai.google.dev/gemini-api/docs/thinking ("2.5 Flash Lite: model does not think" by default)
_ONLY_WHEN_ASKED: Final = ("claude", "2.5-flash-lite")
_OFF: Final = ("none", "disable", "disabled")


@lru_cache(maxsize=4096)
def reasons(litellm_provider: str, model: str) -> bool:
    """Whether the model can think before it answers, as far as litellm knows."""
    return bool(costs_of(litellm_provider, model).get("supports_reasoning"))


def reasons_unasked(litellm_provider: str, model: str) -> bool:
    return reasons(litellm_provider, model) and not any(part in model.lower() for part in _ONLY_WHEN_ASKED)


def may_think(deployment: Deployment, body: Mapping[str, Any]) -> bool:
    """Whether this request may be thought about in silence."""
    if not reasons(deployment.litellm_provider, deployment.model):
        return False
    if _asked(body) is None:
        return reasons_unasked(deployment.litellm_provider, deployment.model)
    return asks_to_think(body)


def asks_to_think(body: Mapping[str, Any]) -> bool:
    """Whether the request itself asks for thought."""
    asked = _asked(body)
    return asked is not None and asked not in _OFF


def _asked(body: Mapping[str, Any]) -> object:
    thinking, reasoning = body.get("thinking"), body.get("reasoning")
    config = body.get("generationConfig")  # of a body in Google's format
    if isinstance(config, dict) and isinstance(googles := config.get("thinkingConfig"), dict):
        return "disabled" if googles.get("thinkingBudget") == 0 else "enabled"
    return (
        body.get("reasoning_effort")
        or (thinking.get("type") if isinstance(thinking, dict) else None)
        or (reasoning.get("effort") if isinstance(reasoning, dict) else None)  # of Responses
    )
