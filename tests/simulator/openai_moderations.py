"""OpenAI's moderations, as documented in its API reference: what has the word "violence" in it is flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.model import fresh_id
from tests.simulator.prompt import Prompt
from tests.simulator.wire_format import Asked, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.model import Answer
    from tests.simulator.wire_format import Event

NAME = "moderations"
STREAM_TYPE = openai_format.STREAM_TYPE
CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip

headers = openai_format.headers
failure = openai_format.failure
not_json = openai_format.not_json
failure_event = openai_format.failure_event


def refuse(asked: Asked) -> Failure | None:
    if refusal := openai_format.refuse_key(asked.headers):
        return refusal
    body = asked.body
    if unknown := sorted(body.keys() - {"input", "model"}):
        return openai_format.invalid(f"Unrecognized request argument supplied: {unknown[0]}")
    if body.get("input") in (None, []):
        return openai_format.invalid("'input' is a required property")
    if sum(isinstance(each, dict) and each.get("type") == "image_url" for each in body["input"]) > 1:
        return openai_format.invalid("Invalid 'input': only one image is allowed.", "input")
    return None


def read(asked: Asked) -> Prompt:
    return Prompt(model=asked.model, streamed=False, input_tokens=0, request=asked.body)


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    given: Any = (prompt.request or {})["input"]
    texts: list[Any] = [given] if isinstance(given, str) else given
    if any(isinstance(each, dict) for each in texts):  # its parts are one input
        texts = [" ".join(str(each.get("text") or "") for each in texts)]
    return {"id": fresh_id("modr-"), "model": prompt.model, "results": [_result(text) for text in texts]}


def _result(text: str) -> dict[str, Any]:
    is_flagged = "violence" in text
    return {
        "flagged": is_flagged,
        "categories": {name: is_flagged and name == "violence" for name in CATEGORIES},
        "category_scores": {name: 0.9 if is_flagged and name == "violence" else 0.001 for name in CATEGORIES},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    raise AssertionError("moderations are not streamed")
