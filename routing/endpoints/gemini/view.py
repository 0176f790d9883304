"""``POST /v1beta/models/{alias}:generateContent`` and ``:streamGenerateContent``: https://ai.google.dev/api"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.gemini import rendering
from routing.endpoints.gemini.request import GeminiCall, parse_gemini
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> GeminiCall:
    streamed = path["method"] == "streamGenerateContent"
    is_sse = request.GET.get("alt") == "sse"
    return parse_gemini(read_json(request), path["alias"], deadline, streamed=streamed, is_sse=is_sse)


generate = route(parse, rendering)
