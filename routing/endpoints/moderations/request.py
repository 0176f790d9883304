"""Reads and validates a request for a moderation, and bounds its cost, which at OpenAI is nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage, UsageSource
from routing.catalog import Step
from routing.endpoints.chat.ceiling import image_ceiling
from routing.endpoints.fields import alias_of, end_user_of, required, tags_of
from routing.exceptions import InvalidRequest
from routing.serving.call import CappedBy, Quantities, Received, Unbounded
from routing.upstreams.base import Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.estimate import TOKENS_AN_IMAGE, count_text
from routing.upstreams.kinds import Kind

#: The model of a request that names none, as OpenAI documents it.
DEFAULT_MODEL: Final = "omni-moderation-latest"
MAX_INPUTS: Final = 10_000
TOKENS_AN_INPUT: Final = 64
_FREE: Final = frozenset({"input", "metadata", "model", "user"})


@dataclass(frozen=True, slots=True)
class ModerationsCall:
    """A valid request: a `routing.serving.call.Call`. ``body`` is never changed."""

    endpoint: ClassVar[str] = "moderations"
    kind: ClassVar[Kind] = Kind.MODERATION
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
        """No tokenizer makes more tokens of a text than it has bytes."""
        texts, pictures = _parts(self.body["input"])
        tokens = sum(len(text.encode("utf-8", "surrogatepass")) + TOKENS_AN_INPUT for text in texts)
        most = Quantities(
            input_tokens=tokens + pictures * image_ceiling(step.deployment.model),
            output_cap_tokens=0,
            capped_by=CappedBy.NOBODY,
        )
        unknown = next((name for name in self.body if name not in _FREE), None)
        if unknown is not None:
            raise Unbounded(unknown, "it is not known to cost nothing more", most)
        return most

    def request_for(self, step: Step, most: Quantities) -> Json:
        return {name: value for name, value in self.body.items() if name != "user"}  # no provider takes it

    def ask_otherwise(self, step: Step) -> bool:
        return False

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        return upstream.moderate(request)

    def estimate(self, received: Received, step: Step) -> Usage:
        texts, pictures = _parts(self.body["input"])
        tokens = sum(count_text(text, step.deployment.model) for text in texts) + pictures * TOKENS_AN_IMAGE
        return Usage(input_tokens=max(1, tokens), source=UsageSource.ESTIMATED)


def _parts(given: Any) -> tuple[list[str], int]:
    """The texts, and how many pictures stand beside them."""
    inputs = [given] if isinstance(given, str) else given
    texts = [each if isinstance(each, str) else str(each.get("text") or "") for each in inputs]
    return texts, sum(isinstance(each, dict) and each["type"] == "image_url" for each in inputs)


def parse_moderations(body: Any, deadline: float | None = None) -> ModerationsCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if body.get("model") is None:
        body = {**body, "model": DEFAULT_MODEL}
    alias = alias_of(body)
    _check_input(required(body, "input"))
    return ModerationsCall(alias=alias, body=body, end_user=end_user_of(body), tags=tags_of(body), deadline=deadline)


def _check_input(given: Any) -> None:
    """A text, a list of texts, or a list of parts: texts and pictures."""
    if isinstance(given, str):
        return
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a string, or a non-empty array of strings or of parts.", param="input")
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"'input' may have {MAX_INPUTS} elements at the most.", param="input")
    for index, each in enumerate(given):
        if isinstance(each, str):
            continue
        where = f"input[{index}]"
        kind = each.get("type") if isinstance(each, dict) else None
        if kind == "text" and isinstance(each.get("text"), str):
            continue
        link = each.get("image_url") if kind == "image_url" else None
        if not isinstance(link, dict) or not isinstance(link.get("url"), str):
            raise InvalidRequest(f"'{where}' must be a string, a part with a text, or one with a picture.", param=where)
