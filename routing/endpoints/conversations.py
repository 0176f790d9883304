"""By what the requests of one conversation are known: what its client calls it, else how it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from accounting import json_text
from routing.serving.affinity import Affinity
from routing.serving.call import Call
from routing.upstreams.kinds import Kind

#: Headers that name a session, as WSGI names them. Claude Code, Codex and LiteLLM's clients send one of the last three.
SESSION_HEADERS: Final = (
    "HTTP_X_SESSION_ID",
    "HTTP_X_CLAUDE_CODE_SESSION_ID",
    "HTTP_SESSION_ID",
    "HTTP_X_LITELLM_SESSION_ID",
)
#: How many messages may stand before the first of the user's.
_MOST_BEFORE_USER: Final = 20


def affinity_of(call: Call, headers: Mapping[str, Any]) -> Affinity | None:
    """None: the call is no part of a conversation, so that no prompt cache knows it. ``headers`` are WSGI's."""
    body = getattr(call, "body", None)  # calls that bring files have none
    if call.kind is not Kind.CHAT or not isinstance(body, Mapping):
        return None
    return Affinity(lambda: _conversation(body, headers))


def _conversation(body: Mapping[str, Any], headers: Mapping[str, Any]) -> str:
    named = _named(body, headers)
    return "".join(_beginning(body)) if named is None else named


def _named(body: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
    """``prompt_cache_key``, a session's header, LiteLLM's ``litellm_session_id`` or ``metadata.session_id``, or the end
    user of Claude Code, which names the session in it."""
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    user = metadata.get("user_id")
    names = (
        body.get("prompt_cache_key"),
        *(headers.get(header) for header in SESSION_HEADERS),
        body.get("litellm_session_id"),
        metadata.get("session_id"),
        user if isinstance(user, str) and "session" in user else None,
    )
    return next((name for name in names if isinstance(name, str) and name), None)


def _beginning(body: Mapping[str, Any]) -> Iterator[str]:
    """The system's words and the first of the user's: what every later request of the conversation begins with."""
    for name in ("system", "instructions", "systemInstruction"):
        yield from _words(body.get(name))
    messages = next((body[name] for name in ("messages", "input", "contents") if name in body), None)
    if isinstance(messages, str):
        yield messages
        return
    for message in (messages or ())[:_MOST_BEFORE_USER]:
        if isinstance(message, Mapping):
            yield from _words(message.get("content", message.get("parts")))
            if message.get("role") == "user" or ("parts" in message and "role" not in message):
                return


def _words(content: Any) -> Iterator[str]:
    """Cache marks are left out: clients put them at other places in each request."""
    if isinstance(content, str):
        yield content
    if isinstance(content, Mapping):  # Google's instruction is a message
        content = content.get("parts")
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and isinstance(text := part.get("text"), str):
            yield text
        elif isinstance(part, Mapping):
            yield json_text.dumps({name: value for name, value in part.items() if name != "cache_control"}).decode()
