"""Vectors in Google's format: https://ai.google.dev/api/embeddings#v1beta.EmbedContentResponse"""

from __future__ import annotations

from accounting.usage import Usage
from routing.endpoints.gemini.rendering import envelope
from routing.endpoints.gemini_embeddings.request import GeminiEmbeddingsCall
from routing.upstreams.base import Json

__all__ = ["envelope", "whole"]


def whole(call: GeminiEmbeddingsCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer, which is made of one in OpenAI's format. It has no model's name."""
    vectors = [{"values": each["embedding"]} for each in body["data"]]
    tokens = (body.get("usage") or {}).get("prompt_tokens") if estimated is None else estimated.input_tokens
    answer: Json = {"embeddings": vectors} if call.is_batch else {"embedding": vectors[0]}
    return {**answer, "usageMetadata": {"promptTokenCount": tokens or 0}}
