"""What a person is told about the file. What is said of many places is said once, with their number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from routing.litellm_config.values import InvalidConfig

_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Remark:
    """``place`` is the path of a key in the file, ``name`` the alias when the remark is about one entry."""

    place: str
    line: str = ""
    why: str = ""
    name: str = ""

    @classmethod
    def of(cls, error: InvalidConfig, name: str = "", line: str = "") -> Remark:
        return cls(error.place, error.line or line, error.problem, name)


def said_once(remarks: Iterable[Remark]) -> list[str]:
    """A line a remark. Those that differ only in the place are one line, which names the first places."""
    alike: dict[tuple[str, str, bool], list[Remark]] = {}
    for remark in dict.fromkeys(remarks):
        kind = (_INDEX.sub("[]", remark.place), remark.why, bool(remark.name))
        alike.setdefault(kind, []).append(remark)
    return [_line(place, why, found) for (place, why, _), found in alike.items()]


def _line(place: str, why: str, found: list[Remark]) -> str:
    tail = f": {why}" if why else ""
    if len(found) == 1:
        (only,) = found
        name = f" ({only.name})" if only.name else ""
        line = f", {only.line}" if only.line else ""
        return f"{only.place}{name}{line}{tail}"
    first = f", first in {found[0].line}" if found[0].line else ""
    if not found[0].name:
        return f"{place} ({len(found)} times{first}){tail}"
    names = [f"{remark.name} in {remark.line}" if remark.line else remark.name for remark in found]
    return f"{place} ({len(found)} times: {', '.join(names)}){tail}"
