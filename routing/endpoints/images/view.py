"""``POST /v1/images/generations`` and ``/v1/images/edits``: https://platform.openai.com/docs/api-reference/images"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.api.parts import read_form
from routing.endpoints.images import rendering
from routing.endpoints.images.request import ImagesCall, parse_edit, parse_generation
from routing.endpoints.spending import route


def parse_of_generations(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ImagesCall:
    """Azure's clients name the model in the path: ``/openai/deployments/{alias}/images/generations``."""
    return parse_generation(read_json(request), path.get("alias"), deadline)


def parse_of_edits(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ImagesCall:
    return parse_edit(read_form(request), path.get("alias"), deadline)


generations = route(parse_of_generations, rendering)
edits = route(parse_of_edits, rendering)
