"""One spelling of a request. Google takes each field in camelCase and in snake_case, and one thing where a list of them
is meant, as JSON's mapping of protocol buffers does: https://protobuf.dev/programming-guides/json/

What is the client's own inside a field is never touched: arguments, results, schemas, labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from routing.exceptions import InvalidRequest
from routing.upstreams.base import Json

#: The fields that are messages themselves, and theirs. All other fields are values, whatever is in them.
_MEDIA: Final[Mapping[str, Any]] = {"inlineData": {}, "fileData": {}}
_PART: Final[Mapping[str, Any]] = {
    **_MEDIA, "functionCall": {}, "functionResponse": {"parts": _MEDIA}, "videoMetadata": {}, "mediaResolution": {},
    "executableCode": {}, "codeExecutionResult": {},
}  # fmt: skip
_CONTENT: Final[Mapping[str, Any]] = {"parts": _PART}
GENERATE: Final[Mapping[str, Any]] = {
    "contents": _CONTENT, "systemInstruction": _CONTENT, "tools": {"functionDeclarations": {}},
    "toolConfig": {"functionCallingConfig": {}}, "safetySettings": {}, "generationConfig": {"thinkingConfig": {}},
}  # fmt: skip
COUNT: Final[Mapping[str, Any]] = {**GENERATE, "generateContentRequest": GENERATE}
EMBED: Final[Mapping[str, Any]] = {"content": _CONTENT}
EMBED_BATCH: Final[Mapping[str, Any]] = {"requests": EMBED}

_LISTS: Final = frozenset(
    {
        "allowedFunctionNames", "contents", "functionDeclarations", "parts", "requests", "responseModalities",
        "safetySettings", "stopSequences", "tools",
    }
)  # fmt: skip


def in_camel_case(body: Any, fields: Mapping[str, Any], where: str = "") -> Any:
    """A copy of the body in which each field has its one name, and null is left out. Raises InvalidRequest for a field
    that is there under both of its names."""
    if isinstance(body, list):
        return [in_camel_case(each, fields, f"{where}[{place}]") for place, each in enumerate(body)]
    if not isinstance(body, dict):
        return body
    spelled: Json = {}
    for name, value in body.items():
        if value is None:
            continue
        known = camel(name)
        path = f"{where}.{known}" if where else known
        if known in spelled:
            raise InvalidRequest(f"'{path}' is given twice, under both of its names.", param=path)
        if known in _LISTS and not isinstance(value, list):
            value = [value]  # noqa: PLW2901
        spelled[known] = in_camel_case(value, fields[known], path) if known in fields else value
    return spelled


def camel(name: str) -> str:
    """A field's name as Google's JSON has it."""
    if "_" not in name:
        return name
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def in_plain_base64(data: str) -> str:
    """Google takes both alphabets of base64, and its own client writes the one for URLs. Others take the plain one."""
    return data.replace("-", "+").replace("_", "/")
