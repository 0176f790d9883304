"""``POST /v1/images/generations``: https://platform.openai.com/docs/api-reference/images/create"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.images import rendering
from routing.endpoints.images.request import ImagesCall, parse_generation
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ImagesCall:
    """Azure's clients name the model in the path: ``/openai/deployments/{alias}/images/generations``."""
    return parse_generation(read_json(request), path.get("alias"), deadline)


generations = route(parse, rendering)
