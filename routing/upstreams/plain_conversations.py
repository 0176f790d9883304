"""Conversations of text alone: of nobody but the system, the user and the assistant, and of no more than their words.

Most requests of a client differ from its last one in such a conversation alone. It is then put into the frame of an
earlier translation, and litellm is not asked (`translate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from accounting import json_text
from routing.upstreams.base import Json

#: Requests whose parameters are longer are not expected to come again with the same ones.
MAX_PARAMETERS_BYTES: Final = 1024
#: What stands beside the parameters, or is set anew for each provider.
_BESIDE: Final = frozenset({"model", "messages", "stream", "stream_options"})
#: Parameters whose values are those of an end user or of a request.
_OF_ONE_REQUEST: Final = frozenset({"user", "safety_identifier", "seed"})
_TEXT_PART: Final = {"type", "text"}


class Conversation(NamedTuple):
    """What was said, each text by itself. A turn has all that one side said until the other one spoke."""

    system: list[str]
    turns: list[tuple[str, list[str]]]  # (`user` or `assistant`, its texts); the user has the first and the last


#: With everything that a conversation can have, so that nothing of a provider's writing of it goes unseen.
_SPOKEN: Final[list[Json]] = [
    {"role": "user", "content": "Hello"},
    {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "is it?"}]},
    {"role": "assistant", "content": "A sample "},
    {"role": "user", "content": " And this?\n"},
]
_SYSTEM: Final[list[Json]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
]


def sample(*, with_system: bool) -> list[Json]:
    """Messages that :func:`conversation_of` reads."""
    return [*_SYSTEM, *_SPOKEN] if with_system else _SPOKEN


def conversation_of(body: Mapping[str, Any]) -> Conversation | None:
    """The request's conversation, if there is nothing in it but text that every provider takes as it is."""
    messages = body.get("messages")
    if type(messages) is not list:
        return None
    system: list[str] = []
    turns: list[tuple[str, list[str]]] = []
    last = ""
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        texts = _texts(message.get("content"))
        if texts is None:
            return None
        role = message.get("role")
        if role == last:
            turns[-1][1].extend(texts)
        elif role == "user" or (role == "assistant" and last):
            turns.append((role, texts))
            last = role
        elif role in ("system", "developer") and not last and len(texts) == 1:  # of several litellm joins some
            system += texts
        else:
            return None
    return Conversation(system, turns) if last == "user" else None


def _texts(content: object) -> list[str] | None:
    """Texts with words in them. Empty ones are mended elsewhere."""
    if type(content) is str:
        return [content] if content and not content.isspace() else None
    if type(content) is not list or not content:
        return None
    texts: list[str] = []
    for part in content:
        if type(part) is not dict or part.keys() != _TEXT_PART or part["type"] != "text":
            return None
        text = part["text"]
        if type(text) is not str or not text or text.isspace():
            return None
        texts.append(text)
    return texts


def parameters_of(body: Mapping[str, Any]) -> bytes | None:
    """All that the request asks for beside its conversation, as JSON, if it may well come again."""
    try:
        text = json_text.dumps_strictly({name: value for name, value in body.items() if name not in _BESIDE})
    except (TypeError, ValueError, RecursionError):
        return None
    return text if len(text) <= MAX_PARAMETERS_BYTES else None


def is_for_one(body: Mapping[str, Any]) -> bool:
    """Whether a parameter is only for one end user, or only for this request."""
    return not _OF_ONE_REQUEST.isdisjoint(body)
