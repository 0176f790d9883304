"""The tool calls of an answer, whole or in parts, in OpenAI's shape."""

from __future__ import annotations

import json
import uuid

from routing.upstreams.base import Json


class Calls:
    """The tool calls of one choice. Numbers calls that come without an `index`, or with the `index` of another call."""

    def __init__(self, *, numbered: bool = True) -> None:
        self._numbered = numbered  # the calls of a whole answer stand in order and need no index
        self._places: dict[object, int] = {}  # where each call stands, by the provider's index for it
        self._ids: list[object] = []  # of each call, in order
        self._names: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._ids)

    def conform(self, said: Json) -> None:
        """The tool calls of a message or a delta, in OpenAI's shape."""
        given = said["tool_calls"]
        calls = [call for call in given if type(call) is dict] if type(given) is list else []
        if not calls:
            del said["tool_calls"]
            return
        said["tool_calls"] = calls
        for call in calls:
            self._conform(call)

    def go_on(self, given: object) -> bool:
        """Whether this is a further part of the arguments of a call that has begun, in OpenAI's shape."""
        if type(given) is not list or len(given) != 1 or type(given[0]) is not dict:
            return False
        call = given[0]
        index, function = call.get("index"), call.get("function")
        return (
            call.get("id") is None
            and index is not None
            and self._places.get(index) == index
            and type(function) is dict
            and type(function.get("arguments")) is str
            and "name" not in function
        )

    def _conform(self, call: Json) -> None:
        content, text = _content_of_call(call)
        index, identity = call.get("index"), call.get("id")
        place = self._place(index if type(index) is int else None, identity, content)
        is_new = place == len(self._ids)
        if self._numbered:
            call["index"] = place
        if is_new:
            if not isinstance(identity, str) or not identity or identity in self._ids:
                call["id"] = f"call_{uuid.uuid4().hex[:24]}"
            if not isinstance(call.get("type"), str) or not call["type"]:
                call["type"] = "function" if content is call.get("function") else "custom"
            self._ids.append(identity)
            if not isinstance(content.get("name"), str):
                content["name"] = text_of(content.get("name"))
            self._names.append(content["name"])
        else:
            call.pop("id", None)  # the id comes once, because clients join the texts of all parts
            if "name" in content and content["name"] in (None, "", self._names[place]):
                del content["name"]
        if type(content.get(text)) is not str and (is_new or text in content):
            content[text] = arguments_of(content.get(text))
        if not self._numbered and text == "arguments" and not content.get(text):
            content[text] = "{}"  # whole, so that nothing follows: clients read it as JSON

    def _place(self, index: int | None, identity: object, function: Json) -> int:
        """The place of the call that a part belongs to.

        A part without an index belongs to the call with the same id. It begins a new call when its id or name is new,
        and goes on with the last call otherwise."""
        fresh = len(self._ids)
        if not self._numbered:
            return fresh  # those of a whole answer are whole
        if identity and identity in self._ids:
            place = self._ids.index(identity)
        elif index is not None and index in self._places:
            place = self._places[index]
            if identity and self._ids[place]:
                place = fresh  # Gemini gives the index 0 to all parallel calls
        elif index is not None or identity or function.get("name") or not self._ids:
            place = fresh
        else:
            place = fresh - 1
        if index is not None:
            self._places[index] = place
        return place


def _content_of_call(call: Json) -> tuple[Json, str]:
    """The part of a call that has its name, and what the call's text is named there.

    A custom tool's call has `custom`, and its later parts name no type. A call of a type that is not known keeps what
    it has, and gets its name and its text nowhere.
    """
    for name, text in (("function", "arguments"), ("custom", "input")):
        if type(content := call.get(name)) is dict:
            return content, text
    if call.get("type") not in (None, "", "function") and isinstance(call["type"], str):
        return {}, "input"
    call["function"] = {}
    return call["function"], "arguments"


def arguments_of(arguments: object) -> str:
    """A call's arguments as JSON text, as OpenAI writes them."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, separators=(",", ":"))


def text_of(value: object) -> str:
    """The text of a value that should be text: a text, a part with `text`, or a list of such parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(text_of, value))
    if isinstance(value, dict):
        return text_of(value.get("text"))
    return "" if value is None or isinstance(value, bool) else str(value)
