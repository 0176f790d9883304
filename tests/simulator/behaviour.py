"""What a simulated provider does with one request: what it answers, how fast, and how it breaks.

A `Behaviour` says nothing of a wire format: the same one can be scripted for OpenAI, Anthropic and Gemini,
and each format module renders it as that provider would. Compose with `but`:
`faults.slow_first_token(2).but(text="late, but here")`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length", "tool_calls", "content_filter"]

# Failures that a provider reports in a body of its own. Each format module knows the status and wording.
Problem = Literal[
    "bad_gateway",
    "content_filtered",
    "context_length_exceeded",
    "gateway_timeout",
    "insufficient_quota",
    "invalid_key",
    "model_not_found",
    "overloaded",
    "permission_denied",
    "prefill_refused",
    "rate_limited",
    "request_too_large",
    "server_error",
    "unavailable",
]

# Failures below the provider's format: what happens on the connection instead of an answer.
Instead = Literal[
    "endless",
    "endless_headers",
    "gzip_bomb",
    "huge_line",
    "malformed_body",
    "redirect",
    "reset",
    "silent",
]

Cut = Literal["close", "reset", "clean"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts in one meaning for all formats: `input_tokens` and `output_tokens` are the totals, the
    other input counts are parts of the first, the other output counts are parts of the second."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    image_input_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0

    @property
    def cache_write_tokens(self) -> int:
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model makes. `arguments` is JSON text, because a token limit may cut it in half."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One scripted reaction. The default answers at once with text made from the prompt.

    Units: `*_s` are seconds. A pair means "drawn uniformly between the two", reproducibly when `seed` is set.
    """

    # What is answered. Nothing given: text (or tool calls, or JSON) made from the prompt.
    text: str | None = None
    tokens: tuple[str, ...] | None = None  # the exact pieces, one stream event each; () is an empty answer
    length: int | tuple[int, int] | None = None  # that many tokens of filler
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    finish: Finish | None = None
    end: str | None = None  # the provider's own word for the end, where `finish` has none: pause_turn, MALFORMED_…
    usage: Usage | None = None  # the counts reported, instead of those counted
    report_usage: bool = True
    service_tier: str | None = None  # that it says it served; only OpenAI's format says it

    # A failure in the provider's own words.
    problem: Problem | None = None
    status: int | None = None  # overrides the problem's status, or the 200 of an answer
    body: Mapping[str, Any] | str | None = None  # sent instead of the provider's own body
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    refuses_prefill: bool = False  # a 400, but only for a request that ends with an assistant message

    # A failure on the wire. `after` counts content tokens: text, reasoning or pieces of tool arguments.
    instead: Instead | None = None
    seconds: float = 0.0  # how long `instead` or a stall lasts
    size: int = 0  # bytes, for huge_line and gzip_bomb
    location: str = ""  # for redirect
    cut_after: int | None = None
    cut: Cut = "close"
    stall_after: int | None = None
    problem_after: int | None = None  # `problem` comes as an event in mid-stream
    malformed_event_at: int | None = None
    without_done: bool = False

    # Time.
    latency_s: float | tuple[float, float] = 0.0  # before the response's head
    first_token_s: float | tuple[float, float] = 0.0  # between the head and the first content token
    token_s: float = 0.0  # between content tokens
    ping_s: float = 0.0  # how often a stream shows that it lives, while it waits for the next token; 0: never
    seed: int | None = None
    window_s: float | None = None  # holds for every request during that time, not for one request only

    def but(self, **changes: Any) -> Behaviour:
        """The same behaviour with some fields changed."""
        return dataclasses.replace(self, **changes)


def behaviour_from_json(data: Mapping[str, Any]) -> Behaviour:
    """A behaviour from its JSON form: fields of `Behaviour`, and/or `fault`, a name from `faults`, with
    `args`.

    `{"fault": "rate_limited", "args": {"retry_after_s": 1}}`, `{"text": "hi", "usage": {"input_tokens": 3}}`.
    Raises ValueError for a name that does not exist.
    """
    from tests.simulator import faults  # faults is built on this module

    given = dict(data)
    name, args = given.pop("fault", None), given.pop("args", {})
    if name is None:
        base = Behaviour()
    elif name in faults.__all__:
        base = getattr(faults, name)(**args)
    else:
        raise ValueError(f"there is no fault named {name!r}; there are {', '.join(faults.__all__)}")
    known = {f.name for f in dataclasses.fields(Behaviour)}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"a behaviour has no field {', '.join(unknown)}")
    if isinstance(given.get("usage"), Mapping):
        given["usage"] = Usage(**given["usage"])
    if "tool_calls" in given:
        given["tool_calls"] = tuple(ToolCall(**call) for call in given["tool_calls"])
    # JSON has lists where the dataclass, being hashable and frozen, has tuples.
    return base.but(**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
