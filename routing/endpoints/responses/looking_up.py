"""``GET`` and ``DELETE /v1/responses/{id}``, ``POST …/cancel``, ``GET …/input_items``: at the deployment that made it.

https://platform.openai.com/docs/api-reference/responses/get
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urlencode

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting import json_text
from accounting.keys import Key
from routing.api.authentication import KeyAuthentication, caller_now
from routing.catalog import Catalog, Step
from routing.endpoints.responses.kept import Kept, opened, owner_of, sealed
from routing.exceptions import InvalidRequest, MethodNotAllowed, ProviderRefused, ResponseNotKept
from routing.serving.kept import ask_keeper
from routing.upstreams.base import Json
from routing.upstreams.responses_dialect import mark_of, speaks

#: The methods of a path, by what follows the response's id.
_METHODS: Final = {"": ("GET", "DELETE"), "cancel": ("POST",), "input_items": ("GET",)}
#: What may be asked for, of a response and of a list.
_ASKED: Final = frozenset({"after", "before", "include", "include[]", "limit", "order"})


class KeptResponseView(APIView):
    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request, response_id: str, more: str | None = None) -> HttpResponse:
        return self._answer(request, response_id, more or "")

    post = delete = get

    def _answer(self, request: Request, response_id: str, more: str) -> HttpResponse:
        method = str(request.method)
        if method not in _METHODS[more]:
            raise MethodNotAllowed(f"The method {method} is not allowed here; see the docs.")
        if request.query_params.get("stream") not in (None, "false"):
            raise InvalidRequest("A response cannot be streamed once more: ask for it as a whole.", param="stream")
        snapshot, key = caller_now(request)
        owner = owner_of(key)
        kept = opened(response_id, owner)
        if kept is None:
            raise ResponseNotKept
        step = keeper_of(kept, snapshot, key)
        path = path_of(kept, more)
        asked = [(name, value) for name, values in request.query_params.lists() if name in _ASKED for value in values]
        try:
            found = ask_keeper(
                step,
                method,
                f"{path}?{urlencode(asked)}" if asked else path,
                {},
                lambda secret: mark_of(secret) == kept.keeper.key,
            )
        except ProviderRefused as error:
            error.message = error.message.replace(kept.id, response_id)
            raise
        return HttpResponse(json_text.dumps(_shown(found, response_id, kept, owner)), content_type="application/json")


def path_of(kept: Kept, more: str) -> str:
    """Behind the provider's address. Raises ResponseNotKept for an id of the provider's that leads to another path."""
    if not kept.id.strip("."):
        raise ResponseNotKept
    return "/".join(["responses", quote(kept.id, safe="", errors="surrogatepass"), *([more] if more else [])])


def keeper_of(kept: Kept, snapshot: Catalog, key: Key) -> Step:
    """Raises a GatewayError when the deployment is no longer there, or is no longer for this key."""
    snapshot.alias_for(key, kept.alias)
    for step in snapshot.chain(kept.alias, may_fall_back_to=key.may_fall_back_to):
        if (step.provider.name, step.deployment.model) == (kept.keeper.provider, kept.keeper.model) and speaks(
            step.deployment
        ):
            return step
    raise ResponseNotKept


def _shown(found: Json, response_id: str, kept: Kept, owner: str) -> Json:
    if found.get("object") == "list":
        return found
    seen = {**found, "id": response_id}
    if "model" in found:
        seen["model"] = kept.alias
    if isinstance(before := found.get("previous_response_id"), str):
        seen["previous_response_id"] = sealed(Kept(kept.alias, kept.keeper, before), owner)
    return seen
