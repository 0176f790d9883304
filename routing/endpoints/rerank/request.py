"""Reads and validates a request to rerank, and bounds its cost: https://docs.cohere.com/reference/rerank"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Meter, Usage, quantity_name
from routing.catalog import Step
from routing.endpoints.fields import alias_of, end_user_of, optional, required, tags_of, whole_number
from routing.exceptions import InvalidRequest
from routing.serving.call import CappedBy, Quantities, Received, Unbounded
from routing.upstreams import rerank
from routing.upstreams.base import Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind

MAX_DOCUMENTS: Final = 10_000  # Cohere's limit
MAX_NUMBER: Final = 10_000_000
_FREE: Final = frozenset(
    {
        "documents", "max_chunks_per_doc", "max_tokens_per_doc", "metadata", "model", "priority", "query",
        "rank_fields", "return_documents", "top_n", "user",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RerankCall:
    """A valid request: a `routing.serving.call.Call`. ``body`` is never changed."""

    endpoint: ClassVar[str] = "rerank"
    kind: ClassVar[Kind] = Kind.RERANK
    streamed: ClassVar[bool] = False
    is_adapted: ClassVar[bool] = False

    alias: str
    body: Mapping[str, Any]
    end_user: str
    tags: Tags
    deadline: float | None = None  # monotonic: when the client no longer wants an answer

    def left_s(self) -> float:
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def ceiling(self, step: Step) -> Quantities:
        query, documents = self.body["query"] + str(self.body.get("instruction") or ""), self.body["documents"]
        if rerank.is_by_searches(step.deployment):
            searches = Decimal(rerank.most_searches(query, documents))
            most = Quantities(
                input_tokens=0,
                output_cap_tokens=0,
                capped_by=CappedBy.NOBODY,
                units={quantity_name(Meter.SEARCH): searches},
                needs={"model": Meter.SEARCH},
            )
        else:
            tokens = rerank.most_tokens(query, documents)
            most = Quantities(input_tokens=tokens, output_cap_tokens=0, capped_by=CappedBy.NOBODY)
        for index, document in enumerate(documents):
            if isinstance(document, dict) and document.keys() != {"text"}:
                raise Unbounded(f"documents[{index}]", "how much stands behind it is not known", most)
        unknown = next((name for name in self.body if name not in _FREE | {"instruction"}), None)
        if unknown is not None:
            raise Unbounded(unknown, "it is not known to cost nothing more", most)
        return most

    def request_for(self, step: Step, most: Quantities) -> Json:
        return dict(self.body)

    def ask_otherwise(self, step: Step) -> bool:
        return False

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        return upstream.rerank(request)

    def estimate(self, received: Received, step: Step) -> Usage:
        return rerank.estimated_usage(self.body["query"], self.body["documents"], step.deployment)


def parse_rerank(body: Any, deadline: float | None = None) -> RerankCall:
    """Validate a request to rerank. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    alias = alias_of(body)
    query = required(body, "query")
    if not isinstance(query, str) or not query:
        raise InvalidRequest("'query' must be a non-empty string.", param="query")
    documents = required(body, "documents")
    if not isinstance(documents, list) or not documents:
        raise InvalidRequest("'documents' must be a non-empty array of strings.", param="documents")
    if len(documents) > MAX_DOCUMENTS:
        raise InvalidRequest(f"'documents' may have {MAX_DOCUMENTS} elements at the most.", param="documents")
    for index, each in enumerate(documents):
        if not isinstance(each, str | dict) or (isinstance(each, dict) and not isinstance(each.get("text", ""), str)):
            where = f"documents[{index}]"
            raise InvalidRequest(f"'{where}' must be a string, or an object with a text.", param=where)
    for name in ("top_n", "max_tokens_per_doc", "max_chunks_per_doc"):
        whole_number(body, name, most=MAX_NUMBER)
    optional(body, "return_documents", bool, "true or false")
    optional(body, "rank_fields", list, "an array")
    optional(body, "instruction", str, "a string")
    return RerankCall(alias=alias, body=body, end_user=end_user_of(body), tags=tags_of(body), deadline=deadline)
