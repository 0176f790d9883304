"""Reads and validates a request of Google's embeddings: https://ai.google.dev/api/embeddings

Whoever makes them is asked by the rules of OpenAI's format, in which Gemini's two words of its own have a place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.embeddings.request import MAX_DIMENSIONS, MAX_INPUTS, EmbeddingsCall, parse_embeddings
from routing.endpoints.fields import refuse_more_than, whole_number
from routing.endpoints.gemini.spelling import EMBED, EMBED_BATCH, in_camel_case
from routing.exceptions import InvalidRequest, MissingParameter
from routing.serving.call import Quantities, Received
from routing.upstreams.base import Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind
from routing.upstreams.providers import PROVIDERS

#: Google's fields, and what the body of OpenAI's format calls them.
_NAMES: Final = {"outputDimensionality": "dimensions", "taskType": "task_type", "title": "title"}
_OF_GEMINI: Final = ("taskType", "title")


@dataclass(frozen=True, slots=True)
class GeminiEmbeddingsCall:
    """A valid request: a `routing.serving.call.Call`."""

    endpoint: ClassVar[str] = "gemini"
    kind: ClassVar[Kind] = Kind.EMBEDDING
    streamed: ClassVar[bool] = False
    is_adapted: ClassVar[bool] = False
    end_user: ClassVar[str] = ""  # the dialect has no word for whom a client asks
    tags: ClassVar[Tags] = MappingProxyType({})

    embeddings: EmbeddingsCall  # the same request in OpenAI's format
    is_batch: bool
    unread: tuple[str, ...]  # the client's fields that no provider is told

    @property
    def alias(self) -> str:
        return self.embeddings.alias

    def left_s(self) -> float:
        return self.embeddings.left_s()

    def ceiling(self, step: Step) -> Quantities:
        return self.embeddings.ceiling(step)

    def request_for(self, step: Step, most: Quantities) -> Json:
        asked = self.embeddings.request_for(step, most)
        left_out = {_NAMES[name] for name in self._left_out(step.deployment.litellm_provider)}
        return {name: value for name, value in asked.items() if name not in left_out}

    def ask_otherwise(self, step: Step) -> bool:
        return False

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        answer = self.embeddings.answer_of(upstream, request)
        left_out = self._left_out(request.deployment.litellm_provider)
        return replace(answer, dropped_params=(*answer.dropped_params, *left_out, *self.unread))

    def estimate(self, received: Received, step: Step) -> Usage:
        return self.embeddings.estimate(received, step)

    def _left_out(self, litellm_provider: str) -> list[str]:
        """What this provider has no word for."""
        row = PROVIDERS.get(litellm_provider)
        if row is not None and "gemini" in row.dialects:
            return []
        return [name for name in _OF_GEMINI if _NAMES[name] in self.embeddings.body]


def parse_gemini_embeddings(
    body: Any, alias: str, deadline: float | None = None, *, is_batch: bool
) -> GeminiEmbeddingsCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    body = in_camel_case(body, EMBED_BATCH if is_batch else EMBED)
    requests = body.get("requests") if is_batch else [body]
    if not requests:
        raise MissingParameter("'requests' is required.", param="requests")
    refuse_more_than(MAX_INPUTS, len(requests), "requests", "requests")
    asked: Json = {"input": []}
    for place, request in enumerate(requests):
        where = f"requests[{place}]" if is_batch else ""
        if not isinstance(request, dict):
            raise InvalidRequest(f"'{where}' must be an object.", param=where)
        asked["input"].append(_text(request.get("content"), f"{where}.content" if where else "content"))
        for name in _NAMES:
            if request.get(name) != requests[0].get(name):
                param = f"{where}.{name}"
                raise InvalidRequest(f"'{param}' must be the same in all requests of a batch.", param=param)
    whole_number(requests[0], "outputDimensionality", most=MAX_DIMENSIONS)
    asked |= {ours: requests[0][name] for name, ours in _NAMES.items() if name in requests[0]}
    known = {"content", "model", *_NAMES}
    unread = {name for request in requests for name in request if name not in known}
    return GeminiEmbeddingsCall(parse_embeddings(asked, alias, deadline), is_batch, tuple(sorted(unread)))


def _text(content: Any, where: str) -> str:
    if not isinstance(content, dict):
        raise MissingParameter(f"'{where}' is required.", param=where)
    texts = []
    for place, part in enumerate(content.get("parts") or ()):
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            param = f"{where}.parts[{place}]"
            raise InvalidRequest(f"'{param}' must be a text: only texts are embedded here.", param=param)
        texts.append(text)
    said = "\n".join(texts)
    if not said:
        raise InvalidRequest(f"'{where}' must have a text in it.", param=where)
    return said
