"""``POST /v1/completions``: https://platform.openai.com/docs/api-reference/completions/create"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.completions import rendering
from routing.endpoints.completions.request import CompletionsCall, parse_completions
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> CompletionsCall:
    """Some clients name the model in the path: ``/openai/deployments/{alias}/completions``."""
    return parse_completions(read_json(request), path.get("alias"), deadline)


completions = route(parse, rendering)
