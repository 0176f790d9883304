"""``POST /v1/chat/completions``: https://platform.openai.com/docs/api-reference/chat/create"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.chat import rendering
from routing.endpoints.chat.request import ChatCall, parse_chat
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ChatCall:
    """Some clients name the model in the path: ``/openai/deployments/{alias}/chat/completions``."""
    return parse_chat(read_json(request), path.get("alias"), deadline)


chat = route(parse, rendering)
