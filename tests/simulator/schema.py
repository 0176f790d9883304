"""An instance of a JSON schema: what a model answers when it must answer in that shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEEPEST = 8
_STRINGS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "email": "someone@example.com",
    "uuid": "01234567-89ab-4cde-8f01-23456789abcd",
    "uri": "https://example.com/",
}


def instance_of(schema: Mapping[str, Any], hint: str = "value") -> Any:
    """A value that satisfies a simple schema: types, enum, const, required and optional properties, items,
    bounds, formats, `$ref` into the same document, anyOf/oneOf/allOf, and Gemini's upper-case types and
    `nullable`. Strings are the name of their property, so that a test can tell them apart. Always the same
    value."""
    return _build(schema, schema, hint, 0)


def _build(  # noqa: C901, PLR0912 - one branch a keyword
    schema: Mapping[str, Any], root: Mapping[str, Any], hint: str, depth: int
) -> Any:
    if "$ref" in schema:
        return _build(_resolve(schema["$ref"], root), root, hint, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    for key in ("anyOf", "any_of", "oneOf"):
        if schema.get(key):
            return _build(_choose(schema[key], depth), root, hint, depth + 1)
    if schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            found = _resolve(part["$ref"], root) if "$ref" in part else part
            merged = {
                **merged,
                **found,
                "properties": {**merged.get("properties", {}), **found.get("properties", {})},
            }
        return _build(merged, root, hint, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    kind = str(kind).lower()
    if kind == "object":
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = schema.get("required", list(properties))
        names = [name for name in properties if name in required] if depth >= _DEEPEST else list(properties)
        return {name: _build(properties[name], root, name, depth + 1) for name in names}
    if kind == "array":
        least = int(schema.get("minItems", schema.get("min_items", 0 if depth >= _DEEPEST else 1)))
        item = schema.get("items") or {"type": "string"}
        return [_build(item, root, hint, depth + 1) for _ in range(least)]
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        return min(least, schema.get("maximum", schema.get("exclusiveMaximum", least + 1) - 1))
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    text = _STRINGS.get(str(schema.get("format")), hint)
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _choose(options: list[Mapping[str, Any]], depth: int) -> Mapping[str, Any]:
    null = next((option for option in options if option.get("type") == "null"), None)
    if null is not None and depth >= _DEEPEST:  # the way out of a recursive schema
        return null
    return next((option for option in options if option.get("type") != "null"), options[0])


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        if part:
            found = found[part.replace("~1", "/").replace("~0", "~")]
    return found  # type: ignore[no-any-return]
