"""The tools of a request of Responses as tools of a chat, and which of them a call is of.

https://platform.openai.com/docs/api-reference/responses/create#responses-create-tools
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.responses_dialect import SEAM

#: What a chat model is told of a tool whose input is free text: a function with one parameter.
INPUT: Final = "input"
_FREE_TEXT: Final = {"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]}


@dataclass(frozen=True, slots=True)
class Called:
    """What a call is of, in the words of the client."""

    name: str
    namespace: str | None = None
    is_custom: bool = False

    @property
    def kind(self) -> str:
        return "custom_tool_call" if self.is_custom else "function_call"


@dataclass(frozen=True, slots=True)
class Tools:
    """``offered`` is in chat's format. ``left_out``: the provider's own tools, which a chat model cannot be offered."""

    offered: tuple[Json, ...] = ()
    by_name: Mapping[str, Called] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def called(self, name: str) -> Called:
        return self.by_name.get(name) or Called(name)


def read_tools(tools: Any) -> Tools:
    """``tools`` is a list of objects with a ``type``."""
    offered: list[Json] = []
    by_name: dict[str, Called] = {}
    left_out: list[str] = []
    for index, tool in enumerate(tools or ()):
        found = list(_offered(tool))
        if not found:
            left_out.append(f"tools[{index}]")
        for told, called in found:
            offered.append(told)
            by_name[told["function"]["name"]] = called
    return Tools(tuple(offered), by_name, tuple(left_out))


def _offered(tool: Mapping[str, Any]) -> Iterator[tuple[Json, Called]]:
    match tool.get("type"):
        case "function":
            yield _function(tool, str(tool.get("name"))), Called(str(tool.get("name")))
        case "custom":
            name = str(tool.get("name"))
            told = {**tool, "parameters": _FREE_TEXT, "strict": None, "description": _described(tool)}
            yield _function(told, name), Called(name, is_custom=True)
        case "namespace":
            space = str(tool.get("name"))
            for inner in tool.get("tools") or ():
                if isinstance(inner, dict) and inner.get("type") in ("function", "custom"):
                    for told, called in _offered(inner):
                        told["function"]["name"] = joined(space, called.name)
                        yield told, Called(called.name, space, called.is_custom)


def joined(namespace: str | None, name: str) -> str:
    return f"{namespace}{SEAM}{name}" if namespace else name


def _function(tool: Mapping[str, Any], name: str) -> Json:
    function: Json = {"name": name}
    function |= {key: tool[key] for key in ("description", "parameters", "strict") if tool.get(key) is not None}
    return {"type": "function", "function": function}


def _described(tool: Mapping[str, Any]) -> str:
    """The grammar of a tool's input is told in words, as chat has no place for it."""
    said = [str(tool.get("description") or "")]
    shape = tool.get("format")
    if isinstance(shape, dict) and shape.get("definition"):
        said.append(f"The input must follow this {shape.get('syntax') or 'grammar'}:\n{shape['definition']}")
    return "\n\n".join(filter(None, said))


def choice_as_chat(choice: Any) -> Any:
    """The tool that must be called, in chat's format; None when that says nothing that chat has a word for."""
    if isinstance(choice, str):
        return choice
    if not isinstance(choice, dict):
        return None
    match choice.get("type"):
        case "function" | "custom":
            return {"type": "function", "function": {"name": joined(choice.get("namespace"), str(choice.get("name")))}}
        case "allowed_tools":
            allowed = [
                {"type": "function", "function": {"name": joined(tool.get("namespace"), str(tool.get("name")))}}
                for tool in choice.get("tools") or ()
                if isinstance(tool, dict) and tool.get("name")
            ]
            return {"type": "allowed_tools", "allowed_tools": {"mode": choice.get("mode") or "auto", "tools": allowed}}
    return None


def free_text(arguments: str) -> str:
    """What a model that was offered a function has written for a tool whose input is free text."""
    try:
        read = json.loads(arguments)
    except ValueError:
        return arguments
    text = read.get(INPUT) if isinstance(read, dict) else None
    return text if isinstance(text, str) else arguments
