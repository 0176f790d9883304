"""Checks the types of the file's values. An error names the place and never repeats a value, which may be a key."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import yaml


class InvalidConfig(Exception):
    """The file is wrong at the named place. Nothing was applied."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


def document(text: str) -> dict[str, Any]:
    """The file's sections. Raises InvalidConfig."""
    try:
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        # The error's own text would quote the line, which may hold a key.
        mark = error.problem_mark
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise InvalidConfig("the file", f"is not YAML{place}") from None
    except yaml.YAMLError:
        raise InvalidConfig("the file", "is not YAML: it has characters that YAML does not allow") from None
    except (ValueError, RecursionError):
        raise InvalidConfig("the file", "is not YAML: it has a value that cannot be read") from None
    return mapping(or_empty(value, {}), "the file")


def variable(text: str) -> str | None:
    """The name in ``os.environ/NAME``."""
    return text.removeprefix("os.environ/") if text.startswith("os.environ/") else None


def or_empty(value: Any, empty: Any) -> Any:
    """The value, or ``empty`` for YAML's null, which a name without a value has. Callers refuse other wrong types."""
    return empty if value is None else value


def mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidConfig(where, "must be a mapping (name: value)")
    return {str(name): item for name, item in value.items()}


def sequence(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidConfig(where, "must be a list")
    return value


def text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidConfig(where, "must be text, and not empty")
    if not value.strip().isprintable():  # also NUL and lone surrogates, which the database refuses
        raise InvalidConfig(where, "must not have control characters")
    return value.strip()


def number(value: Any, where: str) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal(-1)
    if isinstance(value, bool) or not found.is_finite() or found < 0:
        raise InvalidConfig(where, "must be a number, 0 or more")
    return found


def whole(value: Any, where: str, *, least: int) -> int:
    found = number(value, where)
    if found != int(found) or found < least:
        raise InvalidConfig(where, f"must be a whole number, {least} or more")
    return int(found)
