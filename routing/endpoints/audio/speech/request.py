"""Reads and validates a request for speech, and bounds its cost."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final, NoReturn

from accounting.tags import Tags
from accounting.usage import Meter, Usage, UsageSource, quantity_name
from routing.catalog import Step
from routing.endpoints.audio.partial import SoundPartial
from routing.endpoints.fields import alias_of, end_user_of, optional, required, tags_of
from routing.exceptions import InvalidRequest
from routing.serving.call import Call, CappedBy, Partial, Quantities, Received, Unbounded
from routing.upstreams.base import AnswerStream, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.estimate import count_text
from routing.upstreams.kinds import Kind
from routing.upstreams.price_map import limits_of
from routing.upstreams.sound import CONTENT_TYPES, SPOKEN

MAX_CHARACTERS: Final = 100_000  # OpenAI takes 4,096, which it says itself; others take more
TOKENS_BESIDE: Final = 64  # what a format may add to the text
#: The longest answer in tokens, where the price map does not know it. OpenAI names none for these models, but it does
#: for GPT-4o mini, on which they are built: https://platform.openai.com/docs/models/gpt-4o-mini
_LONGEST: Final = (("gpt-4o-mini-tts", 16_384),)
#: An estimate: a minute of speech has about 900 characters, and 1,250 tokens at OpenAI's price of 0.015 USD a minute.
TOKENS_A_CHARACTER: Final = 1.4
_FREE: Final = frozenset(
    {
        "input",
        "instructions",
        "language",
        "metadata",
        "model",
        "response_format",
        "safety_identifier",
        "speed",
        "stream_format",
        "user",
        "voice",
    }
)


@dataclass(frozen=True, slots=True)
class SpeechCall:
    """A valid request for speech: a `routing.serving.call.StreamedCall`, as sound is handed on while it is made.
    ``body`` is never changed."""

    endpoint: ClassVar[str] = "speech"
    kind: ClassVar[Kind] = Kind.SPEECH
    streamed: ClassVar[bool] = True
    is_adapted: ClassVar[bool] = False

    alias: str
    body: Mapping[str, Any]
    end_user: str
    tags: Tags
    deadline: float | None = None  # monotonic: when the client no longer wants an answer

    @property
    def wants_events(self) -> bool:
        return self.body.get("stream_format") == "sse"

    def left_s(self) -> float:
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def ceiling(self, step: Step) -> Quantities:
        longest = _longest_of(step)
        text = self.body["input"] + (self.body.get("instructions") or "")
        most = Quantities(
            input_tokens=len(text.encode("utf-8", "surrogatepass")) + TOKENS_BESIDE,
            output_cap_tokens=longest or 0,
            capped_by=CappedBy.NOBODY,
            units={quantity_name(Meter.INPUT_CHARACTER): Decimal(_most_characters(self.body["input"]))},
            endless=None if longest else ("model", "nobody says how long its longest answer is"),
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
        raise AssertionError("speech is always streamed")

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        return upstream.speak(request)

    def partial(self, *, is_rescuable: bool) -> Partial:
        return SoundPartial(SPOKEN)

    def continuation(self, partial: Partial, said_tokens: int) -> Call:
        return _never()

    def estimate(self, received: Received, step: Step) -> Usage:
        """Providers bill the text, or what they have made of all of it: whoever leaves early pays no less."""
        text, instructions = self.body["input"], self.body.get("instructions") or ""
        spoken = math.ceil(len(text) * TOKENS_A_CHARACTER)
        spoken = min(spoken, _longest_of(step) or spoken)
        return Usage(
            input_tokens=max(1, count_text(text + instructions, step.deployment.model)),
            output_tokens=spoken,
            audio_output_tokens=spoken,
            quantities={quantity_name(Meter.INPUT_CHARACTER): Decimal(len(text))},
            source=UsageSource.ESTIMATED,
        )


def parse_speech(body: Any, alias_in_path: str | None = None, deadline: float | None = None) -> SpeechCall:
    """Validate a request for speech. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if alias_in_path is not None:
        body = {**body, "model": alias_in_path}
    alias = alias_of(body)
    text = required(body, "input")
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest("'input' must be a non-empty string.", param="input")
    optional(body, "instructions", str, "a string")
    if len(text) + len(body.get("instructions") or "") > MAX_CHARACTERS:
        raise InvalidRequest(f"'input' may have {MAX_CHARACTERS} characters at the most.", param="input")
    if not isinstance(body.get("voice"), str | dict | None):
        raise InvalidRequest("'voice' must be the name of a voice, or an object with its id.", param="voice")
    _one_of(body, "response_format", sorted(CONTENT_TYPES))
    _one_of(body, "stream_format", ["audio", "sse"])
    speed = body.get("speed")
    if speed is not None and (isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 < speed <= 10):
        raise InvalidRequest("'speed' must be a number, as a rule from 0.25 to 4.", param="speed")
    return SpeechCall(alias=alias, body=body, end_user=end_user_of(body), tags=tags_of(body), deadline=deadline)


def _one_of(body: Mapping[str, Any], name: str, values: list[str]) -> None:
    if body.get(name) is not None and body[name] not in values:
        raise InvalidRequest(f"'{name}' must be one of {', '.join(values)}.", param=name)


def _longest_of(step: Step) -> int | None:
    """The most tokens that the model says at once. None: nobody says."""
    model = step.deployment.model
    known, _ = limits_of(step.deployment.litellm_provider, model)
    return known or next((most for begins, most in _LONGEST if model.rpartition("/")[2].startswith(begins)), None)


def _most_characters(text: str) -> int:
    """Some count as UTF-16 does, in which a picture of a face is two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _never() -> NoReturn:
    raise AssertionError("nobody goes on with sound")
