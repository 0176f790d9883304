"""Answers of Anthropic's and Gemini's that are text alone, put into OpenAI's format without litellm.

Most answers are. litellm builds a dozen of pydantic's models for each, and all that is wanted of them is a dictionary.
So it is written here: what `answers.whole_answer` makes of what litellm makes of the answer. An answer of which
anything is not known here is litellm's to read. tests/wire/test_equivalence_of_text.py holds both against each other.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence, Set
from typing import Final, NamedTuple

from routing.upstreams.base import Json
from routing.upstreams.mends.endings import lasting_counts
from routing.upstreams.usage import MAX_TOKENS

#: https://platform.claude.com/docs/en/api/messages
_MESSAGE: Final = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
_NULL_IN_A_MESSAGE: Final = ("container", "context_management", "stop_details")
_BLOCK: Final = frozenset({"type", "text"})
_CLAUDES_ENDS: Final = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_CLAUDES_USAGE: Final = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "cache_creation",
        "output_tokens_details",
        "inference_geo",
        "service_tier",
    }
)
_NULL_IN_A_USAGE: Final = ("server_tool_use",)
_LIFETIMES: Final = frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"})
_THOUGHTS: Final = frozenset({"thinking_tokens"})
#: https://platform.claude.com/docs/en/build-with-claude/streaming
_TYPE: Final = frozenset({"type"})
_BLOCK_EVENT: Final = frozenset({"type", "index", "content_block"})
_NO_TEXT: Final = {"type": "text", "text": ""}
_MESSAGE_START: Final = frozenset({"type", "message"})
_MESSAGE_DELTA: Final = frozenset({"type", "delta", "usage"})
_DELTA: Final = frozenset({"stop_reason", "stop_sequence"})

#: https://ai.google.dev/api/generate-content
_ANSWER: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
_CANDIDATE: Final = frozenset({"content", "finishReason", "index", "avgLogprobs"})
_CONTENT: Final = frozenset({"parts", "role"})
_PART: Final = frozenset({"text"})
_GEMINIS_ENDS: Final = {"STOP": "stop", "MAX_TOKENS": "length"}
_GEMINIS_USAGE: Final = frozenset(
    {
        "promptTokenCount",
        "candidatesTokenCount",
        "totalTokenCount",
        "thoughtsTokenCount",
        "cachedContentTokenCount",
        "promptTokensDetails",
        "candidatesTokensDetails",
        "cacheTokensDetails",
        "serviceTier",
    }
)
_DETAIL: Final = frozenset({"modality", "tokenCount"})


class _NotPlain(Exception):
    """Something of the answer is litellm's to read."""


class Rest(NamedTuple):
    """What an event of a stream says beside its text."""

    text: str = ""
    end: str | None = None  # OpenAI's finish reason
    is_count: bool = False  # whether it is one of the events that count the answer


def of_anthropic(message: Json, model: str) -> Json | None:
    """A message of Anthropic's as a `chat.completion`. None: it is not text alone."""
    try:
        known = _known(message, _MESSAGE, null=_NULL_IN_A_MESSAGE)
        block = _known(_only(known.get("content")), _BLOCK)
        end = _CLAUDES_ENDS.get(_word(known.get("stop_reason")))
        if block.get("type") != "text" or end is None:
            return None
        choice = _choice(_word(block.get("text")), end)
        _word(known.get("model"))
        return _completion(f"chatcmpl-{uuid.uuid4()}", model, choice, _claudes_usage(known.get("usage")))
    except _NotPlain:
        return None


def _claudes_usage(reported: object) -> Json:
    """What was read from the cache, and what was written into it, is counted beside `input_tokens`."""
    known = _known(reported, _CLAUDES_USAGE, null=_NULL_IN_A_USAGE)
    plain, output = _count(known.get("input_tokens")), _count(known.get("output_tokens"))
    written = _count(known.get("cache_creation_input_tokens") or 0)
    read = _count(known.get("cache_read_input_tokens") or 0)
    thoughts = 0
    if (details := known.get("output_tokens_details")) is not None:
        thoughts = min(_count(_known(details, _THOUGHTS).get("thinking_tokens")), output)
    prompt: Json = {
        "cache_write_tokens": written,
        "cached_tokens": read,
        "text_tokens": plain,
        "cache_creation_tokens": written,
    }
    if (lifetimes := known.get("cache_creation")) is not None:
        counts = _known(lifetimes, _LIFETIMES)
        prompt["cache_creation_token_details"] = {
            "ephemeral_5m_input_tokens": _count(counts.get("ephemeral_5m_input_tokens")),
            "ephemeral_1h_input_tokens": _count(counts.get("ephemeral_1h_input_tokens")),
        }
    usage: Json = {
        **_totals(plain + written + read, output, plain + written + read + output),
        "completion_tokens_details": {"reasoning_tokens": thoughts, "text_tokens": output - thoughts},
        "prompt_tokens_details": prompt,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
    }
    for name in ("inference_geo", "service_tier"):
        if (word := known.get(name)) is not None:
            usage[name] = _word(word)
    return usage


def of_anthropics_event(event: Json) -> Rest | None:
    """An event around the text of a stream. None: the answer is not text alone."""
    kind = event.get("type")
    try:
        if kind in ("ping", "message_stop"):
            _known(event, _TYPE)
            return Rest()
        if kind in ("content_block_start", "content_block_stop"):
            known = _known(event, _BLOCK_EVENT)
            return Rest() if known.get("content_block", _NO_TEXT) == _NO_TEXT else None
        if kind == "message_start":
            begun = _known(_known(event, _MESSAGE_START).get("message"), _MESSAGE, null=_NULL_IN_A_MESSAGE)
            return Rest(is_count=True) if begun.get("content") == [] and not begun.get("stop_reason") else None
        if kind == "message_delta":
            delta = _known(_known(event, _MESSAGE_DELTA).get("delta"), _DELTA, null=_NULL_IN_A_MESSAGE)
            end = _CLAUDES_ENDS.get(_word(delta.get("stop_reason")))
            return None if end is None else Rest(end=end, is_count=True)
    except _NotPlain:
        pass
    return None


def anthropics_usage(events: Sequence[Json]) -> Json | None:
    """The usage that these events have counted, each going on from those before it."""
    reported: Json = {}
    try:
        for event in events:
            counted = _known(event.get("message", event).get("usage"), _CLAUDES_USAGE, null=_NULL_IN_A_USAGE)
            reported |= lasting_counts(counted)
        return _claudes_usage(reported)
    except _NotPlain:
        return None


def of_gemini(answer: Json, model: str, tier: str | None) -> Json | None:
    """An answer of Gemini's as a `chat.completion`. None: it is not text alone. ``tier``: what its headers say."""
    try:
        known = _known(answer, _ANSWER)
        _word(known.get("modelVersion"))
        candidate = _known(_only(known.get("candidates")), _CANDIDATE)
        part = _known(_only(_known(candidate.get("content"), _CONTENT).get("parts")), _PART)
        text, reason = _word(part.get("text")), _word(candidate.get("finishReason"))
        end = _GEMINIS_ENDS.get(reason)
        if end is None or _count(candidate.get("index", 0)) or text.startswith("data:audio"):  # litellm plays that
            return None
        choice = _choice(text, end, provider_specific_fields={"native_finish_reason": reason})
        usage = _geminis_usage(known.get("usageMetadata"))
        body = _completion(_word(known.get("responseId")), model, choice, usage)
    except _NotPlain:
        return None
    if tier:
        body["service_tier"] = "default" if tier.lower() == "standard" else tier.lower()
        body["usage"] = body.pop("usage")
    return body


def of_geminis_event(event: Json) -> Rest | None:
    """The last event of a stream. None: the answer is not text alone."""
    try:
        known = _known(event, _ANSWER)
        candidate = _known(_only(known.get("candidates")), _CANDIDATE)
        end = _GEMINIS_ENDS.get(_word(candidate.get("finishReason")))
        if end is None or _count(candidate.get("index", 0)):
            return None
        text: object = ""
        if "content" in candidate:
            text = _known(_only(_known(candidate["content"], _CONTENT).get("parts")), _PART).get("text")
        if type(text) is not str or text.startswith("data:audio"):
            return None
        return Rest(text, end, is_count="usageMetadata" in event)
    except _NotPlain:
        return None


def geminis_usage(events: Sequence[Json]) -> Json | None:
    """The usage that the last of these events has counted."""
    try:
        return _geminis_usage(events[-1].get("usageMetadata"))
    except _NotPlain:
        return None


def _geminis_usage(reported: object) -> Json:
    """Thoughts are counted beside the answer, unless the total says otherwise; what was cached, in the prompt."""
    known = _known(reported, _GEMINIS_USAGE)
    prompt, said = _count(known.get("promptTokenCount")), _count(known.get("candidatesTokenCount"))
    total = _count(known.get("totalTokenCount"))
    prompt_text, cached = _text_tokens(known.get("promptTokensDetails")), known.get("cachedContentTokenCount")
    if not said or not total:
        raise _NotPlain
    output: Json = {"text_tokens": said}
    if "candidatesTokensDetails" in known:
        output["text_tokens"] = _text_tokens(known["candidatesTokensDetails"])
    completion = said
    if "thoughtsTokenCount" in known:
        thoughts = _count(known["thoughtsTokenCount"])
        output = {"reasoning_tokens": thoughts, **output}
        completion = said if prompt + said == total else said + thoughts
    details: Json = {"text_tokens": prompt_text}
    if "cachedContentTokenCount" in known:
        details = {"cached_tokens": _count(cached), "text_tokens": prompt_text - _count(cached)}
    if "cacheTokensDetails" in known:
        details["text_tokens"] = prompt_text
        details["cached_tokens_details"] = {"text_tokens": _text_tokens(known["cacheTokensDetails"])}
    usage: Json = {
        **_totals(prompt, completion, total),
        "completion_tokens_details": output,
        "prompt_tokens_details": details,
    }
    if "cachedContentTokenCount" in known:
        usage["cache_read_input_tokens"] = cached
    return usage


def _text_tokens(details: object) -> int:
    """The count of the text, where there is nothing but text."""
    detail = _known(_only(details), _DETAIL)
    if detail.get("modality") != "TEXT":
        raise _NotPlain
    return _count(detail.get("tokenCount"))


# --- both -----------------------------------------------------------------------------------------------------------


def _completion(identity: str, model: str, choice: Json, usage: Json) -> Json:
    return {
        "id": identity,
        "created": int(time.time()),
        "model": model,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage,
    }


def _choice(text: str, end: str, **more: Json) -> Json:
    message = {"content": text, "role": "assistant", "refusal": None}
    return {"finish_reason": end, "index": 0, "message": message, **more, "logprobs": None}


def _totals(prompt: int, completion: int, total: int) -> Json:
    return {
        "completion_tokens": _count(completion),
        "prompt_tokens": _count(prompt),
        "total_tokens": total,
    }


def _known(value: object, names: Set[str], null: Collection[str] = ()) -> Json:
    """The value, when it is an object with no other fields, but for such as are null."""
    if type(value) is dict and (
        value.keys() <= names or all(name in null and value[name] is None for name in value.keys() - names)
    ):
        return value
    raise _NotPlain


def _only(value: object) -> object:
    if type(value) is list and len(value) == 1:
        return value[0]
    raise _NotPlain


def _word(value: object) -> str:
    if type(value) is str and value:
        return value
    raise _NotPlain


def _count(value: object) -> int:
    if type(value) is int and 0 <= value <= MAX_TOKENS:
        return value
    raise _NotPlain
