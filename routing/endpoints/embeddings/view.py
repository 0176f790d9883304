"""``POST /v1/embeddings``: https://platform.openai.com/docs/api-reference/embeddings/create"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.embeddings import rendering
from routing.endpoints.embeddings.request import EmbeddingsCall, parse_embeddings
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> EmbeddingsCall:
    """Azure's clients name the model in the path: ``/openai/deployments/{alias}/embeddings``."""
    return parse_embeddings(read_json(request), path.get("alias"), deadline)


embeddings = route(parse, rendering)
