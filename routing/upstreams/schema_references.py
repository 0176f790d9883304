"""How long a JSON schema becomes when each `$ref` in it is replaced by what it names, as litellm may do it.

Definitions that name each other twice grow to gigabytes within two kilobytes. So the length is known before the first
byte is written: each definition is weighed once.
"""

from __future__ import annotations

import json
from typing import Any, Final

#: A schema that is longer with its references written out is no schema.
MAX_BYTES: Final = 10_000_000


class Endless(ValueError):
    """It cannot be written out."""


def written_out_bytes(schema: Any) -> int:
    """No fewer than the schema's bytes with its references written out. Raises Endless."""
    try:
        return _Scale(_definitions(schema)).weight(schema)
    except RecursionError:
        raise Endless("its references are nested too deeply") from None


def _definitions(schema: Any) -> dict[str, list[Any]]:
    """By name: litellm looks at a reference's last word alone, and a name may be given twice."""
    found: dict[str, list[Any]] = {}
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        elif isinstance(node, dict):
            todo.extend(node.values())
            for name in ("$defs", "definitions"):
                for defined, definition in node[name].items() if isinstance(node.get(name), dict) else ():
                    found.setdefault(defined, []).append(definition)
    return found


class _Scale:
    def __init__(self, definitions: dict[str, list[Any]]) -> None:
        self._definitions = definitions
        self._weights: dict[str, int | None] = {}  # None: it is being weighed

    def weight(self, node: Any) -> int:
        if isinstance(node, list):
            return 2 + sum(self.weight(item) + 1 for item in node)
        if not isinstance(node, dict):
            return len(json.dumps(node))
        total = 2 + sum(len(json.dumps(name)) + 2 + self.weight(value) for name, value in node.items())
        reference = node.get("$ref")
        if isinstance(reference, str):
            total += self._of_definition(reference.rpartition("/")[2])
        if total > MAX_BYTES:
            raise Endless("its references, written out, are too long")
        return total

    def _of_definition(self, name: str) -> int:
        if name not in self._weights:
            self._weights[name] = None
            self._weights[name] = max(map(self.weight, self._definitions.get(name, [None])))
        weight = self._weights[name]
        if weight is None:
            raise Endless("its references run in a circle")
        return weight
