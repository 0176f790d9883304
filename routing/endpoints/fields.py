"""Reads the fields of a request's body that several endpoints have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounting.tags import MAX_TAGS, MAX_VALUES, NAME_CHARACTERS, Tags, read_tags
from accounting.text import storable
from routing.exceptions import InvalidRequest, MissingParameter

MAX_END_USER_CHARACTERS = 200
#: What a conversation may have. Validating and translating one of these takes up to 0.1 ms, in which nobody else is
#: served, and litellm compares the calls of a message with each other.
MAX_MESSAGES = 10_000
MAX_PARTS = 10_000  # of all messages together
MAX_CALLS = 5_000  # likewise
MAX_CALLS_A_MESSAGE = 128
MAX_TOOLS = 1_000


def required(body: Mapping[str, Any], name: str) -> Any:
    if body.get(name) is None:
        raise MissingParameter(f"'{name}' is required.", param=name)
    return body[name]


def optional(body: Mapping[str, Any], name: str, kind: type, words: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(f"'{name}' must be {words}.", param=name)
    return value


def whole_number(body: Mapping[str, Any], name: str, *, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidRequest(f"'{name}' must be a whole number from 1 to {most}.", param=name)
    return value


def length_of(value: Any) -> int:
    """Of an array; 0 for what is none."""
    return len(value) if isinstance(value, list) else 0


def refuse_more_than(most: int, count: int, what: str, param: str) -> None:
    if count > most:
        raise InvalidRequest(f"There may be {most} {what} at the most, and there are {count}. Send fewer.", param=param)


def alias_of(body: Mapping[str, Any]) -> str:
    """The field ``model``: the name of an alias."""
    model = required(body, "model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("'model' must be a non-empty string.", param="model")
    return model


def end_user_of(body: Mapping[str, Any]) -> str:
    """OpenAI's older name for whom the client asks for, else its newer one."""
    named = [optional(body, name, str, "a string") for name in ("user", "safety_identifier")]
    return storable(next(filter(None, named), ""), MAX_END_USER_CHARACTERS)


def tags_of(body: Mapping[str, Any]) -> Tags:
    """The caller's ``metadata``, for the books."""
    metadata = optional(body, "metadata", dict, "an object") or {}
    if len(metadata) > MAX_TAGS:
        raise InvalidRequest(f"'metadata' may have {MAX_TAGS} pairs at the most.", param="metadata")
    for name, value in metadata.items():
        if isinstance(value, list) and len(value) > MAX_VALUES:
            where = f"metadata.{name[:NAME_CHARACTERS]}"
            raise InvalidRequest(f"'{where}' may have {MAX_VALUES} values at the most.", param=where)
    return read_tags(metadata)
