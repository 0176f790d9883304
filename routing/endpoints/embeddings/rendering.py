"""Answers in the format of OpenAI's embeddings."""

from __future__ import annotations

from accounting.usage import Usage
from routing.endpoints.embeddings.request import EmbeddingsCall
from routing.upstreams.base import Json


def whole(call: EmbeddingsCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer under the alias's name. Its usage is an estimate when the provider gave no count."""
    body["model"] = alias
    if estimated is not None:
        body["usage"] = {"prompt_tokens": estimated.input_tokens, "total_tokens": estimated.input_tokens}
    return body
