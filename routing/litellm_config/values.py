"""Checks the types of the file's values. An error names the place and never repeats a value, which may be a key."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

_MOST_DIGITS = 40  # before or after the point: what is beyond is a slip, and may take hours to compute with
_VARIABLE = "os.environ/"


class InvalidConfig(Exception):
    """The file is wrong at the named place."""

    def __init__(self, place: str, problem: str, line: str = "") -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem
        self.line = line


class Fields(dict[str, Any]):
    """A mapping of the file. ``lines`` says where each value stands."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, str] = {}


class Items(list[Any]):
    """A list of the file. ``lines`` says where each element stands."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with a YAML tag that nobody here gives a meaning, such as ``!secret openai``."""

    tag: str


@dataclass(frozen=True, slots=True)
class Found:
    """A value of the file, and where it stands. ``os.environ/NAME`` is what the environment has under that name."""

    raw: Any
    path: str
    line: str  # "line 12", and "of" its file when that is an included one
    environment: Mapping[str, str] = field(repr=False)
    key: str = ""  # by which a mapping has it

    def refused(self, problem: str) -> InvalidConfig:
        return InvalidConfig(self.path, problem, self.line)

    @property
    def is_empty(self) -> bool:
        """Whether it is YAML's null, which a name without a value has."""
        return self.raw is None

    @property
    def variable(self) -> str | None:
        """The name in ``os.environ/NAME``."""
        is_one = isinstance(self.raw, str) and self.raw.strip().startswith(_VARIABLE)
        return self.raw.strip().removeprefix(_VARIABLE) if is_one else None

    @property
    def value(self) -> Any:
        """Raises InvalidConfig when a variable is not set."""
        if isinstance(self.raw, Tagged):
            raise self.refused(f"nobody here knows the YAML tag {self.raw.tag}; write os.environ/NAME")
        variable = self.variable
        if variable is None:
            return self.raw
        if not self.environment.get(variable):
            raise self.refused(f"the environment variable {variable} is not set")
        return self.environment[variable]

    # --- its parts ----------------------------------------------------------------------------------------------

    def fields(self) -> dict[str, Found]:
        """The values of a mapping by their names. A name without a value is no field."""
        found = self.value
        if isinstance(found, str) and self.variable is not None:
            found = _from_json(found)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise self.refused("must be a mapping (name: value)")
        lines = found.lines if isinstance(found, Fields) else {}
        return {
            str(name): Found(
                item,
                f"{self.path}.{name}" if self.path else str(name),
                lines.get(name, self.line),
                self.environment,
                key=str(name),
            )
            for name, item in found.items()
        }

    def items(self) -> Iterator[Found]:
        found = self.value
        if isinstance(found, str) and self.variable is not None:  # a list in a variable: JSON, or with commas
            found = _from_json(found) if found.strip().startswith("[") else found.split(",")
        if found is None:
            return
        if not isinstance(found, list):
            raise self.refused("must be a list")
        lines = found.lines if isinstance(found, Items) else [self.line] * len(found)
        for index, (item, line) in enumerate(zip(found, lines, strict=True)):
            yield Found(item, f"{self.path}[{index}]", line, self.environment)

    def name(self) -> str:
        """The last part of the path, which may be ``os.environ/NAME`` too. Raises InvalidConfig."""
        return Found(self.key, self.path, self.line, self.environment).text()

    # --- what it must be ----------------------------------------------------------------------------------------

    def text(self) -> str:
        found = self.value
        if isinstance(found, dt.date):  # an api_version without quotes
            found = found.isoformat()
        if not isinstance(found, str) or not found.strip():
            raise self.refused("must be text, and not empty")
        if not found.strip().isprintable():  # also NUL and lone surrogates, which the database refuses
            raise self.refused("must not have control characters")
        return found.strip()

    def number(self) -> Decimal:
        found = self.value
        try:
            number = Decimal(str(found))
        except (InvalidOperation, ValueError):
            number = Decimal(-1)
        is_within = number.is_finite() and number >= 0 and abs(number.adjusted()) <= _MOST_DIGITS
        if isinstance(found, bool) or not is_within:
            raise self.refused("must be a number, 0 or more")
        return number

    def whole(self, *, least: int) -> int:
        found = self.number()
        if found != int(found) or found < least:
            raise self.refused(f"must be a whole number, {least} or more")
        return int(found)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
