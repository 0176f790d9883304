"""Which aliases the caller may use, in the format that it speaks.

https://platform.openai.com/docs/api-reference/models · https://docs.anthropic.com/en/api/models-list ·
https://ai.google.dev/api/models
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api.authentication import KeyAuthentication, caller_now
from routing.catalog import Catalog
from routing.endpoints.gemini import rendering as gemini_rendering
from routing.endpoints.messages import rendering as messages_rendering
from routing.endpoints.offers import Offer
from routing.exceptions import InvalidRequest, ModelNotFound
from routing.upstreams.base import Json
from routing.upstreams.kinds import Kind

OWNER = "gateway"
#: Of Anthropic's lists.
USUAL_PAGE, MOST_A_PAGE = 20, 1000
#: Anthropic writes the beginning of time where it does not know when a model was made, and so do we.
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


class _ModelsPage(APIView):
    """Speaks Anthropic's format to its clients, all of which send ``anthropic-version``, Google's to those that have
    the key in its header, and on its paths; and OpenAI's to others."""

    authentication_classes = (KeyAuthentication,)
    is_anthropic = False
    is_google = False
    rendering: ModuleType | None = None

    def initial(self, request: Request, *args: Any, **path: Any) -> None:
        if "anthropic-version" in request.headers:
            self.is_anthropic = True
            self.rendering = messages_rendering  # its errors too
        elif self.is_google or "x-goog-api-key" in request.headers:
            self.is_google = True
            self.rendering = gemini_rendering
        super().initial(request, *args, **path)


class ModelsView(_ModelsPage):
    """``GET /v1/models``: the aliases that the caller may use, and the models that a wildcard stands for."""

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        names = snapshot.models(key.may_use)
        if self.is_google:
            return JsonResponse({"models": [_google_model(offer) for offer in _offers(snapshot, names)]})
        if not self.is_anthropic:
            return JsonResponse({"object": "list", "data": [_model(offer) for offer in _offers(snapshot, names)]})
        page, has_more = _page(names, request)
        return JsonResponse(
            {
                "data": [_anthropic_model(offer) for offer in _offers(snapshot, page)],
                "has_more": has_more,
                "first_id": page[0] if page else None,
                "last_id": page[-1] if page else None,
            }
        )


class ModelView(_ModelsPage):
    """``GET /v1/models/{alias}``."""

    def get(self, request: Request, alias: str) -> HttpResponse:
        snapshot, key = caller_now(request)
        found = snapshot.alias(alias)
        if found is None or not found.enabled or not key.may_use(alias, found.wildcard):
            raise ModelNotFound(alias, snapshot.aliases_of(key))
        offer = Offer.of(found, snapshot, datetime.now(UTC))
        if self.is_google:
            return JsonResponse(_google_model(offer))
        return JsonResponse(_anthropic_model(offer) if self.is_anthropic else _model(offer))


def _offers(snapshot: Catalog, names: Sequence[str]) -> list[Offer]:
    now = datetime.now(UTC)
    return [Offer.of(alias, snapshot, now) for alias in map(snapshot.alias, names) if alias is not None]


def _model(offer: Offer) -> Json:
    return {
        "id": offer.alias,
        "object": "model",
        "created": int((offer.created_at or UNKNOWN).timestamp()),
        "owned_by": OWNER,
        "mode": offer.kind,
        "endpoints": offer.paths,
        "context_window": offer.context_window,
        "max_output_tokens": offer.max_output_tokens,
        "input_usd_per_mtok": _number(offer.input_usd_per_mtok),
        "output_usd_per_mtok": _number(offer.output_usd_per_mtok),
    }


def _anthropic_model(offer: Offer) -> Json:
    return {
        "type": "model",
        "id": offer.alias,
        "display_name": offer.alias,
        "created_at": (offer.created_at or UNKNOWN).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": offer.context_window,
        "max_tokens": offer.max_output_tokens,
    }


def _google_model(offer: Offer) -> Json:
    methods: tuple[str, ...] = ("embedContent", "batchEmbedContents")
    if offer.kind is not Kind.EMBEDDING:
        methods = ("generateContent", "streamGenerateContent", "countTokens")
    described: Json = {"name": f"models/{offer.alias}", "version": "1", "displayName": offer.alias}
    limits = {"inputTokenLimit": offer.context_window, "outputTokenLimit": offer.max_output_tokens}
    described |= {name: limit for name, limit in limits.items() if limit is not None}
    return {**described, "supportedGenerationMethods": methods}


def _number(usd: Decimal | None) -> float | None:
    return None if usd is None else float(usd)


# --- Anthropic's pages ------------------------------------------------------------------------------------------------


def _page(names: Sequence[str], request: Request) -> tuple[Sequence[str], bool]:
    """The names that the query asks for, and whether there are more of them in the direction that it reads in."""
    said = request.query_params
    most = _page_size(said.get("limit"))
    after, before = said.get("after_id"), said.get("before_id")
    if after is not None and before is not None:
        raise InvalidRequest("Send 'after_id' or 'before_id', not both.", param="before_id")
    if before is not None:
        end = _place(names, before, "before_id")
        return names[max(0, end - most) : end], end > most
    start = 0 if after is None else _place(names, after, "after_id") + 1
    return names[start : start + most], len(names) > start + most


def _page_size(text: str | None) -> int:
    if text is None:
        return USUAL_PAGE
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST_A_PAGE):
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {MOST_A_PAGE}.", param="limit")
    return int(text)


def _place(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise InvalidRequest(f"'{param}' is no id of this list.", param=param)
    return names.index(name)
