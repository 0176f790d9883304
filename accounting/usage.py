"""What an answer consumed: quantities, never money."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UsageSource(StrEnum):
    """Who counted the tokens."""

    PROVIDER = "provider"
    ESTIMATED = "estimated"  # the provider gave no count: ours, marked as such
    NONE = "none"  # nothing was consumed, or nothing is known to have been


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt, as OpenAI counts them: the classes are *parts* of the totals.

    ``input_tokens`` includes the cached, cache-write and audio tokens; ``output_tokens`` includes the
    reasoning and audio tokens. Providers that count otherwise (Anthropic reports the uncached input
    alone) are converted where their answer is read, in ``routing.upstreams``.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0  # all cache writes, whatever their lifetime
    cache_write_1h_tokens: int = 0  # those of them that live an hour (Anthropic bills them dearer)
    audio_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    source: UsageSource = UsageSource.PROVIDER

    def __add__(self, other: Usage) -> Usage:
        estimated = UsageSource.ESTIMATED in (self.source, other.source)
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            audio_input_tokens=self.audio_input_tokens + other.audio_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            audio_output_tokens=self.audio_output_tokens + other.audio_output_tokens,
            source=UsageSource.ESTIMATED if estimated else UsageSource.PROVIDER,
        )


NO_USAGE = Usage(source=UsageSource.NONE)
