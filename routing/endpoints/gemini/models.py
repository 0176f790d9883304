"""Which aliases the caller may use, in Google's format: https://ai.google.dev/api/models"""

from __future__ import annotations

from typing import Final, NoReturn

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting.keys import Key
from routing.api.authentication import KeyAuthentication, caller_now
from routing.catalog import Catalog
from routing.endpoints.gemini import rendering
from routing.exceptions import NotFound
from routing.upstreams.base import Json
from routing.upstreams.kinds import Kind, kind_of
from routing.upstreams.price_map import limits_of

METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens")
EMBEDDING_METHODS: Final = ("embedContent", "batchEmbedContents")
SERVED: Final = (
    f"Of Google's API there are POST /v1beta/models/{{alias}}: with {', '.join((*METHODS, *EMBEDDING_METHODS))}, "
    "and GET /v1beta/models."
)


class GeminiModelsView(APIView):
    """``GET /v1beta/models``: all of them, on one page."""

    authentication_classes = (KeyAuthentication,)
    rendering = rendering

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        return JsonResponse(google_models(snapshot, key))


class GeminiModelView(APIView):
    """``GET /v1beta/models/{alias}``. A method of Google's that is not here has its path, too."""

    authentication_classes = (KeyAuthentication,)
    rendering = rendering

    def get(self, request: Request, alias: str) -> HttpResponse:
        snapshot, key = caller_now(request)
        snapshot.alias_for(key, alias)
        return JsonResponse(google_model(snapshot, alias))

    def post(self, request: Request, alias: str) -> NoReturn:
        raise NotFound(f"There is no such method. {SERVED}")


class GeminiAbsentView(APIView):
    """All else below ``/v1beta/``. Needs no key: it says nothing but what the documents say."""

    authentication_classes = ()
    rendering = rendering

    def initial(self, request: Request, *args: str, **path: str) -> NoReturn:
        """Before the method is looked at: there is nothing to be asked in any way."""
        raise NotFound(f"There is nothing at this path. {SERVED}")


def google_models(snapshot: Catalog, key: Key) -> Json:
    return {"models": [google_model(snapshot, name) for name in snapshot.models(key.may_use)]}


def google_model(snapshot: Catalog, alias: str) -> Json:
    described: Json = {"name": f"models/{alias}", "version": "1", "displayName": alias}
    steps = snapshot.chain(alias)
    is_embedding = False
    if steps:
        deployment = steps[0].deployment
        most_output, window = limits_of(deployment.litellm_provider, deployment.model)
        described |= {"inputTokenLimit": window} if window is not None else {}
        described |= {"outputTokenLimit": most_output} if most_output is not None else {}
        is_embedding = kind_of(deployment.litellm_provider, deployment.model) is Kind.EMBEDDING
    return {**described, "supportedGenerationMethods": list(EMBEDDING_METHODS if is_embedding else METHODS)}
