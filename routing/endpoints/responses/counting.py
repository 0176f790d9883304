"""``POST /v1/responses/input_tokens``: https://platform.openai.com/docs/api-reference/responses/input-tokens

OpenAI counts for nothing, so it is asked where the alias's first model is its own. Elsewhere, and when OpenAI does not
answer, the gateway counts by itself with litellm's tokenizer. Nothing is spent either way.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api import places
from routing.api.authentication import KeyAuthentication, caller_now
from routing.api.body import read_json
from routing.catalog import Step
from routing.endpoints.responses.kept import owner_of
from routing.endpoints.responses.request import ResponsesCall, parse_responses
from routing.exceptions import GatewayError
from routing.serving.call import askable
from routing.serving.kept import ask_keeper
from routing.upstreams.estimate import estimated_usage
from routing.upstreams.responses_dialect import native, speaks

#: What OpenAI counts, and refuses anything beside.
_COUNTED: Final = (
    "input", "instructions", "model", "parallel_tool_calls", "reasoning", "text", "tool_choice", "tools", "truncation",
)  # fmt: skip
_COUNTER: Final = "openai"


class InputTokensView(APIView):
    authentication_classes = (KeyAuthentication,)

    def post(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        place = places.take(request._request, key)
        try:
            call = parse_responses(read_json(request._request), owner=owner_of(key), is_counted=True)
        finally:
            place.free()
        snapshot.alias_for(key, call.alias)
        steps = askable(call, snapshot.chain(call.alias, may_fall_back_to=key.may_fall_back_to))
        if call.native_alone and not steps:
            raise call.nobody_to_ask()
        tokens = _counted_by_its_provider(call, steps[0]) if steps else None
        if tokens is None:
            model = steps[0].deployment.model if steps else call.alias
            tokens = estimated_usage(call.chat.body, "", model).input_tokens
        return JsonResponse({"object": "response.input_tokens", "input_tokens": tokens})


def _counted_by_its_provider(call: ResponsesCall, step: Step) -> int | None:
    """None: it does not count, or did not answer. Raises a GatewayError when nobody else knows what was said before."""
    if step.deployment.litellm_provider != _COUNTER or not speaks(step.deployment):
        return None
    asked = native(call.body, step.deployment)
    body = {name: asked[name] for name in _COUNTED if asked.get(name) is not None}
    if call.previous is not None:
        body["previous_response_id"] = call.previous.id
    try:
        tokens = ask_keeper(step, "POST", "responses/input_tokens", body, call.prefers_key).get("input_tokens")
    except GatewayError:
        if call.previous is not None:
            raise
        return None
    return tokens if type(tokens) is int else None
