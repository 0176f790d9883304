"""Answers and errors in Cohere's format: https://docs.cohere.com/reference/rerank · https://docs.cohere.com/reference/errors"""

from __future__ import annotations

import uuid

from accounting.usage import Meter, Usage
from routing.endpoints.rerank.request import RerankCall
from routing.exceptions import GatewayError
from routing.upstreams.base import Json
from routing.upstreams.rerank import text_of


def envelope(error: GatewayError, request_id: str) -> Json:
    """The error as Cohere writes errors, with all that ours says beside it."""
    return {"id": request_id, "message": error.message, **error.envelope()}


def whole(call: RerankCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The order of the documents, which stand in it when the client has asked for them."""
    documents = call.body["documents"]
    results = []
    for result in body["results"]:
        written = {"index": result["index"], "relevance_score": result["relevance_score"]}
        if call.body.get("return_documents"):
            document = documents[result["index"]]
            written["document"] = document if isinstance(document, dict) else {"text": text_of(document)}
        results.append(written)
    meta = body.get("meta") or {}
    if estimated is not None:
        searches = int(estimated.of(Meter.SEARCH))
        meta["billed_units"] = {"search_units": searches} if searches else {"total_tokens": estimated.input_tokens}
    meta.setdefault("api_version", {"version": "2"})
    return {"id": body.get("id") or str(uuid.uuid4()), "model": alias, "results": results, "meta": meta}
