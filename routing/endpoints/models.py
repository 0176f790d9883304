"""Which aliases the caller may use.

https://platform.openai.com/docs/api-reference/models · https://docs.anthropic.com/en/api/models-list
"""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api.authentication import KeyAuthentication, caller_now
from routing.endpoints.gemini.models import google_model, google_models
from routing.exceptions import ModelNotFound
from routing.upstreams.base import Json


class ModelsView(APIView):
    """``GET /v1/models``: the aliases that the caller may use, and the models that a wildcard stands for."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        if _speaks_google(request):
            return JsonResponse(google_models(snapshot, key))
        names = snapshot.models(key.may_use)
        if _speaks_messages(request):
            listed = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
            return JsonResponse({"data": [_anthropic_model(name) for name in names], "has_more": False, **listed})
        return JsonResponse({"object": "list", "data": [_model(name) for name in names]})


class ModelView(APIView):
    """``GET /v1/models/{alias}``."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request, alias: str) -> HttpResponse:
        snapshot, key = caller_now(request)
        found = snapshot.alias(alias)
        if found is None or not found.enabled or not key.may_use(alias, found.wildcard):
            raise ModelNotFound(alias, snapshot.aliases_of(key))
        if _speaks_google(request):
            return JsonResponse(google_model(snapshot, alias))
        return JsonResponse(_anthropic_model(alias) if _speaks_messages(request) else _model(alias))


def _speaks_messages(request: Request) -> bool:
    """Whether the client speaks Anthropic's format: all of its clients send this header."""
    return "anthropic-version" in request.headers


def _speaks_google(request: Request) -> bool:
    """Whether the client speaks Google's format, whose clients have the key in this header."""
    return "x-goog-api-key" in request.headers


def _anthropic_model(alias: str) -> Json:
    # When an alias was made is not known here. Anthropic gives the beginning of time where it does not know.
    return {"type": "model", "id": alias, "display_name": alias, "created_at": "1970-01-01T00:00:00Z"}


def _model(alias: str) -> Json:
    return {"id": alias, "object": "model", "created": 0, "owned_by": "gateway"}
