"""What an answer consumed: quantities by meter, never money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from enum import StrEnum

from accounting.record import record


class UsageSource(StrEnum):
    """Who counted the tokens."""

    PROVIDER = "provider"
    ESTIMATED = "estimated"  # the provider gave no count: ours, marked as such
    NONE = "none"  # nothing was consumed, or nothing is known to have been


class Tier(StrEnum):
    """How soon a provider answers, and at which rates."""

    STANDARD = "standard"
    FLEX = "flex"
    PRIORITY = "priority"
    ULTRA = "ultra"  # OpenAI's ultrafast, Anthropic's fast mode
    BATCH = "batch"


class Meter(StrEnum):
    """What a provider counts. Some have a qualifier, written behind a colon: ``image:high/1024x1024``."""

    # Token classes. All but the two totals are parts of a total.
    INPUT = "input"
    CACHED_INPUT = "cached_input"
    CACHED_AUDIO_INPUT = "cached_audio_input"
    CACHED_IMAGE_INPUT = "cached_image_input"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_1H = "cache_write_1h"
    AUDIO_INPUT = "audio_input"
    IMAGE_INPUT = "image_input"
    OUTPUT = "output"
    REASONING = "reasoning"
    AUDIO_OUTPUT = "audio_output"
    IMAGE_OUTPUT = "image_output"
    # Units
    IMAGE = "image"  # made; the qualifier is its size, or its quality and size
    INPUT_IMAGE = "input_image"  # looked at
    INPUT_SECOND = "input_second"  # heard or seen; the qualifier is ``audio`` or ``video`` where the two differ
    OUTPUT_SECOND = "output_second"  # spoken or filmed; the qualifier is a resolution
    INPUT_CHARACTER = "input_character"
    OUTPUT_CHARACTER = "output_character"
    SEARCH = "search"  # in the web, or a reranking; the qualifier is the size of the search's context
    PAGE = "page"  # read from a document; the qualifier is ``annotated`` for those that were
    TOOL_CALL = "tool_call"  # of a tool that the provider runs; the qualifier is its name

    @property
    def is_tokens(self) -> bool:
        return self in TOKEN_METERS

    @property
    def unit_size(self) -> int:
        """How many of it a rate is for: a million where providers publish their prices so, else one."""
        return 1_000_000 if self in TOKEN_METERS or self in (Meter.INPUT_CHARACTER, Meter.OUTPUT_CHARACTER) else 1


TOKEN_METERS = frozenset(
    {
        Meter.INPUT, Meter.CACHED_INPUT, Meter.CACHED_AUDIO_INPUT, Meter.CACHED_IMAGE_INPUT, Meter.CACHE_WRITE,
        Meter.CACHE_WRITE_1H, Meter.AUDIO_INPUT, Meter.IMAGE_INPUT, Meter.OUTPUT, Meter.REASONING, Meter.AUDIO_OUTPUT,
        Meter.IMAGE_OUTPUT,
    }
)  # fmt: skip


def quantity_name(meter: Meter, qualifier: str = "") -> str:
    """The name of a quantity: ``search``, ``search:high``."""
    return f"{meter.value}:{qualifier}" if qualifier else meter.value


def split_quantity_name(name: str) -> tuple[Meter, str]:
    """The reverse of :func:`quantity_name`. Raises ValueError for a meter that does not exist."""
    meter, _, qualifier = name.partition(":")
    return Meter(meter), qualifier


@record(frozen=True, slots=True)
class Usage:
    """What one attempt consumed. Tokens are as OpenAI counts them: the classes are *parts* of the totals.

    ``input_tokens`` includes the cached, cache-write, audio and image tokens; ``output_tokens`` includes the
    reasoning, audio and image tokens. Providers that count otherwise (Anthropic reports the uncached input
    alone) are converted where their answer is read, in ``routing.upstreams``.

    ``quantities`` has the meters without a field of their own, by name (:func:`quantity_name`): units, and the token
    classes ``image_input``, ``image_output``, ``cached_audio_input`` and ``cached_image_input``. What a provider may
    bill in two ways, such as an image by its tokens or as an image, is in one of the two meters, never in both. Only
    the seconds and characters of an input may stand beside its tokens: its price says which of them count.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0  # all cache writes, whatever their lifetime
    cache_write_1h_tokens: int = 0  # those of them that live an hour or longer, which are billed dearer
    audio_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    source: UsageSource = UsageSource.PROVIDER
    quantities: Mapping[str, Decimal] = field(default_factory=dict, hash=False)

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
            quantities={
                name: self.quantities.get(name, Decimal(0)) + other.quantities.get(name, Decimal(0))
                for name in (*self.quantities, *(name for name in other.quantities if name not in self.quantities))
            },
        )

    @property
    def is_nothing(self) -> bool:
        """Whether it is :data:`NO_USAGE`. Its source says that of nearly all others, without a look at each field."""
        return self.source is UsageSource.NONE and self == NO_USAGE

    @property
    def is_of_two_kinds(self) -> bool:
        """Whether there is nothing but plain input and output."""
        return not (
            self.cached_input_tokens
            or self.cache_write_tokens
            or self.audio_input_tokens
            or self.reasoning_tokens
            or self.audio_output_tokens
            or self.quantities
        )

    def of(self, meter: Meter) -> Decimal:
        """How much of a meter that has no field of its own, its qualifiers together."""
        if not self.quantities:
            return Decimal(0)
        amounts = (amount for name, amount in self.quantities.items() if split_quantity_name(name)[0] is meter)
        return sum(amounts, Decimal(0))


NO_USAGE = Usage(source=UsageSource.NONE)
