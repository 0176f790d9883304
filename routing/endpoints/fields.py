"""Reads the fields of a request's body that several endpoints have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from accounting.text import storable
from routing.exceptions import InvalidRequest, MissingParameter

MAX_TAGS = 16  # OpenAI's limit of `metadata` pairs
MAX_TAG_CHARACTERS = 512
MAX_END_USER_CHARACTERS = 200


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


def alias_of(body: Mapping[str, Any]) -> str:
    """The field ``model``: the name of an alias."""
    model = required(body, "model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("'model' must be a non-empty string.", param="model")
    return model


def end_user_of(body: Mapping[str, Any]) -> str:
    return storable(optional(body, "user", str, "a string") or "", MAX_END_USER_CHARACTERS)


def tags_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The caller's ``metadata``, for the books. Values that are not text are kept as JSON text."""
    metadata = optional(body, "metadata", dict, "an object") or {}
    if len(metadata) > MAX_TAGS:
        raise InvalidRequest(f"'metadata' may have {MAX_TAGS} pairs at the most.", param="metadata")
    return {
        storable(name, 64): storable(value if isinstance(value, str) else json.dumps(value), MAX_TAG_CHARACTERS)
        for name, value in metadata.items()
    }
