"""What an answer says it consumed → :class:`accounting.usage.Usage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounting.usage import Usage


def usage_of(reported: object) -> Usage | None:
    """A `usage` object in OpenAI's format → Usage; None when nothing was reported.

    Reads OpenAI's own fields, and the two that litellm adds when it converts Anthropic's usage:
    `cache_creation_input_tokens` and `prompt_tokens_details.cache_creation_token_details`. Anthropic reports the
    uncached input alone; litellm's `prompt_tokens` already has the cache reads and writes added, as OpenAI counts.

    Some providers (xAI) count reasoning beside `completion_tokens`. Their own total gives them away, and the
    reasoning tokens are added, because they are billed.
    """
    if not isinstance(reported, Mapping):
        return None
    if reported.get("prompt_tokens") is None and reported.get("completion_tokens") is None:
        return None
    prompt = _part(reported, "prompt_tokens_details")
    completion = _part(reported, "completion_tokens_details")
    input_tokens = _count(reported, "prompt_tokens")
    output_tokens = _count(reported, "completion_tokens")
    reasoning_tokens = _count(completion, "reasoning_tokens")
    if reasoning_tokens and _count(reported, "total_tokens") == input_tokens + output_tokens + reasoning_tokens:
        output_tokens += reasoning_tokens
    return Usage(
        input_tokens=input_tokens,
        # DeepSeek names its cache hits beside the details that OpenAI has.
        cached_input_tokens=_count(prompt, "cached_tokens") or _count(reported, "prompt_cache_hit_tokens"),
        cache_write_tokens=(
            _count(reported, "cache_creation_input_tokens")
            or _count(prompt, "cache_creation_tokens")
            or _count(prompt, "cache_write_tokens")
        ),
        cache_write_1h_tokens=_count(_part(prompt, "cache_creation_token_details"), "ephemeral_1h_input_tokens"),
        audio_input_tokens=_count(prompt, "audio_tokens"),
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
        audio_output_tokens=_count(completion, "audio_tokens"),
    )


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = of.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(of: Mapping[str, Any], name: str) -> int:
    value = of.get(name)
    return value if type(value) is int and value > 0 else 0
