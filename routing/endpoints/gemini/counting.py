"""``POST /v1beta/models/{alias}:countTokens``: https://ai.google.dev/api/tokens

The gateway counts by itself, with litellm's tokenizer for the alias's first model: no provider is asked, and nothing is
spent.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api import places
from routing.api.authentication import KeyAuthentication, caller_now
from routing.api.body import read_json
from routing.endpoints.gemini import rendering
from routing.endpoints.gemini.request import GeminiCall, parse_gemini
from routing.endpoints.gemini.spelling import COUNT, in_camel_case
from routing.exceptions import InvalidRequest
from routing.upstreams.estimate import estimated_usage


class GeminiCountView(APIView):
    authentication_classes = (KeyAuthentication,)
    rendering = rendering

    def post(self, request: Request, alias: str) -> HttpResponse:
        snapshot, key = caller_now(request)
        place = places.take(request._request, key)
        try:
            call = _parse(read_json(request._request), alias)
        finally:
            place.free()
        snapshot.alias_for(key, alias)
        steps = snapshot.chain(alias)
        model = steps[0].deployment.model if steps else alias
        tokens = estimated_usage(call.chat.body, "", model).input_tokens
        return JsonResponse({"totalTokens": tokens})


def _parse(body: Any, alias: str) -> GeminiCall:
    """The contents alone, or a whole request beside which nothing may stand."""
    body = in_camel_case(body, COUNT)
    if isinstance(body, dict) and "generateContentRequest" in body:
        if "contents" in body:
            param = "generateContentRequest"
            raise InvalidRequest("Only one of 'contents' and 'generateContentRequest' may be set.", param=param)
        body = body["generateContentRequest"]
    return parse_gemini(body, alias)
