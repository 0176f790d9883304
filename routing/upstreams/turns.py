"""In which order a provider of OpenAI's format is told a conversation.

Most take the turns as they come. Some model's templates want one system message at the beginning, or turns of the user
and of the assistant by turns; Mistral wants the assistant to speak between a tool's result and the user. Nobody's
words are changed and none are added: turns are joined, moved, or separated by a space.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal

from routing.upstreams.base import Json
from routing.upstreams.mends.conversation import with_a_result_for_every_call

#: `system_first`: one system message, at the beginning. `alternate`: no two turns of one side. `bridge`: a turn of the
#: assistant between a tool's result and the user. `go_on`: the assistant's last turn is one to go on with. `thought`:
#: every turn of the assistant has a thought. `answer_calls`: every call has its result, every result its call.
#: `no_thinking`, `free_choice`, `say_json`: what `dialects` does about parameters.
Manner = Literal[
    "system_first",
    "alternate",
    "bridge",
    "go_on",
    "thought",
    "answer_calls",
    "no_thinking",
    "free_choice",
    "say_json",
]
_SYSTEM: Final = ("system", "developer")
#: Says nothing, and is not empty: DeepSeek refuses an empty thought, Mistral an empty turn.
_BLANK: Final = " "


def arranged(messages: list[Any], manners: Collection[Manner]) -> list[Any]:
    """The conversation in the provider's order. Changes only copies."""
    if not all(isinstance(message, dict) for message in messages):
        return messages  # the provider says what is wrong with it
    if "answer_calls" in manners:
        messages = _with_answered_calls(messages)
    if "system_first" in manners or "alternate" in manners:
        messages = _with_the_system_first(messages)
    if "alternate" in manners:
        messages = _in_turns(messages)
    if "bridge" in manners:
        messages = _bridged(messages)
    if "go_on" in manners and messages and _is_begun(messages[-1]):
        messages = [*messages[:-1], {**messages[-1], "prefix": True}]
    if "thought" in manners:
        messages = [_with_a_thought(message) for message in messages]
    return messages


def _with_answered_calls(messages: list[Json]) -> list[Json]:
    """OpenAI: "An assistant message with 'tool_calls' must be followed by tool messages responding to each
    'tool_call_id'". Claude and Gemini are told such histories so, too."""
    if not all(_has_called_by_id(message) for message in messages):
        return messages
    return with_a_result_for_every_call(messages)


def _has_called_by_id(message: Json) -> bool:
    calls = message.get("tool_calls") or []
    return isinstance(calls, list) and all(isinstance(c, dict) and isinstance(c.get("id"), str) for c in calls)


def _with_the_system_first(messages: list[Json]) -> list[Json]:
    """https://huggingface.co/Qwen/Qwen3.5-27B/blob/main/chat_template.jinja"""
    said = [message for message in messages if message.get("role") in _SYSTEM]
    if not said:
        return messages
    first = said[0]
    for message in said[1:]:
        first = _joined(first, message)
    return [first, *(message for message in messages if message.get("role") not in _SYSTEM)]


def _in_turns(messages: list[Json]) -> list[Json]:
    """https://docs.perplexity.ai/api-reference/sonar-post"""
    told: list[Json] = []
    for message in messages:
        if told and _may_be_joined(told[-1], message):
            told[-1] = _joined(told[-1], message)
        else:
            told.append(message)
    return told


def _may_be_joined(one: Json, other: Json) -> bool:
    role = one.get("role")
    if role != other.get("role") or role == "tool":
        return False
    return not one.get("tool_calls") and not other.get("tool_calls")


def _joined(one: Json, other: Json) -> Json:
    contents = [message.get("content") for message in (one, other) if message.get("content")]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return {**one, "content": "\n\n".join(texts)}
    return {**one, "content": [part for content in contents for part in _parts(content)]}


def _parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _bridged(messages: list[Json]) -> list[Json]:
    """https://github.com/zed-industries/zed/issues/37021, which tells Mistral of such turns so."""
    told: list[Json] = []
    for message in messages:
        if told and told[-1].get("role") == "tool" and message.get("role") in ("user", *_SYSTEM):
            told.append({"role": "assistant", "content": _BLANK})
        told.append(message)
    return told


def _is_begun(message: Json) -> bool:
    return message.get("role") == "assistant" and not message.get("tool_calls") and bool(message.get("content"))


def _with_a_thought(message: Json) -> Json:
    """https://github.com/NousResearch/hermes-agent/pull/18263"""
    if message.get("role") != "assistant" or message.get("reasoning_content"):
        return message
    return {**message, "reasoning_content": _BLANK}
