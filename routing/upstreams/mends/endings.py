"""What comes back, so that litellm's parsers can read it and no end is taken for another."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from routing.upstreams.base import Json

#: Anthropic's ends that litellm calls `stop`, by the one that it knows to be no end of the answer: the answer is cut,
#: by the context window or by a tool of the server's that takes long.
#: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
_CUT: Final = {"model_context_window_exceeded": "max_tokens", "pause_turn": "max_tokens"}

#: Gemini's ends of a turn that failed: the model wrote a call, and it is none. litellm calls them `stop`.
#: https://ai.google.dev/api/generate-content#FinishReason
FAILED_TURNS: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    }
)


def with_known_stop_reason(event: Json) -> Json:
    """An Anthropic answer or event whose end litellm knows."""
    holder = event.get("delta") if event.get("type") == "message_delta" else event
    reason = holder.get("stop_reason") if isinstance(holder, dict) else None
    if not isinstance(holder, dict) or not isinstance(reason, str) or reason not in _CUT:
        return event
    known = {**holder, "stop_reason": _CUT[reason]}
    return {**event, "delta": known} if holder is not event else known


#: What Anthropic counts of the input, at the beginning of a stream.
_INPUT_COUNTS = frozenset({"input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"})


def lasting_counts(usage: Json) -> Json:
    """A `usage` of Anthropic's without the zeros of the input, which servers that copy the format write at the end of a
    stream for what was counted at its beginning. Whoever joins the two would take them for the newer count."""
    return {name: value for name, value in usage.items() if value or name not in _INPUT_COUNTS}


def with_lasting_counts(event: Json) -> Json:
    """The event at the end of a stream of Anthropic's, with the counts that may replace those of the beginning."""
    usage = event.get("usage") if event.get("type") == "message_delta" else None
    return {**event, "usage": lasting_counts(usage)} if isinstance(usage, dict) else event


def with_whole_calls(event: Json, names: Mapping[str, str]) -> Json:
    """A Gemini answer or event whose calls have arguments, which Google leaves out when they are none, and the
    client's names. https://ai.google.dev/api/caching#FunctionCall"""
    if all(call.get("args") is not None and str(call.get("name")) not in names for call in _calls(event)):
        return event
    event = copy.deepcopy(event)
    for call in _calls(event):
        if call.get("args") is None:
            call["args"] = {}
        call["name"] = names.get(str(call.get("name")), call.get("name"))
    return event


#: Gemini's ends of an answer that was stopped halfway for its content. Of such an answer litellm leaves out what was
#: said, the other candidates, and a part of the count.
STOPPED: Final = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"}
)


def with_what_was_said(event: Json) -> Json:
    """A Gemini answer or event whose end litellm calls `content_filter`, as it should, without emptying the answer."""
    candidates = event.get("candidates")
    if not any(candidate.get("finishReason") in STOPPED for candidate in _listed(candidates)):
        return event
    known = [
        {**candidate, "finishReason": "OTHER"} if candidate.get("finishReason") in STOPPED else candidate
        for candidate in _listed(candidates)
    ]
    return {**event, "candidates": known}


def _calls(event: Json) -> Iterator[Json]:
    for candidate in _listed(event.get("candidates")):
        for part in _parts(candidate):
            if isinstance(part.get("functionCall"), dict):
                yield part["functionCall"]


def failed_turn(event: Json) -> str | None:
    """Why Gemini's turn failed, if it did. Calls that did come out well are an answer all the same."""
    for candidate in _listed(event.get("candidates")):
        reason = candidate.get("finishReason")
        if (
            isinstance(reason, str)
            and reason in FAILED_TURNS
            and not any("functionCall" in part for part in _parts(candidate))
        ):
            return str(reason)
    return None


def _parts(candidate: Json) -> list[Json]:
    content = candidate.get("content")
    return _listed(content.get("parts") if isinstance(content, dict) else None)


def _listed(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_function_call(message: Json, *, is_whole: bool = False) -> Json:
    """A message or delta whose first tool call is written the old way, for a client that offered `functions`. In a
    whole message the first call may have any index: litellm counts Claude's thoughts too."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    old = {name: value for name, value in message.items() if name != "tool_calls"}
    first = next((call for call in calls if isinstance(call, dict) and (is_whole or call.get("index", 0) == 0)), None)
    if first is not None and isinstance(first.get("function"), dict):
        function = first["function"]
        old["function_call"] = {
            name: function[name] for name in ("name", "arguments") if function.get(name) is not None
        }
    return old


def write_function_calls(choices: list[Json], holder: Literal["message", "delta"]) -> None:
    """Writes the calls of an answer's choices, or of a chunk's, the old way."""
    for choice in choices:
        choice[holder] = as_function_call(choice[holder], is_whole=holder == "message")
        if choice.get("finish_reason") == "tool_calls":
            choice["finish_reason"] = "function_call"
