"""Cohere's rerank, as documented in its API reference: a document scores by the words that it shares with the query.

Models that are none of Cohere's are answered for as vLLM, Jina and Voyage answer, with a count of tokens."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.model import fresh_id
from tests.simulator.prompt import Prompt, count
from tests.simulator.wire_format import Asked, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.behaviour import Behaviour, Problem
    from tests.simulator.model import Answer
    from tests.simulator.wire_format import Event

NAME = "rerank"
STREAM_TYPE = openai_format.STREAM_TYPE
TOKENS_A_PART, DOCUMENTS_A_SEARCH = 500, 100
_TAKEN = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"})
_OF_VLLM = frozenset({"return_documents", "instruction", "top_k", "truncate_prompt_tokens"})

headers = openai_format.headers
failure_event = openai_format.failure_event


def refuse(asked: Asked) -> Failure | None:
    if not asked.headers.get("authorization", "").startswith("Bearer "):
        return _error(401, "no api key supplied")
    body = asked.body
    for name in ("model", "query", "documents"):
        if not body.get(name):
            return _error(400, f"invalid request: {name} is required")
    taken = _TAKEN | _OF_VLLM if _is_vllm(asked.model) else _TAKEN
    if unknown := sorted(body.keys() - taken):
        return _error(422, f"unknown field: parameter '{unknown[0]}' is not a valid field")
    if not all(isinstance(each, str) for each in body["documents"]):
        return _error(400, "invalid type: parameter 'documents' is of type object but should be of type string")
    if len(body["documents"]) > 10_000:
        return _error(400, "too many documents: maximum is 10000")
    return None


def _is_vllm(model: str) -> bool:
    return re.match(r"rerank-(?:v\d|english|multilingual)", model) is None


def read(asked: Asked) -> Prompt:
    body = asked.body
    asked_tokens = count(body["query"])
    tokens = sum(asked_tokens + count(each) for each in body["documents"])
    return Prompt(
        model=asked.model, streamed=False, input_tokens=tokens, request={**body, "vllm": _is_vllm(asked.model)}
    )


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    body = prompt.request or {}
    words = set(body["query"].lower().split())
    shared = [len(words & set(text.lower().split())) / (len(words) or 1) for text in body["documents"]]
    order = sorted(range(len(shared)), key=lambda place: (-shared[place], place))[: body.get("top_n")]
    results = [{"index": place, "relevance_score": shared[place]} for place in order]
    said: dict[str, Any] = {"id": fresh_id("rerank-"), "results": results}
    if body["vllm"]:
        return said | ({"usage": {"total_tokens": prompt.input_tokens}} if answer.usage else {})
    meta: dict[str, Any] = {"api_version": {"version": "2"}}
    if answer.usage:
        meta["billed_units"] = {"search_units": searches(body["query"], body["documents"])}
    return said | {"meta": meta}


def searches(query: str, documents: list[str]) -> int:
    """https://cohere.com/pricing: a search is a query with up to 100 documents; a longer document is several."""
    room = max(1, TOKENS_A_PART - count(query))
    parts = sum(max(1, -(-count(text) // room)) for text in documents)
    return -(-parts // DOCUMENTS_A_SEARCH)


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    raise AssertionError("an order is not streamed")


def failure(problem: Problem, prompt: Prompt, behaviour: Behaviour) -> Failure:
    found = openai_format.failure(problem, prompt, behaviour)
    if isinstance(found.body, str):
        return found
    return dataclasses.replace(found, body={"id": fresh_id(""), "message": found.body["error"]["message"]})


def not_json() -> Failure:
    return _error(400, "invalid request: the body is not valid JSON")


def _error(status: int, message: str) -> Failure:
    return Failure(status, {"id": fresh_id(""), "message": message})
