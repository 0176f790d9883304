"""OpenAI's moderations: https://platform.openai.com/docs/api-reference/moderations"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from routing.upstreams import errors
from routing.upstreams.base import FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.embeddings import answered
from routing.upstreams.http.transport import post
from routing.upstreams.mends.capability import cannot
from routing.upstreams.provider_json import dumps
from routing.upstreams.usage import usage_of_input

#: Whose servers have the path. Mistral's answers are of the same shape, with categories of its own.
_MODERATING: Final = frozenset({"custom_openai", "litellm_proxy", "mistral", "openai", "openai_like"})
_READS_TEXT_ALONE: Final = frozenset({"mistral"})


def ask(request: UpstreamRequest, url: str, headers: Mapping[str, str]) -> WholeAnswer:
    """Raises UpstreamError."""
    deployment = request.deployment
    if deployment.litellm_provider not in _MODERATING:
        raise cannot("The provider has no moderations", "model")
    given = request.body["input"]
    if deployment.litellm_provider in _READS_TEXT_ALONE and any(isinstance(each, dict) for each in given):
        raise cannot("The provider's moderation reads text alone", "input")
    body = {name: value for name, value in request.body.items() if value is not None and name != "metadata"}
    answer = post(url, dict(headers), dumps({**body, "model": deployment.model}), request.timeouts)
    read = answered(answer, request.api_key)
    results = read.get("results")
    usage, request_id = usage_of_input(read.get("usage")), errors.request_id(answer.headers, request.api_key)
    if not isinstance(results, list) or not results or not all(map(_is_result, results)):
        raise UpstreamError(
            FailureKind.MALFORMED,
            "The provider's answer has no result of a moderation",
            http_status=answer.status,
            provider_request_id=request_id,
            usage=usage,
            consumed=True,
        )
    for result in results:
        _conform(result)
    return WholeAnswer(read, usage, answer.status, request_id)


def _is_result(result: object) -> bool:
    return isinstance(result, dict) and isinstance(result.get("categories"), dict)


def _conform(result: Json) -> None:
    if not isinstance(result.get("flagged"), bool):
        categories: Mapping[str, Any] = result["categories"]
        result["flagged"] = any(value is True for value in categories.values())
