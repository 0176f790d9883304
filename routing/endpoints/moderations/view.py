"""``POST /v1/moderations``: https://platform.openai.com/docs/api-reference/moderations/create"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.moderations import rendering
from routing.endpoints.moderations.request import ModerationsCall, parse_moderations
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ModerationsCall:
    return parse_moderations(read_json(request), deadline)


moderations = route(parse, rendering)
