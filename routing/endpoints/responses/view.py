"""``POST /v1/responses``: https://platform.openai.com/docs/api-reference/responses/create"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from django.http import HttpRequest

from accounting.keys import ANONYMOUS_KEY, PREFIX, Key
from routing import catalog
from routing.api.authentication import presented_secret
from routing.api.body import read_json
from routing.endpoints.responses import rendering
from routing.endpoints.responses.kept import owner_of
from routing.endpoints.responses.request import ResponsesCall, parse_responses
from routing.endpoints.spending import route
from routing.serving.callers import identify_in


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> ResponsesCall:
    return parse_responses(read_json(request), deadline, owner_of(_caller(request)))


def _caller(request: HttpRequest) -> Key:
    """As Django REST framework has found it; a dry run's request has not been there. In open mode a key that is newer
    than its snapshot looks like anybody's, and would not find its responses again."""
    key, secret = cast(Key | None, getattr(request, "auth", None)), presented_secret(request)
    if key is None or (key is ANONYMOUS_KEY and secret is not None and secret.startswith(PREFIX)):
        return identify_in(catalog.fresh(), secret)
    return key


responses = route(parse, rendering)
