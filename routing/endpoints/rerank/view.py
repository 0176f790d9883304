"""``POST /v1/rerank`` and ``/v2/rerank``: https://docs.cohere.com/reference/rerank"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.rerank import rendering
from routing.endpoints.rerank.request import RerankCall, parse_rerank
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> RerankCall:
    return parse_rerank(read_json(request), deadline)


rerank = route(parse, rendering)
