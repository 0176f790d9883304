"""The most that writing sound down can cost, and what it cost when nobody counted: seconds, and tokens.

A price says which of the two counts (`accounting.pricing`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

from accounting.usage import Meter, Usage, UsageSource, quantity_name
from routing.serving.call import CappedBy, Quantities, Unbounded
from routing.upstreams.base import Deployment
from routing.upstreams.estimate import count_text
from routing.upstreams.price_map import limits_of

#: Providers decode a little more than they were sent, and bill begun seconds.
SPARE_SECONDS: Final = 1
#: Of sound: ten tokens a second at OpenAI, 32 at Google, by their documents.
MOST_TOKENS_A_SECOND: Final = 40
TOKENS_A_SECOND: Final = 10
TOKENS_BESIDE: Final = 100  # what a format may add to the prompt
USUAL_BYTES_A_SECOND: Final = 4000  # of a file that nobody can read
_SPEAKER_S: Final = 10  # the longest sample of a known speaker's voice that OpenAI takes
#: Providers that bill so many seconds of a request at the least. https://groq.com/pricing
_LEAST_SECONDS: Final = {"groq": 10}
_FREE: Final = frozenset(
    {
        "chunking_strategy",
        "include",
        "keywords",
        "known_speaker_names",
        "known_speaker_references",
        "language",
        "languages",
        "metadata",
        "model",
        "prompt",
        "response_format",
        "safety_identifier",
        "stream",
        "temperature",
        "timestamp_granularities",
        "user",
    }
)


def most_of(
    fields: Mapping[str, tuple[str, ...]], seconds: Fraction | None, why_unread: str, deployment: Deployment
) -> Quantities:
    """Raises Unbounded."""
    names = {name.partition("[")[0] for name in fields}
    most_output, most_input = limits_of(deployment.litellm_provider, deployment.model)
    samples = _SPEAKER_S * len(fields.get("known_speaker_references", ()))
    heard = samples if seconds is None else billed(seconds, deployment) + SPARE_SECONDS + samples
    tokens = heard * MOST_TOKENS_A_SECOND + _prompt_bytes(fields) + TOKENS_BESIDE
    endless: tuple[str, str] | None = None
    if most_output is None:
        endless = ("model", "nobody says how long its longest answer is")
    elif "chunking_strategy" in names:
        endless = ("chunking_strategy", "each chunk is an answer of its own, and nobody says how many there are")
    most = Quantities(
        input_tokens=tokens if most_input is None else min(tokens, most_input),
        output_cap_tokens=most_output or 0,
        capped_by=CappedBy.NOBODY,
        units={quantity_name(Meter.INPUT_SECOND): Decimal(heard)},
        endless=endless,
    )
    if seconds is None:
        raise Unbounded("file", f"nobody can say how long its sound is: {why_unread}", most)
    unknown = next((name for name in names if name not in _FREE), None)
    if unknown is not None:
        raise Unbounded(unknown, "it is not known to cost nothing more", most)
    return most


def estimated(fields: Mapping[str, tuple[str, ...]], seconds: Fraction, text: str, deployment: Deployment) -> Usage:
    most_output, most_input = limits_of(deployment.litellm_provider, deployment.model)
    heard, said = billed(seconds, deployment), count_text(text, deployment.model)
    sound = heard * TOKENS_A_SECOND
    read = sound + count_text("\n".join(fields.get("prompt", ())), deployment.model)
    return Usage(
        input_tokens=min(read, most_input or read),
        audio_input_tokens=min(sound, most_input or sound),
        output_tokens=min(said, most_output or said),
        quantities={quantity_name(Meter.INPUT_SECOND): Decimal(heard)},
        source=UsageSource.ESTIMATED,
    )


def billed(seconds: Fraction, deployment: Deployment) -> int:
    """The seconds that the provider bills for so many: begun ones, and not fewer than its least."""
    return max(1, math.ceil(seconds), _LEAST_SECONDS.get(deployment.litellm_provider, 0))


def _prompt_bytes(fields: Mapping[str, tuple[str, ...]]) -> int:
    """All that is sent as text may come to be in the prompt. What speaks is counted as sound."""
    return sum(
        len(value.encode("utf-8", "surrogatepass"))
        for name, values in fields.items()
        if name != "known_speaker_references"
        for value in values
    )
