"""Which aliases the caller may use: https://platform.openai.com/docs/api-reference/models"""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api.authentication import KeyAuthentication, caller_now
from routing.exceptions import ModelNotFound
from routing.upstreams.base import Json


class ModelsView(APIView):
    """``GET /v1/models``: the aliases that the caller may use, and the models that a wildcard stands for."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        return JsonResponse(
            {
                "object": "list",
                "data": [_model(name) for name in snapshot.models(key.may_use)],
            }
        )


class ModelView(APIView):
    """``GET /v1/models/{alias}``."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request, alias: str) -> HttpResponse:
        snapshot, key = caller_now(request)
        found = snapshot.alias(alias)
        if found is None or not found.enabled or not key.may_use(alias, found.wildcard):
            raise ModelNotFound(alias, snapshot.aliases_of(key))
        return JsonResponse(_model(alias))


def _model(alias: str) -> Json:
    return {"id": alias, "object": "model", "created": 0, "owned_by": "gateway"}
