"""What OpenAI's document and Anthropic's types say of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from pydantic import TypeAdapter

_DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("openai.schema.json").read_text(encoding="utf-8"))
_ANTHROPIC: dict[str, Any] = {
    "Message": Message,
    "MessageTokensCount": MessageTokensCount,
    "ModelInfo": ModelInfo,
    "RawMessageStreamEvent": RawMessageStreamEvent,
}


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**_DOCUMENT, "$ref": f"#/components/schemas/{name}"})


def openai_faults(name: str, answer: Any) -> list[str]:
    """What OpenAI's document does not allow in an answer, each with its path. Unknown fields are allowed."""
    name = _kind_of_event(name, answer)
    return [f"{fault.json_path}: {fault.message}"[:300] for fault in _deepest(_validator(name).iter_errors(answer))]


def _kind_of_event(name: str, answer: Any) -> str:
    """Of a choice between events, the one with the answer's ``type``, so that its faults can be told."""
    schemas = _DOCUMENT["components"]["schemas"]
    choice = [way["$ref"].rsplit("/", 1)[-1] for way in schemas[name].get("anyOf", ())]
    fitting = [way for way in choice if answer["type"] in schemas[way]["properties"]["type"]["enum"]]
    return fitting[0] if fitting else name


def assert_openai(name: str, answer: Any) -> None:
    faults = openai_faults(name, answer)
    assert not faults, f"{faults} in {json.dumps(answer)}"


def assert_anthropic(name: str, answer: Any) -> None:
    """Raises ValidationError when Anthropic's own client would not take the answer, strictly."""
    TypeAdapter(_ANTHROPIC[name]).validate_json(json.dumps(answer), strict=True)


def _deepest(faults: Iterator[Any]) -> Iterator[Any]:
    """Of a choice between schemas, what keeps the best of them from fitting."""
    for fault in faults:
        yield fault if not fault.context else jsonschema.exceptions.best_match([fault])
