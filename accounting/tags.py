"""Tags of a request: text, or several texts, by name. Pure.

Clients send them as ``metadata``. A list of texts, as LiteLLM's ``metadata.tags``, is several values of one tag.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from accounting.text import storable

MAX_TAGS = 16  # OpenAI's limits of `metadata`
NAME_CHARACTERS = 64
VALUE_CHARACTERS = 512
MAX_VALUES = 64  # of one tag

Tags: TypeAlias = Mapping[str, str | list[str]]


def read_tags(metadata: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """The tags that a client sent. What is neither text nor a list of texts is kept as JSON text."""
    return {storable(name, NAME_CHARACTERS): _value(value) for name, value in metadata.items()}


def has_tag(tags: Tags, name_and_value: str) -> bool:
    """Whether ``name=value`` is among the tags."""
    name, _, value = name_and_value.partition("=")
    found = tags.get(name)
    return value in found if isinstance(found, list) else found == value


def _value(value: object) -> str | list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [storable(item, VALUE_CHARACTERS) for item in value]
    return storable(value if isinstance(value, str) else json.dumps(value), VALUE_CHARACTERS)
