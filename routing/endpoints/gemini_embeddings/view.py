"""``POST /v1beta/models/{alias}:embedContent`` and ``:batchEmbedContents``: https://ai.google.dev/api/embeddings"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.gemini_embeddings import rendering
from routing.endpoints.gemini_embeddings.request import GeminiEmbeddingsCall, parse_gemini_embeddings
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> GeminiEmbeddingsCall:
    is_batch = path["method"] == "batchEmbedContents"
    return parse_gemini_embeddings(read_json(request), path["alias"], deadline, is_batch=is_batch)


gemini_embeddings = route(parse, rendering)
