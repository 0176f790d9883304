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
#: `texts`: a content of text alone is one text. `pictures_by_user`: the user shows the pictures of tools and models.
#: `no_thinking`, `free_choice`, `say_json`, `loose`: what `dialects` does about parameters.
Manner = Literal[
    "system_first",
    "alternate",
    "bridge",
    "go_on",
    "thought",
    "answer_calls",
    "texts",
    "pictures_by_user",
    "no_thinking",
    "free_choice",
    "say_json",
    "loose",
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
    if "pictures_by_user" in manners:
        messages = _with_pictures_by_the_user(messages)
    if "texts" in manners:
        messages = [_with_one_text(message) for message in messages]
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


def _with_one_text(message: Json) -> Json:
    """https://github.com/BerriAI/litellm/issues/6642: "invalid type: sequence, expected a string". What has pictures
    stays as it is: the provider says that it sees none."""
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return {**message, "content": ""}
    if not isinstance(content, list) or not all(_is_text(part) for part in content):
        return message
    return {**message, "content": "\n\n".join(part["text"] for part in content)}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _with_pictures_by_the_user(messages: list[Json]) -> list[Json]:
    """OpenAI: "Image URLs are only allowed for messages with role 'user'". What a tool has shown is shown right behind
    all results of its turn. https://github.com/OpenHands/OpenHands/issues/7700"""
    told: list[Json] = []
    shown: list[Any] = []
    for message in messages:
        if shown and message.get("role") != "tool":
            told.append({"role": "user", "content": shown})
            shown = []
        content = message.get("content")
        if message.get("role") == "user" or not isinstance(content, list):
            told.append(message)
            continue
        pictures = [part for part in content if isinstance(part, dict) and part.get("type") == "image_url"]
        if not pictures:
            told.append(message)
            continue
        shown += pictures
        rest = [part for part in content if part not in pictures]
        told.append({**message, "content": rest or ""})
    return [*told, {"role": "user", "content": shown}] if shown else told
