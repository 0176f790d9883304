"""Documents put into the order in which they answer a query, in Cohere's dialect: litellm's classes for the other
providers translate, we carry. https://docs.cohere.com/reference/rerank

Cohere and the clouds that resell it bill searches: a search is a query with up to a hundred documents. All others bill
tokens. Which of the two, litellm's map says of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from accounting import json_text
from accounting.usage import Meter, Usage, UsageSource, quantity_name
from routing.upstreams import errors
from routing.upstreams.base import Deployment, FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.embeddings import answered
from routing.upstreams.estimate import count_text
from routing.upstreams.http.transport import USER_AGENT, post
from routing.upstreams.litellm_import import load
from routing.upstreams.mends.capability import cannot
from routing.upstreams.price_map import costs_of
from routing.upstreams.provider_json import dumps
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.scrubbing import scrubbed
from routing.upstreams.usage import counted_tokens

#: litellm's providers whose classes were read: they call nobody, and take a key alone.
_TRANSLATED: Final = frozenset(
    {"azure_ai", "cohere", "cohere_chat", "deepinfra", "fireworks_ai", "infinity", "jina_ai", "nvidia_nim", "scaleway",
     "voyage"}
)  # fmt: skip
#: Servers that have `/rerank` beside `/chat/completions`, as vLLM has it.
_LIKE_VLLM: Final = frozenset({"custom_openai", "hosted_vllm", "litellm_proxy", "openai_like", "together_ai", "vllm"})
_BY_SEARCHES: Final = frozenset({"azure_ai", "bedrock", "cohere", "cohere_chat", "vertex_ai"})
#: A search has so many documents at the most, and a longer document is as many as it has parts of so many tokens, the
#: query included. https://cohere.com/pricing
DOCUMENTS_A_SEARCH: Final = 100
TOKENS_A_PART: Final = 500
#: What a model adds to each document: the marks that part it from the query.
TOKENS_A_DOCUMENT: Final = 32
#: Parameters of the dialect that a provider may have. The documents themselves are not asked back: the client's are
#: put into the answer.
_OPTIONAL: Final = ("instruction", "max_chunks_per_doc", "max_tokens_per_doc", "rank_fields", "top_n")


def is_by_searches(deployment: Deployment) -> bool:
    costs = costs_of(deployment.litellm_provider, deployment.model)
    if costs.get("input_cost_per_query"):
        return True
    return not costs and deployment.litellm_provider in _BY_SEARCHES


def most_searches(query: str, documents: list[Any]) -> int:
    """Each byte may be a token."""
    room = max(1, TOKENS_A_PART - _bytes(query) - TOKENS_A_DOCUMENT)
    parts = sum(max(1, -(-_bytes(text_of(each)) // room)) for each in documents)
    return -(-parts // DOCUMENTS_A_SEARCH)


def most_tokens(query: str, documents: list[Any]) -> int:
    """The query is read with each document."""
    return sum(_bytes(text_of(each)) for each in documents) + len(documents) * (_bytes(query) + TOKENS_A_DOCUMENT)


def text_of(document: Any) -> str:
    """A text, or an object with one; of any other object all that it has."""
    if isinstance(document, str):
        return document
    return str(document["text"]) if document.keys() == {"text"} else json_text.dumps(document).decode()


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def estimated_usage(query: str, documents: list[Any], deployment: Deployment) -> Usage:
    if is_by_searches(deployment):
        searches = Decimal(-(-len(documents) // DOCUMENTS_A_SEARCH))
        return Usage(quantities={quantity_name(Meter.SEARCH): searches}, source=UsageSource.ESTIMATED)
    asked = count_text(query, deployment.model)
    tokens = sum(asked + count_text(text_of(each), deployment.model) for each in documents)
    return Usage(input_tokens=max(1, tokens), source=UsageSource.ESTIMATED)


def ask(request: UpstreamRequest) -> WholeAnswer:
    """Raises UpstreamError."""
    config = _config(request.deployment)
    try:
        url, headers, body, dropped = _sent(config, request)
    except UpstreamError:
        raise
    except Exception as error:
        said = scrubbed(str(error), request.api_key)
        raise cannot(f"The request cannot be translated to the provider's format: {said}") from error
    answer = post(url, {**headers, "User-Agent": USER_AGENT}, dumps(body), request.timeouts)
    answered(answer, request.api_key)  # raises for an error, whatever its status
    request_id = errors.request_id(answer.headers, request.api_key)
    try:
        read = config.transform_rerank_response(
            model=request.deployment.model,
            raw_response=_response_of(answer.status, answer.body),
            model_response=load().types.rerank.RerankResponse(),
            logging_obj=_Silence(),
            api_key=request.api_key,
            request_data=body,
        ).model_dump(exclude_none=True)
    except Exception as error:
        raise errors.malformed(answer.status, answer.headers, request.api_key) from error
    usage = _usage(read.get("meta"), request.deployment)
    results = read.get("results")
    places = range(len(request.body["documents"]))
    if not isinstance(results, list) or not results or not all(_is_result(each, places) for each in results):
        raise UpstreamError(
            FailureKind.MALFORMED,
            "The provider's answer has no order of the documents",
            http_status=answer.status,
            provider_request_id=request_id,
            usage=usage,
            consumed=True,
        )
    return WholeAnswer(read, usage, answer.status, request_id, dropped_params=dropped)


def _is_result(each: Mapping[str, Any], places: range) -> bool:
    """A score that is no number would be null in our answer."""
    return each.get("index") in places and isfinite(each["relevance_score"])


def _config(deployment: Deployment) -> Any:
    """litellm's class for the provider. Raises UpstreamError."""
    provider = deployment.litellm_provider
    litellm = load()
    if provider in _LIKE_VLLM:
        return litellm.HostedVLLMRerankConfig()
    if provider not in _TRANSLATED:
        raise cannot("The gateway cannot ask this provider to rerank", "model")
    return litellm.utils.ProviderConfigManager.get_provider_rerank_config(
        model=deployment.model,
        provider=litellm.types.utils.LlmProviders(provider),
        api_base=None,
        present_version_params=["max_tokens_per_doc"],
    )


def _sent(config: Any, request: UpstreamRequest) -> tuple[str, Json, Json, tuple[str, ...]]:
    """Address, headers and body, and what of the request is left out. Raises whatever litellm raises."""
    deployment, given = request.deployment, request.body
    takes = set(config.get_supported_cohere_rerank_params(deployment.model))
    documents = [text_of(each) if isinstance(each, dict) and "text" in each else each for each in given["documents"]]
    kept = {name: given[name] for name in _OPTIONAL if given.get(name) is not None and name in takes}
    if deployment.litellm_provider == "jina_ai":
        kept["return_documents"] = False  # it sends them back unless it is told not to
    asked = {**kept, "query": given["query"], "documents": documents}
    named = {"return_documents": None, **kept}
    parameters = config.map_cohere_rerank_params(
        asked, deployment.model, True, given["query"], documents, deployment.litellm_provider, **named
    )
    # litellm would look for a key in the environment.
    headers = config.validate_environment({}, deployment.model, request.api_key or "none", parameters)
    row = PROVIDERS[deployment.litellm_provider]
    url = config.get_complete_url(deployment.base_url or row.base_url, deployment.model, parameters)
    body = config.transform_rerank_request(deployment.model, parameters, headers)
    body = {name: value for name, value in body.items() if value is not None}
    return (
        url,
        dict(headers),
        body,
        tuple(name for name in _OPTIONAL if given.get(name) is not None and name not in kept),
    )


def _usage(meta: Any, deployment: Deployment) -> Usage | None:
    """What the provider has billed; None when it has not said."""
    meta = meta if isinstance(meta, Mapping) else {}
    billed, tokens = meta.get("billed_units") or {}, meta.get("tokens") or {}
    if is_by_searches(deployment):
        searches = counted_tokens(billed.get("search_units"))
        return Usage(quantities={quantity_name(Meter.SEARCH): Decimal(searches)}) if searches else None
    counts = (billed.get("total_tokens"), billed.get("input_tokens"), tokens.get("input_tokens"))
    count = next(filter(None, map(counted_tokens, counts)), 0)
    return Usage(input_tokens=count) if count else None


class _Silence:
    """All that litellm's transforms ask of its `Logging` object."""

    def post_call(self, *_: object, **__: object) -> None:
        pass


def _response_of(status: int, body: bytes) -> Any:
    import httpx  # what litellm's transforms read from; not imported before litellm is

    return httpx.Response(status, headers={"content-type": "application/json"}, content=body)
