"""``POST /v1/messages``: https://docs.anthropic.com/en/api/messages"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.messages import rendering
from routing.endpoints.messages.request import BETA_HEADER, MessagesCall, parse_messages
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> MessagesCall:
    return parse_messages(read_json(request), request.headers.get(BETA_HEADER, ""), deadline)


messages = route(parse, rendering)
