"""JSON Schemas in the subset that a provider takes, with their meaning kept as far as it can be said there."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.mends.capability import cannot

#: What a schema may become once its references are written out. litellm writes them out without a bound: 2 kB of
#: nested references become gigabytes.
MAX_NODES: Final = 10_000
MAX_NODES_OF_TOOLS: Final = 100_000  # of all tools together

#: Where schemas keep definitions.
_STORES: Final = ("$defs", "definitions", "schemas")
_BRANCHES: Final = ("anyOf", "oneOf", "allOf")
_OF_A_MAP: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_OF_A_LIST: Final = (*_BRANCHES, "prefixItems")
_OF_ONE: Final = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")


def refuse_unbounded(schema: Any, param: str) -> int:
    """How many values the schema has when its references are written out, or more.

    Raises UpstreamError CAPABILITY when they go round in a circle or become too much.
    """
    try:
        return _WrittenOut(schema, param).nodes(schema)
    except RecursionError:
        raise cannot("The schema is nested too deep", param) from None


class _WrittenOut:
    """Counts each definition once, however often it is used.

    We find what a reference names by its whole path. litellm looks at the path's last word alone, and at every place
    that keeps definitions, wherever it is. So both count.
    """

    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._known: dict[str, int | None] = {}  # None: it is being counted
        self._definitions: dict[str, list[Any]] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                waiting.extend(node.values())
                for store in (node[name] for name in _STORES if isinstance(node.get(name), dict)):
                    for name, definition in store.items():
                        self._definitions.setdefault(name, []).append(definition)
            elif isinstance(node, list):
                waiting.extend(node)

    def nodes(self, node: Any) -> int:
        if isinstance(node, dict):
            total = 1 + sum(map(self.nodes, node.values()))
            reference = node.get("$ref")
            if isinstance(reference, str):
                total += self._of_target(reference)
        elif isinstance(node, list):
            total = 1 + sum(map(self.nodes, node))
        else:
            return 1
        if total > MAX_NODES:
            raise cannot(
                f"The schema is larger than {MAX_NODES} values when its references are written out", self._param
            )
        return total

    def _of_target(self, reference: str) -> int:
        if reference not in self._known:
            self._known[reference] = None
            by_name = self._definitions.get(reference.rpartition("/")[2], ())
            targets = {id(target): target for target in (_target(reference, self._root), *by_name)}
            self._known[reference] = max(map(self.nodes, targets.values()))
        count = self._known[reference]
        if count is None:
            shown = reference[:100]
            raise cannot(f"The schema refers to itself ('{shown}'), which this provider does not take", self._param)
        return count


def _target(reference: str, root: Any) -> Any:
    """What `#/…` names; None when it names nothing in this schema."""
    if not reference.startswith("#"):
        return None
    found = root
    for step in reference[1:].strip("/").split("/") if len(reference) > 2 else ():
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


# --- Anthropic ---------------------------------------------------------------------------------------------------


def tool_for_anthropic(schema: Any) -> Json:
    """A tool's parameters as Anthropic takes them: an object, without `anyOf`, `oneOf` and `allOf` at the top
    (https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools). litellm leaves them out, and with
    them the parameters."""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    schema = _with_defs(schema)
    for _ in range(32):  # a reference at the top, as pydantic writes it
        reference = schema.get("$ref")
        target = _target(reference, schema) if isinstance(reference, str) else None
        if not isinstance(target, dict) or target is schema:
            break
        schema = {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
    return _with_branches_joined(schema, schema) if any(name in schema for name in _BRANCHES) else schema


def _with_defs(schema: Json) -> Json:
    """The schema with its older `definitions` as `$defs`, which Anthropic reads; litellm would write them out."""
    if not isinstance(schema.get("definitions"), dict):
        return schema
    old = schema.pop("definitions")
    schema["$defs"] = {**old, **(schema["$defs"] if isinstance(schema.get("$defs"), dict) else {})}
    for node in every_schema(schema):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/definitions/"):
            node["$ref"] = "#/$defs/" + reference.removeprefix("#/definitions/")
    return schema


def _with_branches_joined(schema: Json, root: Json, seen: set[str] | None = None) -> Json:
    """One object with the properties of all branches; required is what every way of reading it requires.

    `seen`: the definitions that are part of it already. Each is joined once, so that this ends, and soon.
    """
    seen = set() if seen is None else seen
    properties: dict[str, list[Any]] = {name: [value] for name, value in _map(schema, "properties").items()}
    required = _required(schema)
    for word in _BRANCHES:
        branches = [_written_out(branch, root, seen) for branch in _new(_list(schema, word), seen)]
        objects = [branch for branch in branches if branch.get("type") != "null"]
        for branch in objects:
            for name, value in _map(branch, "properties").items():
                properties.setdefault(name, []).append(value)
        if objects:
            of_each = [_required(branch) for branch in objects]
            required |= set.union(*of_each) if word == "allOf" else set.intersection(*of_each)
    joined = {name: value for name, value in schema.items() if name not in (*_BRANCHES, "required")}
    joined |= {"type": "object", "properties": {name: _either(values) for name, values in properties.items()}}
    return joined | ({"required": sorted(required)} if required else {})


def _new(branches: list[Any], seen: set[str]) -> Iterator[Json]:
    for branch in branches:
        if not isinstance(branch, dict):
            continue
        reference = branch.get("$ref")
        if isinstance(reference, str):
            if reference in seen:
                continue
            seen.add(reference)
        yield branch


def _written_out(branch: Json, root: Json, seen: set[str]) -> Json:
    """The branch with the reference at its top followed, and its own branches joined."""
    reference = branch.get("$ref")
    target = _target(reference, root) if isinstance(reference, str) else None
    if isinstance(target, dict) and target is not root:
        branch = {**target, **{name: value for name, value in branch.items() if name != "$ref"}}
    return _with_branches_joined(branch, root, seen) if any(_list(branch, word) for word in _BRANCHES) else branch


def _map(schema: Json, name: str) -> Json:
    value = schema.get(name)
    return value if isinstance(value, dict) else {}


def _list(schema: Json, name: str) -> list[Any]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _required(schema: Json) -> set[str]:
    required = schema.get("required")
    return {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()


def _either(values: list[Any]) -> Any:
    """What a property may be that several branches have."""
    different = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    return different[0] if len(different) == 1 else {"anyOf": different}


def every_schema(schema: Any) -> Iterator[Json]:
    """The schema and those inside it. What is named like a keyword inside `properties` is none."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield node
        for name in _OF_A_MAP:
            if isinstance(node.get(name), dict):
                waiting.extend(node[name].values())
        for name in _OF_A_LIST:
            if isinstance(node.get(name), list):
                waiting.extend(node[name])
        for name in _OF_ONE:
            waiting.extend(node[name] if isinstance(node.get(name), list) else [node.get(name)])


# --- Gemini ------------------------------------------------------------------------------------------------------


def refuse_unbounded_tools(given: Json) -> None:
    """Raises UpstreamError CAPABILITY when the references of tools, written out, are too much, each or all together."""
    nodes = 0
    for name in ("tools", "functions"):
        tools = given.get(name)
        for at, tool in enumerate(tools if isinstance(tools, list) else ()):
            nodes += refuse_unbounded(tool, f"{name}[{at}]")
            if nodes > MAX_NODES_OF_TOOLS:
                raise cannot(f"All tools together are larger than {MAX_NODES_OF_TOOLS} values", name)


def tool_for_gemini(schema: Any, param: str) -> Any:
    """A tool's parameters in Gemini's `Schema` (https://ai.google.dev/api/caching#Schema): without references,
    `const`, `oneOf` and `allOf`, with a type at every enum, which has texts only.

    Its references can be written out, as `refuse_unbounded_tools` has seen. Raises UpstreamError CAPABILITY.
    """
    try:
        if isinstance(schema, dict) and any(isinstance(schema.get(name), list) for name in _BRANCHES):
            schema = _with_branches_joined(schema, schema)  # the parameters are always one object
        return _for_gemini(schema, schema)
    except RecursionError:
        raise cannot("The schema is nested too deep", param) from None


def answer_for_gemini(schema: Any) -> None:
    """An answer's schema in the part of JSON Schema that Gemini reads, changed in place: references may stay, `const`
    is not known, and nothing may stand beside a reference.
    https://ai.google.dev/api/generate-content#FIELDS.response_json_schema"""
    if isinstance(schema, dict):
        _with_defs(schema)
    for node in every_schema(schema):
        if "const" in node:
            node["enum"] = [node.pop("const")]
        if "$ref" in node:
            for name in [name for name in node if not name.startswith("$")]:
                del node[name]
        if "enum" in node and "type" not in node and (kind := _type_of(node["enum"])):
            node["type"] = kind


def _for_gemini(node: Any, root: Any) -> Any:
    if not isinstance(node, dict):
        return {}  # `true`: anything
    node = _followed(node, root)
    if isinstance(node.get("allOf"), list) or (
        isinstance(node.get("properties"), dict) and any(isinstance(node.get(name), list) for name in _BRANCHES)
    ):
        node = _with_branches_joined(node, root)  # Gemini's `anyOf` stands alone
    result = {name: value for name, value in node.items() if name not in ("$defs", "definitions", "$ref", "const")}
    if "const" in node:
        result["enum"] = [node["const"]]
    _take_null_from_type(result)
    _mend_enum(result)
    if isinstance(result.get("properties"), dict):
        result["properties"] = {name: _for_gemini(value, root) for name, value in result["properties"].items()}
        result.setdefault("type", "object")
    if isinstance(result.get("required"), list):  # only what is defined may be required
        defined = _map(result, "properties")
        result["required"] = [name for name in result["required"] if isinstance(name, str) and name in defined]
        if not result["required"]:
            del result["required"]
    _mend_items(result, root)
    return _mend_any_of(result, root)


def _followed(node: Json, root: Any) -> Json:
    """The node with what its reference names. `refuse_unbounded` has seen that this ends."""
    while isinstance(reference := node.get("$ref"), str):
        target = _target(reference, root)
        beside = {name: value for name, value in node.items() if name != "$ref"}
        node = {**target, **beside} if isinstance(target, dict) else beside
    return node


def _take_null_from_type(node: Json) -> None:
    types = node.get("type")
    if isinstance(types, list) and "null" in types:
        others = [kind for kind in types if kind != "null"]
        node["type"] = others[0] if len(others) == 1 else others or "string"
        node["nullable"] = True


def _mend_enum(node: Json) -> None:
    """Enums have texts only, none of them empty, and a type. Other values are told in the description."""
    values = node.get("enum")
    if not isinstance(values, list):
        return
    if None in values:
        node["nullable"] = True
    values = [value for value in values if value is not None]
    kind = _type_of(values)
    if "type" not in node and kind:
        node["type"] = kind
    texts = [value for value in values if isinstance(value, str) and value]
    if len(texts) == len(values) and texts:
        node["enum"] = texts
        return
    if texts and node.get("type") == "string":
        node["enum"] = texts
    else:
        del node["enum"]
    if values:
        said = "One of: " + ", ".join(json.dumps(value, ensure_ascii=False) for value in values)
        node["description"] = f"{node['description']} {said}" if node.get("description") else said


def _type_of(values: list[Any]) -> str | None:
    """The one JSON type of all the values; None when there are several."""
    names = {str: "string", bool: "boolean", int: "integer", float: "number"}
    kinds = {names.get(type(value)) for value in values}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else None


def _mend_items(node: Json, root: Any) -> None:
    """One schema for all items: Gemini knows no tuples."""
    each = node.pop("prefixItems", None)
    items = node.get("items")
    places = each if isinstance(each, list) else items if isinstance(items, list) else None
    if places is not None:
        kinds = [_for_gemini(place, root) for place in places]
        node["items"] = kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else {"anyOf": kinds}
    elif "items" in node:
        node["items"] = _for_gemini(items, root)


def _mend_any_of(node: Json, root: Any) -> Json:
    """`oneOf` is `anyOf`; the branch `null` is `nullable`; a single branch is the node itself."""
    branches = _list(node, "anyOf") + _list(node, "oneOf")
    node.pop("anyOf", None)
    node.pop("oneOf", None)
    if not branches:
        return node
    kinds = [_for_gemini(branch, root) for branch in branches]
    others = [kind for kind in kinds if kind.get("type") != "null"]
    nullable = {"nullable": True} if len(others) < len(kinds) or node.get("nullable") else {}
    if len(others) == 1:
        return {**others[0], **{name: value for name, value in node.items() if name != "type"}, **nullable}
    if not others:
        return {**node, "type": "string", "nullable": True}
    return {**node, "anyOf": [{**kind, **nullable} for kind in others]}


# --- OpenAI ------------------------------------------------------------------------------------------------------


def tool_for_openai(schema: Any, param: str) -> Any:
    """A tool's parameters as OpenAI takes them: an object with properties, every list with items, and no `anyOf`,
    `oneOf` and `allOf` at the top. The same object when there is nothing to change. Raises UpstreamError CAPABILITY.
    https://github.com/bnb-chain/bnbchain-mcp/issues/68, https://platform.openai.com/docs/guides/function-calling"""
    if not isinstance(schema, dict):
        return {"type": "object", "properties": {}}
    if not any(name in schema for name in (*_BRANCHES, "$ref")) and not any(map(_is_half, every_schema(schema))):
        return schema if _is_object(schema) else {**schema, "type": "object", "properties": _map(schema, "properties")}
    try:
        schema = tool_for_anthropic(copy.deepcopy(schema))
    except RecursionError:
        raise cannot("The schema is nested too deep", param) from None
    for node in every_schema(schema):
        if _is_half(node):
            node["items" if node["type"] == "array" else "properties"] = {}
    return schema if _is_object(schema) else {**schema, "type": "object", "properties": _map(schema, "properties")}


def _is_object(schema: Json) -> bool:
    return schema.get("type") == "object" and isinstance(schema.get("properties"), dict)


def _is_half(node: Json) -> bool:
    """ "object schema missing properties", "array schema missing items"."""
    kind = node.get("type")
    return (kind == "object" and "properties" not in node and "additionalProperties" not in node) or (
        kind == "array" and "items" not in node and "prefixItems" not in node
    )
