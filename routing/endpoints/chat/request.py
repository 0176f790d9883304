"""Reads and validates a chat request.

The gateway validates what it reads itself: the model, the shape of the messages, whether the answer is streamed, and
all that bounds the cost. Everything else passes through as it came, unknown parameters included: the provider judges
it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from accounting.record import record
from accounting.tags import Tags
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.chat.ceiling import InputCeiling, input_ceiling
from routing.endpoints.chat.continuing import PartialChat, Rest
from routing.endpoints.fields import (
    MAX_CALLS,
    MAX_CALLS_A_MESSAGE,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOOLS,
    alias_of,
    end_user_of,
    length_of,
    optional,
    refuse_more_than,
    required,
    tags_of,
    whole_number,
)
from routing.exceptions import InvalidRequest, MissingParameter
from routing.serving.call import LEAST_OUTPUT_CAP_TOKENS, CappedBy, Partial, Quantities, Received, Unbounded
from routing.upstreams import tiers
from routing.upstreams.base import AnswerStream, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.estimate import estimated_usage
from routing.upstreams.extras import Suspects, asked_search, extras, suspects
from routing.upstreams.kinds import Kind
from routing.upstreams.price_map import limits_of

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_CHOICES = 128  # OpenAI's own limit of `n`
MAX_OUTPUT_TOKENS = 10_000_000


@record(frozen=True, slots=True)
class ChatCall:
    """A valid chat request: a `routing.serving.call.StreamedCall`.

    ``body`` is what the client sent, and is never changed."""

    endpoint: ClassVar[str] = "chat"
    kind: ClassVar[Kind] = Kind.CHAT

    alias: str
    body: Mapping[str, Any]
    streamed: bool
    include_usage: bool  # the client asked for the usage chunk of a stream
    choices: int
    output_cap_tokens: int | None  # of each choice, when the client sent a cap
    end_user: str
    tags: Tags
    input: InputCeiling
    suspects: Suspects
    deadline: float | None = None  # monotonic: when the client no longer wants an answer
    rest: Rest | None = None  # set when the client has the beginning of its answer, and only the rest is asked for

    @property
    def is_adapted(self) -> bool:
        return self.rest is not None

    def left_s(self) -> float:
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def ceiling(self, step: Step) -> Quantities:
        provider, model = step.deployment.litellm_provider, step.deployment.model
        tier, possible = tiers.asked(self.body, step.deployment)
        more = extras(self.body, self.suspects, step.deployment)
        input_tokens = self.input.tokens_for(provider, model)
        input_tokens += 0 if self.rest is None else self.rest.further_input_tokens
        cap_tokens, capped_by = self.output_cap(step, input_tokens)
        most = Quantities(
            input_tokens=input_tokens * more.readings + more.further_input_tokens,
            output_cap_tokens=cap_tokens,
            capped_by=capped_by,
            answers=self.choices,
            predicted_tokens=self.input.predicted_tokens + more.further_output_tokens,
            tier=tier,
            tiers=possible,
            units=more.units,
            needs=more.needs,
        )
        unbounded = self.input.unbounded_at(provider) or more.unbounded
        if unbounded is not None:
            raise Unbounded(unbounded.param, unbounded.why, most)
        return most

    def output_cap(self, step: Step, input_tokens: int) -> tuple[int, CappedBy]:
        """For each answer: the client's cap, else the alias's, else as much as the model can say to this input."""
        if self.output_cap_tokens is not None:
            return self.output_cap_tokens, CappedBy.CLIENT
        if step.output_cap_tokens is not None:
            return step.output_cap_tokens, CappedBy.ALIAS
        most_output, window = limits_of(step.deployment.litellm_provider, step.deployment.model)
        if most_output is None:
            return LEAST_OUTPUT_CAP_TOKENS, CappedBy.MODEL
        if window is not None:  # many providers refuse a cap that does not fit beside the input
            most_output = min(most_output, max(window - input_tokens, LEAST_OUTPUT_CAP_TOKENS))
        return most_output, CappedBy.MODEL

    def request_for(self, step: Step, most: Quantities) -> Json:
        body = self._asked_of(step)
        if most.capped_by is not CappedBy.CLIENT:
            # The hold counts with this cap, so the provider must know it.
            name = "max_completion_tokens" if step.deployment.litellm_provider in ("openai", "azure") else "max_tokens"
            body[name] = most.output_cap_tokens
        return body if self.rest is None else self.rest.asked_of(step.deployment, body)

    def _asked_of(self, step: Step) -> Json:
        body = dict(self.body)
        if "web_search_options" in body:
            body["web_search_options"] = asked_search(body["web_search_options"], step.deployment)
        return body

    def ask_otherwise(self, step: Step) -> bool:
        return self.rest is not None and self.rest.ask_otherwise(step.deployment)

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        return upstream.whole(request)

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        stream = upstream.stream(request)
        return stream if self.rest is None else self.rest.read(stream, request.deployment)

    def estimate(self, received: Received, step: Step) -> Usage:
        text = received if isinstance(received, str) else _text_of(received)
        asked = self.body if self.rest is None else self.rest.asked_of(step.deployment, self.body)
        return estimated_usage(asked, text, step.deployment.model)

    def partial(self, *, is_rescuable: bool) -> PartialChat:
        return PartialChat(is_beyond_rescue=not is_rescuable or self.choices != 1)

    def continuation(self, partial: Partial, said_tokens: int) -> ChatCall:
        assert isinstance(partial, PartialChat)  # it was made by our own `partial`
        return replace(self, rest=Rest(partial, said_tokens))


def parse_chat(body: Any, alias_in_path: str | None = None, deadline: float | None = None) -> ChatCall:
    """Validate a chat request. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if alias_in_path is not None:
        body = {**body, "model": alias_in_path}
    model = alias_of(body)
    _check_messages(required(body, "messages"))
    streamed = optional(body, "stream", bool, "true or false") or False
    options = optional(body, "stream_options", dict, "an object")
    if options is not None and not streamed:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    include_usage = (options or {}).get("include_usage")
    if include_usage is not None and not isinstance(include_usage, bool):
        raise InvalidRequest(
            "'stream_options.include_usage' must be true or false.", param="stream_options.include_usage"
        )
    optional(body, "tools", list, "an array")
    for name in ("tools", "functions"):
        refuse_more_than(MAX_TOOLS, length_of(body.get(name)), name, name)
    _check_cap_agreement(body)
    return ChatCall(
        alias=model,
        body=body,
        streamed=streamed,
        include_usage=bool(include_usage),
        choices=whole_number(body, "n", most=MAX_CHOICES) or 1,
        output_cap_tokens=(
            whole_number(body, "max_completion_tokens", most=MAX_OUTPUT_TOKENS)
            or whole_number(body, "max_tokens", most=MAX_OUTPUT_TOKENS)
        ),
        end_user=end_user_of(body),
        tags=tags_of(body),
        input=input_ceiling(body),
        suspects=suspects(body),
        deadline=deadline,
    )


def _text_of(answer: Json) -> str:
    """All text of a whole answer."""
    texts = []
    for choice in answer["choices"]:
        message = choice["message"]
        texts.append(message.get("content") or "")
        texts.extend(str(call.get("function")) for call in message.get("tool_calls") or ())
    return "".join(map(str, texts))


def _check_cap_agreement(body: Mapping[str, Any]) -> None:
    # If both were set, the provider would choose which of them bounds the cost.
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise InvalidRequest("Set either 'max_tokens' or 'max_completion_tokens', not both.", param="max_tokens")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a non-empty array.", param="messages")
    refuse_more_than(MAX_MESSAGES, len(messages), "messages", "messages")
    parts = calls = 0
    for index, message in enumerate(messages):
        if _is_ordinary(message):
            continue
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"'{where}' must be an object.", param=where)
        role = message.get("role")
        if role is None:
            raise MissingParameter(f"'{where}.role' is required.", param=f"{where}.role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(f"'{where}.role' must be one of: {', '.join(sorted(ROLES))}.", param=f"{where}.role")
        _check_content(message, role, f"{where}.content")
        parts += length_of(message.get("content"))
        called = length_of(message.get("tool_calls"))
        refuse_more_than(MAX_CALLS_A_MESSAGE, called, "tool calls in a message", f"{where}.tool_calls")
        calls += called
    refuse_more_than(MAX_PARTS, parts, "content parts in all messages", "messages")
    refuse_more_than(MAX_CALLS, calls, "tool calls in all messages", "messages")


def _is_ordinary(message: Any) -> bool:
    """Whether the message is one that nothing needs to be said of, as nearly all are: who speaks, and text."""
    if type(message) is not dict or type(message.get("content")) is not str or "tool_calls" in message:
        return False
    role = message.get("role")
    return type(role) is str and role in ROLES


def _check_content(message: Mapping[str, Any], role: str, where: str) -> None:
    content = message.get("content")
    if content is None:
        if role in ("assistant", "function", "tool"):
            return  # tool calls come without content; whether an empty tool result is allowed, the provider says
        raise MissingParameter(f"'{where}' is required.", param=where)
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' must be a string or an array of parts.", param=where)
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequest(f"'{where}[{index}]' must be an object with a 'type'.", param=f"{where}[{index}]")
