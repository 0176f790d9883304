"""Reads and validates a request for embeddings, and bounds its cost."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.fields import alias_of, end_user_of, optional, required, tags_of, whole_number
from routing.exceptions import InvalidRequest
from routing.serving.call import Quantities, Received, Unbounded
from routing.upstreams import tiers
from routing.upstreams.base import Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.embeddings import estimated_usage, inputs_of
from routing.upstreams.kinds import Kind

MAX_INPUTS: Final = 10_000  # OpenAI takes 2,048; more are asked for in several calls
MAX_TOKEN: Final = 10_000_000  # beyond every vocabulary
MAX_DIMENSIONS: Final = 100_000
#: What models add to each text: the marks of its beginning and end, a word that says what the vector is for.
TOKENS_AN_INPUT: Final = 32
#: A token of OpenAI's is written out as text for other providers. The longest has 128 bytes, so no tokenizer makes more
#: tokens of it; the spare bytes are for a token that is no character alone, which is written as a mark of three bytes.
BYTES_A_TOKEN: Final = 128
#: What is known to change neither the price nor what is counted: of OpenAI's format, and what other providers added.
_FREE: Final = frozenset(
    {
        "dimensions",
        "embedding_types",
        "encoding_format",
        "input",
        "input_type",
        "late_chunking",
        "metadata",
        "model",
        "normalize",
        "output_dimension",
        "output_dtype",
        "priority",
        "task",
        "taskType",
        "task_type",
        "title",
        "truncate",
        "truncate_prompt_tokens",
        "truncation",
        "user",
    }
)


@dataclass(frozen=True, slots=True)
class EmbeddingsCall:
    """A valid request for embeddings: a `routing.serving.call.Call`. ``body`` is never changed."""

    endpoint: ClassVar[str] = "embeddings"
    kind: ClassVar[Kind] = Kind.EMBEDDING
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
        tier, possible = tiers.asked(self.body, step.deployment)
        most = Quantities(
            input_tokens=sum(map(_most_tokens, inputs_of(self.body))), output_cap_tokens=0, tier=tier, tiers=possible
        )
        unknown = next((name for name in self.body if name not in _FREE), None)
        if unknown is not None:
            raise Unbounded(unknown, "it is not known to cost nothing more", most)
        return most

    def request_for(self, step: Step, most: Quantities) -> Json:
        return dict(self.body)

    def ask_otherwise(self, step: Step) -> bool:
        return False

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        return upstream.embed(request)

    def estimate(self, received: Received, step: Step) -> Usage:
        return estimated_usage(self.body, step.deployment.model)


def parse_embeddings(body: Any, alias_in_path: str | None = None, deadline: float | None = None) -> EmbeddingsCall:
    """Validate a request for embeddings. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if alias_in_path is not None:
        body = {**body, "model": alias_in_path}
    alias = alias_of(body)
    _check_input(required(body, "input"))
    encoding = optional(body, "encoding_format", str, "'float' or 'base64'")
    if encoding not in (None, "float", "base64"):
        raise InvalidRequest("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    whole_number(body, "dimensions", most=MAX_DIMENSIONS)
    return EmbeddingsCall(alias=alias, body=body, end_user=end_user_of(body), tags=tags_of(body), deadline=deadline)


def _check_input(given: Any) -> None:
    """A text, a list of tokens, or a list of either."""
    if isinstance(given, str):
        if not given:
            raise InvalidRequest("'input' must not be an empty string.", param="input")
        return
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a string, or a non-empty array of strings or of tokens.", param="input")
    if _is_tokens(given):
        return
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"'input' may have {MAX_INPUTS} elements at the most.", param="input")
    for index, each in enumerate(given):
        if not (isinstance(each, str) and each) and not (isinstance(each, list) and each and _is_tokens(each)):
            where = f"input[{index}]"
            raise InvalidRequest(f"'{where}' must be a non-empty string, or a non-empty array of tokens.", param=where)


def _is_tokens(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= MAX_TOKEN for value in values)


def _most_tokens(given: str | list[int]) -> int:
    size = len(given.encode("utf-8", "surrogatepass")) if isinstance(given, str) else len(given) * BYTES_A_TOKEN
    return size + TOKENS_AN_INPUT
