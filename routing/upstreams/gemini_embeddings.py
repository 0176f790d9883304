"""Gemini's embeddings: https://ai.google.dev/api/embeddings#method:-models.batchembedcontents"""

from __future__ import annotations

from typing import Any, Final

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.base import FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.embeddings import answered
from routing.upstreams.http.transport import USER_AGENT, post
from routing.upstreams.provider_json import dumps
from routing.upstreams.providers import PROVIDERS

#: Parameters beside `dimensions` that clients send in OpenAI's format, in Google's own words.
_ADDED: Final = {"task_type": "taskType", "taskType": "taskType", "title": "title"}


def send(body: Json, request: UpstreamRequest) -> WholeAnswer:
    """One call for the inputs of ``body``, which is in OpenAI's format. Raises UpstreamError."""
    if not request.api_key:
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    model = f"models/{request.deployment.model.removeprefix('models/')}"
    base_url = request.deployment.base_url or PROVIDERS["gemini"].base_url or ""
    answer = post(
        f"{base_url.rstrip('/')}/{model}:batchEmbedContents",
        {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "x-goog-api-key": errors.authorization(request.api_key),
        },
        dumps({"requests": [_asked(text, model, body) for text in body["input"]]}),
        request.timeouts,
    )
    read = answered(answer, request.api_key)
    found = read.get("embeddings")
    data = [
        {"index": index, "embedding": each.get("values") if isinstance(each, dict) else None}
        for index, each in enumerate(found if isinstance(found, list) else ())
    ]
    return WholeAnswer({"data": data}, _usage(read), answer.status, errors.request_id(answer.headers, request.api_key))


def _asked(text: str, model: str, body: Json) -> Json:
    asked: Json = {"model": model, "content": {"parts": [{"text": text}]}}
    if "dimensions" in body:
        asked["outputDimensionality"] = body["dimensions"]
    for name, theirs in _ADDED.items():
        if name in body:
            asked[theirs] = body[name]
    return asked


def _usage(read: Json) -> Usage | None:
    """Only the newest models count."""
    counted: Any = read.get("usageMetadata")
    tokens = counted.get("promptTokenCount") if isinstance(counted, dict) else None
    return Usage(input_tokens=tokens) if type(tokens) is int and tokens > 0 else None
