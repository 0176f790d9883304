"""``POST /v1/messages/count_tokens``: https://docs.anthropic.com/en/api/messages-count-tokens

The gateway counts by itself, with litellm's tokenizer for the alias's first model: no provider is asked, and nothing is
spent. The count is an estimate, as Anthropic says of its own.
"""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api import places
from routing.api.authentication import KeyAuthentication, caller_now
from routing.api.body import read_json
from routing.endpoints.messages import rendering
from routing.endpoints.messages.request import parse_messages
from routing.upstreams.estimate import estimated_usage


class CountTokensView(APIView):
    authentication_classes = (KeyAuthentication,)
    rendering = rendering

    def post(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        place = places.take(request._request, key)
        try:
            call = parse_messages(read_json(request._request), is_counted=True)
        finally:
            place.free()
        snapshot.alias_for(key, call.alias)
        steps = snapshot.chain(call.alias)
        model = steps[0].deployment.model if steps else call.alias
        return JsonResponse({"input_tokens": estimated_usage(call.chat.body, "", model).input_tokens})
