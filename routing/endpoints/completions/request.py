"""Reads and validates a request for completions of the old kind, and bounds its cost.

A step whose provider has such completions gets the body as it came. Every other step gets the prompt as the one message
of a chat, by the same rules as any chat: what a chat has no word for is left out, or the step cannot be asked.
https://platform.openai.com/docs/api-reference/completions/create
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage, UsageSource
from routing.catalog import Step
from routing.endpoints.chat.request import MAX_CHOICES, MAX_OUTPUT_TOKENS, ChatCall, parse_chat
from routing.endpoints.fields import alias_of, end_user_of, optional, required, tags_of, whole_number
from routing.exceptions import InvalidRequest
from routing.serving.call import Partial, Quantities, Received, Unbounded
from routing.upstreams import tiers
from routing.upstreams.base import AnswerStream, Deployment, Json, Upstream, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.completions import is_native, prompts_of
from routing.upstreams.estimate import count_text, text_of_tokens
from routing.upstreams.extras import FREE
from routing.upstreams.kinds import Kind
from routing.upstreams.mends.capability import cannot

MAX_PROMPTS: Final = 2_048  # OpenAI's limit
MAX_TOKEN: Final = 10_000_000  # beyond every vocabulary
MAX_TOP_LOGPROBS: Final = 20
#: What OpenAI documents for a request without `max_tokens`. It is sent, because other servers would go on for long.
DEFAULT_CAP_TOKENS: Final = 16
#: The marks of a beginning, and the few words with which a server may surround a prompt.
TOKENS_A_PROMPT: Final = 64
_OWN: Final = frozenset({"best_of", "echo", "logprobs", "prompt", "suffix"})
#: Parameters that both formats have, under the same name and with the same meaning.
_SAME: Final = frozenset(FREE - {"echo", "logprobs", "messages", "stream_options", "top_logprobs"})


@dataclass(frozen=True, slots=True)
class CompletionsCall:
    """A valid request: a `routing.serving.call.StreamedCall`. ``body`` is never changed."""

    endpoint: ClassVar[str] = "completions"
    kind: ClassVar[Kind] = Kind.COMPLETION

    alias: str
    body: Mapping[str, Any]
    streamed: bool
    include_usage: bool  # the client asked for the usage chunk of a stream
    prompts: tuple[Any, ...]  # texts, or lists of tokens
    texts: tuple[str, ...] | None  # of the prompts; None when the tokens are not OpenAI's
    chats: tuple[ChatCall, ...]  # one a prompt; without texts they are empty
    output_cap_tokens: int
    choices: int  # of each prompt
    best_of: int  # so many are made of each prompt
    end_user: str
    tags: Tags
    deadline: float | None = None  # monotonic: when the client no longer wants an answer

    @property
    def is_adapted(self) -> bool:
        return self.chats[0].is_adapted

    @property
    def echo(self) -> bool:
        return bool(self.body.get("echo"))

    def left_s(self) -> float:
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def ceiling(self, step: Step) -> Quantities:
        return self._native_ceiling(step) if self._is_native(step.deployment) else self._chat_ceiling(step)

    def _native_ceiling(self, step: Step) -> Quantities:
        tier, possible = tiers.asked(self.body, step.deployment)
        most = Quantities(
            input_tokens=sum(map(_most_tokens, self.prompts))
            + len(self.prompts) * _most_tokens(self.body.get("suffix") or ""),  # which is read with each
            output_cap_tokens=self.output_cap_tokens,
            answers=self.best_of * len(self.prompts),
            tier=tier,
            tiers=possible,
        )
        unknown = next((name for name in self.body if name not in FREE and name not in _OWN), None)
        if unknown is not None:
            raise Unbounded(unknown, "it is not known to cost nothing more", most)
        return most

    def _chat_ceiling(self, step: Step) -> Quantities:
        """The chats are asked one after the other. All have the same parameters, so each is as bounded as the first."""
        unbounded: Unbounded | None = None
        ceilings = []
        for chat in self.chats:
            try:
                ceilings.append(chat.ceiling(step))
            except Unbounded as error:
                ceilings.append(error.bounded)
                unbounded = error
        most = replace(
            ceilings[0],
            input_tokens=sum(each.input_tokens for each in ceilings),
            answers=sum(each.answers for each in ceilings),
        )
        if unbounded is not None:
            raise Unbounded(unbounded.param, str(unbounded), most)
        return most

    def request_for(self, step: Step, most: Quantities) -> Json:
        if self._is_native(step.deployment):
            return {**self.body, "max_tokens": self.output_cap_tokens}
        return self.chats[0].request_for(step, most)

    def ask_otherwise(self, step: Step) -> bool:
        return self.chats[0].ask_otherwise(step)

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        if self._is_native(request.deployment):
            return upstream.complete(request)
        self._refuse_what_no_chat_can()
        first, *others = self.chats
        ends_at = time.monotonic() + request.timeouts.total_s
        answer = first.answer_of(upstream, request)
        for place, chat in enumerate(others, start=1):
            timeouts = request.timeouts.within(ends_at - time.monotonic())  # all of them are one attempt
            try:
                more = chat.answer_of(upstream, replace(request, body=dict(chat.body), timeouts=timeouts))
            except UpstreamError as error:
                error.usage = _together(answer.usage, error.usage) or answer.usage
                raise
            answer = _joined(answer, more, place * self.choices)
        return replace(answer, dropped_params=(*answer.dropped_params, *self._left_out()))

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        if self._is_native(request.deployment):
            return upstream.complete_stream(request)
        self._refuse_what_no_chat_can()
        if len(self.chats) > 1:
            raise cannot("A chat model answers one prompt in a stream", "prompt")
        stream = self.chats[0].stream_of(upstream, request)
        stream.dropped_params = (*stream.dropped_params, *self._left_out())
        return stream

    def _refuse_what_no_chat_can(self) -> None:
        """Raises UpstreamError for what would be another request without it."""
        if self.texts is None:
            raise cannot("A chat model reads text, and the tokens are not those of OpenAI's models", "prompt")
        if self.body.get("suffix"):
            raise cannot("A chat model cannot write what stands before a given end", "suffix")
        if self.output_cap_tokens == 0:
            raise cannot("A chat model says one token at least", "max_tokens")
        if self.echo and self.body.get("logprobs") is not None:
            raise cannot("A chat model does not tell how likely its prompt is", "echo")

    def _left_out(self) -> tuple[str, ...]:
        left_out = [name for name, value in self.body.items() if name not in _SAME | _OWN and value is not None]
        if self.best_of > self.choices:
            left_out.append("best_of")
        return tuple(sorted(name for name in left_out if name != "stream_options"))

    def estimate(self, received: Received, step: Step) -> Usage:
        model = step.deployment.model
        if self.chats[0].rest is not None:
            return self.chats[0].estimate(received, step)
        said = received if isinstance(received, str) else _text_of(received)
        prompts = sum(len(each) if isinstance(each, list) else count_text(each, model) for each in self.prompts)
        unseen = self.best_of if self._is_native(step.deployment) and self.best_of > self.choices else self.choices
        return Usage(
            input_tokens=max(1, prompts),
            output_tokens=-(-count_text(said, model) * unseen // self.choices),
            source=UsageSource.ESTIMATED,
        )

    def partial(self, *, is_rescuable: bool) -> Partial:
        # What is echoed is no part of the answer, and nobody could tell it from the answer.
        is_rescuable = is_rescuable and len(self.prompts) == 1 and not self.echo and self.texts is not None
        return self.chats[0].partial(is_rescuable=is_rescuable)

    def continuation(self, partial: Partial, said_tokens: int) -> CompletionsCall:
        return replace(self, chats=(self.chats[0].continuation(partial, said_tokens),))

    def _is_native(self, deployment: Deployment) -> bool:
        """The rest of a broken answer is asked for in a chat, which has the rules for that."""
        return self.chats[0].rest is None and is_native(deployment, self.body["prompt"])


def _most_tokens(prompt: str | list[int]) -> int:
    """No tokenizer makes more tokens of a text than it has bytes."""
    return TOKENS_A_PROMPT + (len(prompt.encode("utf-8", "surrogatepass")) if isinstance(prompt, str) else len(prompt))


def _joined(answer: WholeAnswer, more: WholeAnswer, first_index: int) -> WholeAnswer:
    """Two chats as one answer, whose count is None when one of them has none."""
    for choice in more.body["choices"]:
        choice["index"] += first_index
    usage = _together(answer.usage, more.usage)
    body = {**answer.body, "choices": [*answer.body["choices"], *more.body["choices"]]}
    body.pop("usage", None)
    if usage is not None:
        total = usage.input_tokens + usage.output_tokens
        body["usage"] = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
                         "total_tokens": total}  # fmt: skip
    return replace(answer, body=body, usage=usage)


def _together(one: Usage | None, other: Usage | None) -> Usage | None:
    return None if one is None or other is None else one + other


def _text_of(answer: Json) -> str:
    return "".join(str(choice["message"].get("content") or "") for choice in answer["choices"])


# --- reading ------------------------------------------------------------------------------------------------------


def parse_completions(body: Any, alias_in_path: str | None = None, deadline: float | None = None) -> CompletionsCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if alias_in_path is not None:
        body = {**body, "model": alias_in_path}
    alias = alias_of(body)
    _check_prompt(required(body, "prompt"))
    streamed = optional(body, "stream", bool, "true or false") or False
    options = optional(body, "stream_options", dict, "an object")
    if options is not None and not streamed:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    optional(body, "echo", bool, "true or false")
    optional(body, "suffix", str, "a string")
    choices = whole_number(body, "n", most=MAX_CHOICES) or 1
    best_of = whole_number(body, "best_of", most=MAX_CHOICES) or choices
    if best_of < choices:
        raise InvalidRequest("'best_of' must be at least as large as 'n'.", param="best_of")
    if streamed and best_of > choices:
        raise InvalidRequest("Of a stream nobody knows which of 'best_of' is best.", param="best_of")
    _number(body, "logprobs", MAX_TOP_LOGPROBS)
    cap = _number(body, "max_tokens", MAX_OUTPUT_TOKENS)
    cap = DEFAULT_CAP_TOKENS if cap is None else cap
    prompts = prompts_of(body["prompt"])
    texts = [each if isinstance(each, str) else text_of_tokens(each) for each in prompts]
    are_texts = all(text is not None for text in texts)
    return CompletionsCall(
        alias=alias,
        body=body,
        streamed=streamed,
        include_usage=bool((options or {}).get("include_usage")),
        prompts=tuple(prompts),
        texts=tuple(str(text) for text in texts) if are_texts else None,
        chats=tuple(parse_chat(_as_chat(body, text or "", cap), deadline=deadline) for text in texts),
        output_cap_tokens=cap,
        choices=choices,
        best_of=best_of,
        end_user=end_user_of(body),
        tags=tags_of(body),
        deadline=deadline,
    )


def _as_chat(body: Mapping[str, Any], text: str, cap: int) -> Json:
    chat = {name: value for name, value in body.items() if name in _SAME}
    chat |= {"messages": [{"role": "user", "content": text}], "max_tokens": max(1, cap)}
    likely = body.get("logprobs")
    if likely is not None:
        chat |= {"logprobs": True, "top_logprobs": likely}
    return chat


def _check_prompt(prompt: Any) -> None:
    """A text, a list of tokens, or a list of either."""
    if isinstance(prompt, str):
        if not prompt:
            raise InvalidRequest("'prompt' must not be an empty string.", param="prompt")
        return
    if not isinstance(prompt, list) or not prompt:
        raise InvalidRequest("'prompt' must be a string, or a non-empty array of strings or of tokens.", param="prompt")
    if _is_tokens(prompt):
        return
    if len(prompt) > MAX_PROMPTS:
        raise InvalidRequest(f"'prompt' may have {MAX_PROMPTS} elements at the most.", param="prompt")
    for index, each in enumerate(prompt):
        if not (isinstance(each, str) and each) and not (isinstance(each, list) and each and _is_tokens(each)):
            where = f"prompt[{index}]"
            raise InvalidRequest(f"'{where}' must be a non-empty string, or a non-empty array of tokens.", param=where)


def _is_tokens(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= MAX_TOKEN for value in values)


def _number(body: Mapping[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is not None and (type(value) is not int or not 0 <= value <= most):
        raise InvalidRequest(f"'{name}' must be a whole number from 0 to {most}.", param=name)
    return value
