"""What the three formats ask for, in one shape, and how its tokens are counted."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_PIECE = re.compile(r"\s*\S{1,12}|\s+")


def pieces(text: str) -> tuple[str, ...]:
    """The tokens of a text: a word with the space before it, long words in parts of 12. Joined, they are
    the text.

    A token is never less than a character: a bound by bytes holds here as it does for real tokenizers.
    """
    return tuple(_PIECE.findall(text))


def count(value: object) -> int:
    """The tokens of a text, or of anything else as compact JSON."""
    if value is None:
        return 0
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return len(pieces(text))


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CacheMark:
    """A prefix that is cached: what it is, its length, and for how long its client asked for that ("5m", "1h"; empty:
    the client has not asked, and pays nothing for the writing)."""

    fingerprint: str
    tokens: int
    ttl: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, read. `prefill` is the text of a last assistant message, None if the last one is not one;
    `tool_result` the text of the tool results that came last; `forced_tool` a name, or "" for any tool."""

    model: str
    streamed: bool
    input_tokens: int
    user_text: str = ""
    prefill: str | None = None
    tool_result: str | None = None
    tools: tuple[Tool, ...] = ()
    forced_tool: str | None = None
    tools_allowed: bool = True
    parallel_tools: bool = True
    max_tokens: int | None = None
    answers: int = 1
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    reasons: bool = False
    shows_reasoning: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    include_usage: bool = True
    images: int = 0
    image_tokens: int = 0
    cache_marks: tuple[CacheMark, ...] = ()
    request: Mapping[str, Any] | None = None  # the whole of it, where it is no conversation


def kept_prefixes(text: str, most: int) -> tuple[CacheMark, ...]:
    """As OpenAI keeps them unasked: from 1,024 tokens on, in steps of 128, and never more than the prompt has.

    https://platform.openai.com/docs/guides/prompt-caching"""
    tokens = pieces(text)
    so_far, marks = hashlib.blake2b(), []
    for end in range(128, min(len(tokens), most) + 1, 128):
        so_far.update("".join(tokens[end - 128 : end]).encode("utf-8", "surrogatepass"))
        if end >= 1024:
            marks.append(CacheMark(so_far.hexdigest(), end, ""))
    return tuple(marks)
