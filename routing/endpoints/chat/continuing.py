"""How a broken stream is continued by another deployment: what it is asked, and how its words are joined.

The client has the beginning of an answer (:class:`PartialChat`), and the next step is given that beginning. A model
that can go on from an assistant message gets it as such a message (*prefill*). Any other model gets it with an
instruction to continue. :class:`Continued` joins the new words to the old ones, without a seam or a repetition.

A model may begin the answer anew. When it uses the same words, they are left out. When it uses *other* words, the two
texts are not one answer, and the step has failed. Nothing here calls a provider: the cascade does.

Prefill: https://docs.anthropic.com/en/docs/build-with-claude/prompt-engineering/prefill-claudes-response
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accounting.usage import Usage
from routing.upstreams.answers import speaks
from routing.upstreams.base import QUIET, AnswerStream, Deployment, FailureKind, Json, UpstreamError
from routing.upstreams.price_map import continues_prefill

INSTRUCTION = (
    "Your answer above was cut off by a failure of the network. Continue it from exactly where it ends, in the same "
    "language, style and format. Write only what is missing: do not repeat anything of it, do not begin it again, do "
    "not apologise or comment. What you write is appended to it as it is, so begin with a space if one is missing."
)
MAX_HELD_CHARACTERS = 1024 * 1024  # of a tool call that waits for its end; a longer call is relayed as it comes
ANEW_CHARACTERS = 40  # a model that repeats this many of the first characters has begun the answer anew
ANEW_JSON_CHARACTERS = 8  # the same for a JSON document: few characters show that it opens again
OVERLAP_CHARACTERS = 12  # a shorter repetition of the last words may be chance ("… had had …")
_WINDOW_CHARACTERS = 400  # no model repeats more of the end than this
_REASONING = frozenset({"reasoning_content", "reasoning", "thinking_blocks"})

#: Deployments that have refused to go on from an assistant message, though litellm's map says that they can.
_refusing: set[tuple[str, str]] = set()


@dataclass
class PartialChat:
    """What the client was sent of a stream's only choice, and what is held back: a `routing.serving.call.Partial`.

    A tool call is not sent before it is whole, so that another model can begin anew a call that was cut in half."""

    texts: list[str] = field(default_factory=list)
    held: list[Json] = field(default_factory=list)
    is_finished: bool = False
    #: No step can go on: there is no further step, or the client was sent something that is not text.
    is_beyond_rescue: bool = False
    head: Json = field(default_factory=dict)  # the fields that all chunks of an answer share
    told: set[str] = field(default_factory=set)  # what comes only once: the role, and thoughts before the answer
    _held_characters: int = 0
    _received: list[str] = field(default_factory=list)  # the text of all choices, from the step that serves now

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def received(self) -> str:
        return "".join(self._received)

    @property
    def can_be_continued(self) -> bool:
        return not self.is_beyond_rescue and not self.is_finished

    def begin_anew(self) -> None:
        self.held.clear()
        self._held_characters = 0
        self._received.clear()

    def receive(self, event: Json) -> Sequence[Json]:
        """Take one more event. Returns what may be sent now: this event, nothing yet, or all events that were held."""
        if self._goes_on(event):
            return (event,)
        self._note(event)
        if self.is_beyond_rescue:
            return (event,)
        if not self.head:
            self.head = {name: event[name] for name in ("id", "created", "system_fingerprint") if name in event}
        choices = event.get("choices") or [{}]
        choice = choices[0]
        delta = choice.get("delta") or {}
        if choice.get("finish_reason"):
            return self._release(event)
        if self.held or delta.get("tool_calls") or delta.get("function_call"):
            self.held.append(event)
            self._held_characters += len(json.dumps(delta))
            if self._held_characters <= MAX_HELD_CHARACTERS:
                return ()
            self.is_beyond_rescue = True
            return self._release()
        if delta.get("content"):
            self.texts.append(delta["content"])
            self.told |= _REASONING
        if "role" in delta:
            self.told.add("role")
        if not _REASONING.isdisjoint(delta):
            self.told |= _REASONING
        if delta.get("audio") or delta.get("refusal") or delta.get("images"):
            self.is_beyond_rescue = True
        return (event,)

    def _goes_on(self, event: Json) -> bool:
        """Whether the event is further text of the answer and nothing else, as nearly all are. Notes it."""
        choices = event.get("choices")
        if type(choices) is not list or len(choices) != 1 or self.held or not (self.head or self.is_beyond_rescue):
            return False
        choice = choices[0]
        delta = choice.get("delta")
        if type(delta) is not dict or len(delta) != 1 or choice.get("finish_reason"):
            return False
        text = delta.get("content")
        if type(text) is not str or not text:
            return False
        self._received.append(text)
        if not self.is_beyond_rescue:
            self.texts.append(text)
            self.told |= _REASONING
        return True

    def _release(self, *last: Json) -> list[Json]:
        released = [*self.held, *last]
        self.held = []
        return released

    def _note(self, event: Json) -> None:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            self.is_finished = self.is_finished or bool(choice.get("finish_reason"))
            for part in ("content", "reasoning_content", "refusal"):
                if isinstance(delta.get(part), str):
                    self._received.append(delta[part])
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                self._received.append(f"{function.get('name') or ''}{function.get('arguments') or ''}")


class Rest:
    """The rest of an answer whose beginning the client has. Each step is asked for it in words that it understands."""

    def __init__(self, partial: PartialChat, said_tokens: int) -> None:
        self.further_input_tokens = further_input_tokens(partial.text)
        self._partial = partial
        self._said_tokens = said_tokens
        # Decided once, because how the answer is read depends on how it was asked for.
        self._prefills: dict[Deployment, bool] = {}

    def asked_of(self, deployment: Deployment, body: Mapping[str, Any]) -> Json:
        return continuation(body, self._partial.text, self._said_tokens, prefill=self._is_prefilled(deployment))

    def read(self, stream: AnswerStream, deployment: Deployment) -> AnswerStream:
        return Continued(stream, self._partial, prefilled=self._is_prefilled(deployment))

    def asked_after(self, turns: list[Any], cap_tokens: int) -> tuple[list[Any], int]:
        """The turns of a conversation in another format with those that ask for the rest behind them, and what is left
        of the output cap."""
        asked = continuation(
            {"messages": turns, "max_tokens": cap_tokens}, self._partial.text, self._said_tokens, prefill=False
        )
        return asked["messages"], asked["max_tokens"]

    def ask_otherwise(self, deployment: Deployment) -> bool:
        """Whether to ask the deployment once more, with an instruction in the place of a refused prefill.

        The client is not to blame for a refused prefill."""
        if not self._is_prefilled(deployment):
            return False
        learn_refusal(deployment)
        self._prefills[deployment] = False
        return True

    def _is_prefilled(self, deployment: Deployment) -> bool:
        if deployment not in self._prefills:
            self._prefills[deployment] = bool(self._partial.text) and can_prefill(deployment)
        return self._prefills[deployment]


def can_prefill(deployment: Deployment) -> bool:
    """Whether the deployment goes on from an assistant message: litellm's map says so, and it has never refused."""
    if (deployment.provider, deployment.model) in _refusing:
        return False
    return continues_prefill(deployment.litellm_provider, deployment.model)


def learn_refusal(deployment: Deployment) -> None:
    """The deployment answered a prefill with a 400. From now on this process sends it an instruction instead."""
    _refusing.add((deployment.provider, deployment.model))


def continuation(body: Mapping[str, Any], partial: str, said_tokens: int, *, prefill: bool) -> Json:
    """The request that asks for the rest, within what is left of its output cap.

    When no text has come so far, it is the client's own request: the answer begins anew."""
    asked = dict(body)
    if not partial:
        return asked
    for name in ("max_tokens", "max_completion_tokens"):
        if asked.get(name) is not None:
            asked[name] = max(1, asked[name] - said_tokens)
    # A model that must answer with a whole JSON document would begin it anew.
    asked.pop("response_format", None)
    said = {"role": "assistant", "content": partial}
    if prefill:
        # Anthropic refuses a last message that ends in white space. If the model repeats it, Continued drops it.
        said["content"] = partial.rstrip()
        asked["messages"] = [*body["messages"], said]
    else:
        asked["messages"] = [*body["messages"], said, {"role": "user", "content": INSTRUCTION}]
    return asked


def further_input_tokens(partial: str) -> int:
    """The most tokens that a continuation adds to the client's prompt: one for each byte."""
    return len(partial.encode("utf-8", "surrogatepass")) + len(INSTRUCTION) + 64 if partial else 0


class Seam:
    """Joins a continuation's text to the partial text. `add` and `end` return what the client is to be sent."""

    def __init__(self, partial: str, *, prefilled: bool) -> None:
        self._partial = partial
        self._prefilled = prefilled
        self._anew_characters = ANEW_JSON_CHARACTERS if partial.lstrip()[:1] in ("{", "[") else ANEW_CHARACTERS
        self._held = ""
        self._decided = not partial

    def add(self, text: str) -> str:
        """Raises UpstreamError when the model begins the answer anew with other words."""
        if self._decided:
            return text
        self._held += text
        return "" if self._may_be_repetition() else self._decide()

    def end(self) -> str:
        """The text that still waits when the model has said nothing but a repetition."""
        return "" if self._decided else self._decide()

    def _may_be_repetition(self) -> bool:
        held, partial = self._held, self._partial
        if len(held) < len(partial) and partial.startswith(held):
            return True
        # Could these words still be a repetition of the partial text's end? Then wait for more.
        return not self._prefilled and held in partial[-_WINDOW_CHARACTERS:]

    def _decide(self) -> str:
        self._decided = True
        held, partial, self._held = self._held, self._partial, ""
        if held.startswith(partial) and (len(partial) >= OVERLAP_CHARACTERS or not self._prefilled):
            return held[len(partial) :]
        common = _common(held, partial)
        # Words that come several times belong to the text (a refrain, a table): they are not a repetition.
        if common >= self._anew_characters and partial.find(held[: self._anew_characters], 1) == -1:
            raise UpstreamError(FailureKind.MALFORMED, "The model did not continue the answer but began another one")
        trailing = partial[len(partial.rstrip()) :]
        if self._prefilled:
            return held[_common(held, trailing) :]
        overlap = _overlap(partial[-_WINDOW_CHARACTERS:], held)
        if overlap >= OVERLAP_CHARACTERS and partial.find(held[:overlap]) == len(partial) - overlap:
            return held[overlap:]
        return held[_common(held, trailing) :] if trailing else held


def _common(one: str, other: str) -> int:
    """How many characters both texts share at their beginning."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))


def _overlap(before: str, after: str) -> int:
    """The length of the longest end of the first text with which the second text begins."""
    for length in range(min(len(before), len(after)), 0, -1):
        if before.endswith(after[:length]):
            return length
    return 0


class Continued:
    """The rest of an answer as an `AnswerStream`. It goes on from the last chunk of the stream that broke."""

    def __init__(self, stream: AnswerStream, partial: PartialChat, *, prefilled: bool) -> None:
        self.http_status = stream.http_status
        self.provider_request_id = stream.provider_request_id
        self.dropped_params = stream.dropped_params
        self._stream = stream
        self._partial = partial
        self._seam = Seam(partial.text, prefilled=prefilled)

    @property
    def usage(self) -> Usage | None:
        return self._stream.usage

    @property
    def service_tier(self) -> str | None:
        return self._stream.service_tier

    @property
    def has_event(self) -> bool:
        return False  # what it joins, it may keep

    def beat(self, every_s: float) -> None:
        self._stream.beat(every_s)

    def close(self) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        while True:
            event = next(self._stream)
            if event is QUIET:
                return event
            joined = self._joined(event)
            if joined is not None:
                return joined

    def _joined(self, event: Json) -> Json | None:
        """The event as the next event of the stream that broke; None when there is nothing new in it."""
        event = {**event, **self._partial.head}
        event.pop("native", None)  # in the provider's own words it would not go on from the stream that broke
        choices = event.get("choices")
        if not choices:
            return event
        choice = choices[0]
        told = self._partial.told
        delta = choice["delta"] = {name: value for name, value in choice["delta"].items() if name not in told}
        text = delta.get("content")
        if isinstance(text, str):
            delta["content"] = self._seam.add(text)
        if choice.get("finish_reason") or delta.get("tool_calls"):
            left = self._seam.end()
            if left:
                delta["content"] = (delta.get("content") or "") + left
        if not speaks(delta) and not choice.get("finish_reason") and not event.get("usage"):
            return None
        return event
