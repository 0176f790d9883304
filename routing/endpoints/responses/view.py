"""``POST /v1/responses``: https://platform.openai.com/docs/api-reference/responses/create"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.responses import rendering
from routing.endpoints.responses.kept import owner_of
from routing.endpoints.responses.request import ResponsesCall, parse_responses
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ResponsesCall:
    # Django REST framework has put the caller's key there.
    return parse_responses(read_json(request), deadline, owner_of(getattr(request, "auth", None)))


responses = route(parse, rendering)
