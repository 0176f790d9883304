"""Names of functions that a provider of OpenAI's format takes, and back."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from routing.upstreams.base import Json

#: https://platform.openai.com/docs/api-reference/chat/create: letters, digits, `_`, `-`, up to 64. Most servers read
#: names so; names of MCP's tools, and of Anthropic's clients, have up to 128.
_TAKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST: Final = 64


def names_told(body: Json) -> dict[str, str]:
    """Gives functions names that the provider takes, in the tools, in their choice and in the conversation. Returns
    the client's names by the new ones. Changes only copies of what is in the body."""
    odd = dict.fromkeys(name for holder in _holders(body) if (name := _odd(holder)))
    if not odd:
        return {}
    for part in ("tools", "tool_choice", "messages"):
        if part in body:
            body[part] = copy.deepcopy(body[part])
    taken = {str(holder.get("name")) for holder in _holders(body)}
    told: dict[str, str] = {}
    for name in odd:
        told[name] = _free(name, taken)
        taken.add(told[name])
    for holder in _holders(body):
        if (old := holder.get("name")) in told:
            holder["name"] = told[str(old)]
    return {new: name for name, new in told.items()}


def write_names(choices: list[Json], part: str, names: Mapping[str, str]) -> None:
    """Writes the client's names into an answer's calls."""
    for choice in choices:
        said = choice.get(part)
        for call in (said.get("tool_calls") if isinstance(said, dict) else None) or ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and function.get("name") in names:
                function["name"] = names[function["name"]]


def _odd(holder: Json) -> str:
    name = holder.get("name")
    return name if isinstance(name, str) and name and not _TAKEN.fullmatch(name) else ""


def _holders(body: Json) -> Iterator[Json]:
    """Everything that has a function's name."""
    choice = body.get("tool_choice")
    several = choice.get("allowed_tools") if isinstance(choice, dict) else None
    allowed = several.get("tools") if isinstance(several, dict) else None
    for tool in (*_listed(body.get("tools")), choice, *_listed(allowed)):
        yield from _function(tool)
    for message in _listed(body.get("messages")):
        if isinstance(message, dict):
            for call in _listed(message.get("tool_calls")):
                yield from _function(call)
            if message.get("role") == "tool":
                yield message


def _function(holder: Any) -> Iterator[Json]:
    function = holder.get("function") if isinstance(holder, dict) else None
    if isinstance(function, dict):
        yield function


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _free(name: str, taken: set[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    new, number = plain[:_LONGEST], 2
    while new in taken:
        new, number = f"{plain[: _LONGEST - 6]}_{number}", number + 1
    return new
