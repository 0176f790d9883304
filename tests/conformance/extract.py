"""Takes the schemas of the answers that the gateway gives out of OpenAI's document, as JSON Schema.

    git clone https://github.com/openai/openai-openapi
    python -m tests.conformance.extract openai-openapi/openapi.json REVISION > tests/conformance/openai.schema.json

The document says ``nullable: true`` in a few places, a word of OpenAPI 3.0 that its own version 3.1 has not. It is
read as it is meant: null is allowed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ANSWERS = (
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateCompletionResponse",
    "CreateEmbeddingResponse",
    "CreateModerationResponse",
    "CreateSpeechResponseStreamEvent",
    "CreateTranscriptionResponseJson",
    "CreateTranscriptionResponseStreamEvent",
    "CreateTranscriptionResponseVerboseJson",
    "CreateTranslationResponseJson",
    "CreateTranslationResponseVerboseJson",
    "ErrorResponse",
    "ImageEditStreamEvent",
    "ImageGenStreamEvent",
    "ImagesResponse",
    "ListModelsResponse",
    "Model",
    "Response",
    "ResponseStreamEvent",
    "TokenCountsResource",
)
_WORDS = ("description", "example", "examples", "title", "deprecated", "discriminator", "externalDocs", "nullable")
#: Words of an older draft of JSON Schema, in a filter that no answer of the gateway has.
_OLD = ("$recursiveAnchor", "$recursiveRef")


def extracted(document: dict[str, Any], revision: str) -> dict[str, Any]:
    """The schemas of ``ANSWERS`` and all that they refer to."""
    schemas = document["components"]["schemas"]
    todo, found = set(ANSWERS), dict[str, Any]()
    while todo:
        name = todo.pop()
        found[name] = _plain(schemas[name])
        todo |= set(_references(schemas[name])) - found.keys()
    return {
        "$comment": f"openai/openai-openapi at {revision}, MIT licence, written by tests/conformance/extract.py",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": {"schemas": {name: found[name] for name in sorted(found)}},
    }


def _references(part: Any) -> Iterator[str]:
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _references(inner)
    if isinstance(part, dict) and isinstance(part.get("$ref"), str):
        yield part["$ref"].rsplit("/", 1)[-1]


def _plain(part: Any) -> Any:
    """A schema without the words for its readers. A property may be called as such a word is."""
    if isinstance(part, list):
        return [_plain(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    plain = {
        name: {of: _plain(inner) for of, inner in value.items()} if name == "properties" else _plain(value)
        for name, value in part.items()
        if not name.startswith("x-") and name not in (*_WORDS, *_OLD)
    }
    return {"anyOf": [plain, {"type": "null"}]} if part.get("nullable") is True else plain


if __name__ == "__main__":
    document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    json.dump(extracted(document, sys.argv[2]), sys.stdout, separators=(",", ":"))
