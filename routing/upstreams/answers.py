"""Decides what counts as an answer, whichever upstream brought it, and puts it into OpenAI's shape.

Providers that claim to speak OpenAI's format differ in the details. So whole answers and stream chunks are read before
they are passed on, and put into OpenAI's shape as far as possible. Nothing in them may surprise the code and the
clients that read them later.
"""

from __future__ import annotations

import codecs
import json
import time
import uuid
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Literal

from accounting import json_text
from routing.upstreams.base import Content, FailureKind, Json, UpstreamError, WholeAnswer
from routing.upstreams.usage import conforming_usage, reported_in, usage_of

#: The parts of a delta or message that are an answer. `annotations`, `thinking_blocks` and the like come with them.
_CONTENT = (
    "content",
    "tool_calls",
    "reasoning_content",
    "refusal",
    "audio",
    "function_call",
    "reasoning",
    "images",
)
#: The parts among them that are text.
TEXTS: Final = frozenset({"content", "reasoning_content", "reasoning", "refusal"})
#: Finish reasons with which an answer may be without content: they say why it is empty.
_SPEAKING_ENDS = frozenset({"length", "content_filter"})


def speaks(message: object) -> bool:
    """Whether a message or delta has content: text, a tool call, reasoning, a refusal, audio."""
    if not isinstance(message, dict):
        return False
    if message.get("content"):
        return True
    return any(message.get(part) for part in _CONTENT)


def has_content(chunk: Mapping[str, Any]) -> bool:
    """Whether a stream chunk has content or a finish reason. The first such chunk ends the first-token limit."""
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return isinstance(chunk.get("content"), Content)
    return any(
        isinstance(choice, dict) and (choice.get("finish_reason") or speaks(choice.get("delta"))) for choice in choices
    )


def ends_empty(finish_reason: object, *, may_be_empty: bool = False) -> bool:
    """Whether an answer that ends so, without any content, is an empty one."""
    return finish_reason not in _SPEAKING_ENDS and not (may_be_empty and finish_reason == "stop")


def may_be_empty(request: Mapping[str, Any]) -> bool:
    """Whether an answer without content that ends with `stop` answers the request: an agent that has nothing more to
    say after a tool's result, or a model whose first words were a stop sequence."""
    messages = request.get("messages")
    said = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    roles = [message.get("role") for message in said if message.get("role") not in ("system", "developer")]
    return bool(request.get("stop")) or roles[-1:] in (["tool"], ["function"])


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


#: JSON has no NaN and no infinities, but Python reads and writes them. Providers say -Infinity where OpenAI has -9999.0
#: for the log probability of a token that is all but impossible.
UNLIKELY: Final = -9999.0
_decode = json.JSONDecoder(
    parse_constant=lambda name: UNLIKELY if name == "-Infinity" else None, parse_float=_finite
).decode


def _text(data: bytes) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()  # with an error handler this would be ten times slower
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogatepass")


def _read_by_python(data: bytes) -> Any:
    return _decode(_text(data))


def loads(data: bytes) -> Any:
    """Reads a provider's JSON. Raises ValueError, also when the nesting is too deep."""
    try:
        return json_text.loads(data, _read_by_python)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def dumps(body: Mapping[str, Any]) -> bytes:
    """Writes a request's body. JSON has no NaN and no infinities, so a request with one of them cannot be written."""
    try:
        return json_text.dumps_strictly(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise UpstreamError(
            FailureKind.BAD_REQUEST,
            "The request cannot be written as JSON",
            http_status=400,
            error_type="invalid_request_error",
            code="invalid_value",
        ) from error


def whole_answer(
    body: object, http_status: int, provider_request_id: str | None, *, may_be_empty: bool = False, secret: str = ""
) -> WholeAnswer:
    """Checks a `chat.completion`, and puts it into OpenAI's shape.

    Raises UpstreamError: MALFORMED, EMPTY, or OVERLOADED for an answer that ends in an error. The error has the usage,
    because the provider bills it all the same.
    """
    usage = usage_of(reported_in(body)) if isinstance(body, dict) else None

    def failed(kind: FailureKind, message: str) -> UpstreamError:
        return UpstreamError(
            kind,
            message,
            http_status=http_status,
            provider_request_id=provider_request_id,
            usage=usage,
            consumed=True,
            secret=secret,
        )

    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(choices, list) or not all(map(_is_choice, choices)):
        raise failed(FailureKind.MALFORMED, "The provider's answer is not a chat completion")
    if any(ends_in_failure(choice.get("finish_reason")) for choice in choices):
        raise failed(FailureKind.OVERLOADED, why_failed(choices))
    may_be_empty = may_be_empty and all(choice.get("finish_reason") for choice in choices)
    conforming(body)
    ends = [c["finish_reason"] for c in choices if not speaks(c["message"])]
    if len(ends) == len(choices) and all(ends_empty(end, may_be_empty=may_be_empty) for end in ends):
        raise failed(FailureKind.EMPTY, "The provider's answer is empty")
    return WholeAnswer(body, usage, http_status, provider_request_id, tier_of(body))


def cleaned(body: Json) -> Json:
    """litellm's answer without the empty fields that only litellm's own code reads."""
    result = {n: v for n, v in body.items() if v or not n.startswith("vertex_ai_")}
    for choice in result.get("choices", ()):
        for holder in (choice, choice["message"]):
            for name in ("images", "thinking_blocks", "provider_specific_fields", "annotations"):
                value = holder.get(name)
                if isinstance(value, dict):
                    holder[name] = value = {n: v for n, v in value.items() if v is not None}
                if name in holder and not value:
                    del holder[name]
    return result


def tier_of(body: Mapping[str, Any]) -> str | None:
    """The service tier that an answer or a chunk names."""
    tier = body.get("service_tier")
    return tier if isinstance(tier, str) and tier else None


# --- ends -----------------------------------------------------------------------------------------------

#: Finish reasons of other providers → the nearest of OpenAI's five. A reason that is not listed becomes "stop".
_REASONS: Final[dict[str, str]] = {
    **{reason: reason for reason in ("stop", "length", "tool_calls", "content_filter", "function_call")},
    **dict.fromkeys(
        (
            "max_tokens",
            "max_length",
            "max_output_tokens",
            "model_length",  # Mistral
            "model_context_window_exceeded",  # Anthropic, Z.AI
            "context_length_exceeded",
            "token_limit",
            "truncated",
        ),
        "length",
    ),
    **dict.fromkeys(("tool_use", "tool_call", "tool", "function"), "tool_calls"),
    **dict.fromkeys(
        (
            "safety",
            "sensitive",  # Z.AI
            "content_filtered",
            "blocked",
            "prohibited_content",
            "recitation",
            "refusal",
            "guardrail_intervened",  # Bedrock
        ),
        "content_filter",
    ),
}
#: Finish reasons that say that the provider failed: OpenRouter; DeepSeek; Z.AI; vLLM and SGLang.
_FAILURES: Final = frozenset({"error", "insufficient_system_resource", "network_error", "abort", "aborted"})


def _plain_reason(reason: object) -> str:
    return str(reason).strip().lower().replace("-", "_")


def ends_in_failure(reason: object) -> bool:
    """Whether the finish reason says that the provider failed before the answer was finished."""
    return reason is not None and _plain_reason(reason) in _FAILURES


def why_failed(choices: list[Json]) -> str:
    """The words that OpenRouter puts beside the finish reason "error"."""
    for choice in choices:
        error = choice.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        if isinstance(message, str):
            return message
    return "The provider's answer ended in an error"


def conforming_reason(reason: object, *, called: bool) -> str:
    """The nearest of OpenAI's five finish reasons. `called`: the answer has tool calls, which many servers end with
    "stop": agents that go by the reason would not make the calls."""
    known = _REASONS.get(_plain_reason(reason)) if reason else None
    if known in (None, "stop"):
        return "tool_calls" if called else "stop"
    return known


# --- shape ----------------------------------------------------------------------------------------------


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and any(isinstance(choice.get(name), dict) for name in ("message", "delta"))


def conforming(body: Json) -> Json:
    """The same object, with everything that OpenAI's schema requires of a `chat.completion`."""
    if not isinstance(body.get("id"), str):
        body["id"] = f"chatcmpl-{time.time_ns():x}"
    body["object"] = "chat.completion"
    if type(body.get("created")) is not int:
        body["created"] = int(time.time())
    usage = conforming_usage(reported_in(body))
    body.pop("usage", None)
    if usage is not None:
        body["usage"] = usage
    for index, choice in enumerate(body["choices"]):
        message = conforming_choice(choice, index, "message", Calls(numbered=False))
        message["role"] = "assistant"
        message.setdefault("content", None)
        message.setdefault("refusal", None)
        choice["finish_reason"] = conforming_reason(choice.get("finish_reason"), called=bool(message.get("tool_calls")))
    return body


def conforming_choice(choice: Json, index: int, name: Literal["message", "delta"], calls: Calls) -> Json:
    """Puts a choice of an answer or of a chunk into OpenAI's shape, but for its finish reason.

    Returns its message or delta. That then stands under ``name``, even when the provider used another name."""
    if type(choice.get("index")) is not int:
        choice["index"] = index
    other = choice.pop("delta" if name == "message" else "message", None)
    said = choice.get(name)
    if type(said) is not dict:
        said = choice[name] = other if type(other) is dict else {}
    choice.pop("usage", None)
    if name == "message" or "logprobs" in choice:
        choice["logprobs"] = _conforming_logprobs(choice.get("logprobs"))
    content = said.get("content")
    if content is not None and type(content) is not str:
        _split_content(said, content)
    if "role" in said and said["role"] != "assistant":
        said["role"] = "assistant"
    for part in TEXTS:
        if (text := said.get(part)) is not None and not isinstance(text, str):
            said[part] = _text_of(said[part])
    if "tool_calls" in said:
        calls.conform(said)
    called = said.get("function_call")
    if isinstance(called, dict):
        called["arguments"] = _arguments(called.get("arguments"))
    elif called is None:
        said.pop("function_call", None)
    return said


class Calls:
    """The tool calls of one choice. Numbers calls that come without an `index`, or with the `index` of another call."""

    def __init__(self, *, numbered: bool = True) -> None:
        self._numbered = numbered  # the calls of a whole answer stand in order and need no index
        self._places: dict[object, int] = {}  # where each call stands, by the provider's index for it
        self._ids: list[object] = []  # of each call, in order
        self._names: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._ids)

    def conform(self, said: Json) -> None:
        """The tool calls of a message or a delta, in OpenAI's shape."""
        given = said["tool_calls"]
        calls = [call for call in given if type(call) is dict] if type(given) is list else []
        if not calls:
            del said["tool_calls"]
            return
        said["tool_calls"] = calls
        for call in calls:
            self._conform(call)

    def go_on(self, given: object) -> bool:
        """Whether this is a further part of the arguments of a call that has begun, in OpenAI's shape."""
        if type(given) is not list or len(given) != 1 or type(given[0]) is not dict:
            return False
        call = given[0]
        index, function = call.get("index"), call.get("function")
        return (
            call.get("id") is None
            and index is not None
            and self._places.get(index) == index
            and type(function) is dict
            and type(function.get("arguments")) is str
            and "name" not in function
        )

    def _conform(self, call: Json) -> None:
        content, text = _content_of_call(call)
        index, identity = call.get("index"), call.get("id")
        place = self._place(index if type(index) is int else None, identity, content)
        is_new = place == len(self._ids)
        if self._numbered:
            call["index"] = place
        if is_new:
            if not isinstance(identity, str) or not identity or identity in self._ids:
                call["id"] = f"call_{uuid.uuid4().hex[:24]}"
            if not isinstance(call.get("type"), str) or not call["type"]:
                call["type"] = "function" if content is call.get("function") else "custom"
            self._ids.append(identity)
            if not isinstance(content.get("name"), str):
                content["name"] = _text_of(content.get("name"))
            self._names.append(content["name"])
        else:
            call.pop("id", None)  # the id comes once, because clients join the texts of all parts
            if "name" in content and content["name"] in (None, "", self._names[place]):
                del content["name"]
        if type(content.get(text)) is not str and (is_new or text in content):
            content[text] = _arguments(content.get(text))
        if not self._numbered and text == "arguments" and not content.get(text):
            content[text] = "{}"  # whole, so that nothing follows: clients read it as JSON

    def _place(self, index: int | None, identity: object, function: Json) -> int:
        """The place of the call that a part belongs to.

        A part without an index belongs to the call with the same id. It begins a new call when its id or name is new,
        and goes on with the last call otherwise."""
        fresh = len(self._ids)
        if not self._numbered:
            return fresh  # those of a whole answer are whole
        if identity and identity in self._ids:
            place = self._ids.index(identity)
        elif index is not None and index in self._places:
            place = self._places[index]
            if identity and self._ids[place]:
                place = fresh  # Gemini gives the index 0 to all parallel calls
        elif index is not None or identity or function.get("name") or not self._ids:
            place = fresh
        else:
            place = fresh - 1
        if index is not None:
            self._places[index] = place
        return place


def _content_of_call(call: Json) -> tuple[Json, str]:
    """The part of a call that has its name, and what the call's text is named there.

    A custom tool's call has `custom`, and its later parts name no type. A call of a type that is not known keeps what
    it has, and gets its name and its text nowhere.
    """
    for name, text in (("function", "arguments"), ("custom", "input")):
        if type(content := call.get(name)) is dict:
            return content, text
    if call.get("type") not in (None, "", "function") and isinstance(call["type"], str):
        return {}, "input"
    call["function"] = {}
    return call["function"], "arguments"


def _arguments(arguments: object) -> str:
    """A call's arguments as JSON text, as OpenAI writes them."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, separators=(",", ":"))


def _split_content(said: Json, content: object) -> None:
    """Content that comes in parts (Mistral): text stays content, thinking becomes `reasoning_content`."""
    parts: list[Any] = content if isinstance(content, list) else [content]
    thoughts = "".join(_text_of(part["thinking"]) for part in parts if _is_thought(part))
    pictures = [part for part in parts if isinstance(part, dict) and part.get("type") == "image_url"]
    said["content"] = "".join(_text_of(part) for part in parts if not _is_thought(part))
    if thoughts:
        said["reasoning_content"] = _text_of(said.get("reasoning_content")) + thoughts
        said["content"] = said["content"] or None
    if pictures:
        said["images"] = pictures


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking" and "thinking" in part


def _text_of(value: object) -> str:
    """The text of a value that should be text: a text, a part with `text`, or a list of such parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_text_of, value))
    if isinstance(value, dict):
        return _text_of(value.get("text"))
    return "" if value is None or isinstance(value, bool) else str(value)


def _conforming_logprobs(logprobs: object) -> object:
    """Log probabilities with a text and a number for each token."""
    if not isinstance(logprobs, dict):
        return None
    for name, tokens in logprobs.items():
        if isinstance(tokens, list):
            logprobs[name] = conformed = _conforming_tokens(tokens)
            for token in conformed:
                if "top_logprobs" in token:
                    likely = token["top_logprobs"]
                    token["top_logprobs"] = _conforming_tokens(likely if isinstance(likely, list) else [])
        elif name in ("content", "refusal"):
            logprobs[name] = None
    return logprobs


def _conforming_tokens(tokens: list[Any]) -> list[Json]:
    conformed = [token for token in tokens if isinstance(token, dict)]
    for token in conformed:
        if not isinstance(token.get("token"), str):
            token["token"] = _text_of(token.get("token"))
        if token.get("logprob") is None:
            token["logprob"] = UNLIKELY
    return conformed
