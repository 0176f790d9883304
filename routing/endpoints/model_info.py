"""The deployments behind the aliases, as LiteLLM's proxy tells of them: editors and agents read windows, prices and
abilities there.

https://docs.litellm.ai/docs/proxy/model_management
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting.pricing import PriceList
from routing.api.authentication import KeyAuthentication, caller_now
from routing.catalog import Step
from routing.endpoints.offers import serving
from routing.exceptions import InvalidRequest
from routing.upstreams import price_map
from routing.upstreams.base import Json
from routing.upstreams.kinds import kind_of

#: They are there for each model: null where litellm does not know. What it knows besides is added.
COSTS: Final = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
)
ABILITIES: Final = (
    "supports_system_messages",
    "supports_vision",
    "supports_function_calling",
    "supports_parallel_function_calling",
    "supports_tool_choice",
    "supports_response_schema",
    "supports_prompt_caching",
    "supports_reasoning",
    "supports_web_search",
    "supports_pdf_input",
    "supports_audio_input",
    "supports_audio_output",
    "supports_assistant_prefill",
    "supports_computer_use",
    "supports_native_streaming",
)


class ModelInfoView(APIView):
    """``GET /model/info``: each deployment of the aliases that the key may use. Neither its address nor its key."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        now = datetime.now(UTC)
        rows = [
            _row(step, place, snapshot.price(step.provider.name, step.deployment.model, now))
            for alias in map(snapshot.alias, snapshot.models(key.may_use))
            if alias is not None
            for place, step in enumerate(serving(alias))
        ]
        wanted = request.query_params.get("litellm_model_id")
        if wanted is not None:
            rows = [row for row in rows if row["model_info"]["id"] == wanted]
            if not rows:
                raise InvalidRequest("There is no deployment of this id.", param="litellm_model_id")
        return JsonResponse({"data": rows})


def _row(step: Step, place: int, price: PriceList | None) -> Json:
    provider, model = step.deployment.litellm_provider, step.deployment.model
    most_output, most_input = price_map.limits_of(provider, model)
    params: Json = {"model": f"{provider}/{model}", "custom_llm_provider": provider}
    if step.weight is not None:
        params["weight"] = step.weight
    if step.output_cap_tokens is not None:
        params["max_tokens"] = step.output_cap_tokens
    return {
        "model_name": step.alias,
        "litellm_params": params,
        "model_info": {
            "id": _id(step, place),
            "db_model": True,
            "key": model,
            "litellm_provider": provider,
            "mode": kind_of(provider, model),
            "max_tokens": most_output,
            "max_input_tokens": most_input,
            "max_output_tokens": most_output,
            **dict.fromkeys(COSTS),
            **({} if price is None else dict(_costs(price_map.write(price, provider)[0]))),
            **dict.fromkeys(ABILITIES),
            **price_map.abilities_of(provider, model),
        },
    }


def _id(step: Step, place: int) -> str:
    """The same on every worker and after each start, and it tells nothing."""
    named = "\0".join((step.alias, str(place), step.provider.name, step.deployment.model))
    return hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()


def _costs(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Money as LiteLLM's clients read it: numbers."""
    for name, usd in said.items():
        yield name, dict(_costs(usd)) if isinstance(usd, Mapping) else float(usd) if isinstance(usd, Decimal) else usd
