"""``POST /v1/responses/input_tokens``: https://platform.openai.com/docs/api-reference/responses/input-tokens

The gateway counts by itself, with litellm's tokenizer for the alias's first model: no provider is asked, and nothing is
spent.
"""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api.authentication import KeyAuthentication, caller_now
from routing.api.body import read_json
from routing.endpoints.responses.request import parse_responses
from routing.upstreams.estimate import estimated_usage


class InputTokensView(APIView):
    authentication_classes = (KeyAuthentication,)

    def post(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        call = parse_responses(read_json(request._request))
        snapshot.alias_for(key, call.alias)
        steps = snapshot.chain(call.alias)
        model = steps[0].deployment.model if steps else call.alias
        tokens = estimated_usage(call.chat.body, "", model).input_tokens
        return JsonResponse({"object": "response.input_tokens", "input_tokens": tokens})
