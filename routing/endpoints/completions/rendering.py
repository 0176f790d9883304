"""Answers in the format of OpenAI's completions of the old kind, whole and as server-sent events.

https://platform.openai.com/docs/api-reference/completions/object
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from accounting import json_text
from accounting.money import plain_usd
from accounting.usage import Usage
from routing.endpoints.chat.rendering import COMMENT, DONE
from routing.endpoints.completions.request import CompletionsCall
from routing.exceptions import GatewayError
from routing.serving.call import Consumed
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.completions import LOGPROBS

_OF_EVERY_CHUNK: Final = ("id", "created", "system_fingerprint")
_as_json = json_text.dumps_line


def whole(call: CompletionsCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    """The answer under the alias's name. Its usage is an estimate when the provider gave no count."""
    written: Json = {"object": "text_completion", **{name: body[name] for name in _OF_EVERY_CHUNK if name in body}}
    choices = []
    for choice in body["choices"]:
        text = choice["message"].get("content") or choice["message"].get("refusal") or ""
        echoed = "" if LOGPROBS in choice else _echoed(call, choice["index"])
        choices.append(
            {
                "text": echoed + text,
                "index": choice["index"],
                "logprobs": _logprobs(choice, len(echoed)),
                "finish_reason": _reason(choice),
            }
        )
    written |= {"model": alias, "choices": choices}
    usage = _totals(estimated) if estimated is not None else body.get("usage")
    return {**written, "usage": usage} if usage is not None else written


def frames(call: CompletionsCall, alias: str) -> CompletionFrames:
    return CompletionFrames(call, alias)


class CompletionFrames:
    """The frames of one answer: `routing.serving.relaying.Frames`."""

    def __init__(self, call: CompletionsCall, alias: str) -> None:
        self._call = call
        self._alias = alias
        self._head: Json = {}
        self._length: dict[int, int] = {}  # of the text so far, by choice

    def event(self, event: Json) -> bytes | None:
        if not self._head:
            self._head = {name: event[name] for name in _OF_EVERY_CHUNK if name in event}
        choices = [written for choice in event.get("choices") or () if (written := self._choice(choice))]
        return self._frame(choices) if choices else None

    def _choice(self, choice: Mapping[str, Any]) -> Json | None:
        """None: it says nothing that this format has a word for, such as a thought."""
        delta, index = choice.get("delta") or {}, choice.get("index", 0)
        text = delta.get("content") or delta.get("refusal") or ""
        if not text and not choice.get("finish_reason") and choice.get(LOGPROBS) is None:
            return None
        if index not in self._length and LOGPROBS not in choice:
            text = _echoed(self._call, index) + text
        begins_at = self._length.get(index, 0)
        self._length[index] = begins_at + len(text)
        logprobs = _logprobs(choice, begins_at)
        return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": _reason(choice)}

    def _frame(self, choices: list[Json]) -> bytes:
        chunk = {"object": "text_completion", **self._head, "model": self._alias, "choices": choices}
        if self._call.include_usage:
            chunk["usage"] = None  # as OpenAI does when a client asked for usage
        return b"data: " + _as_json(chunk) + b"\n\n"

    def end(self, consumed: Consumed) -> bytes:
        if not self._call.include_usage:
            return DONE
        # A number with all its digits: neither a float nor, as `json` would have it, a text.
        cost_usd = b"null" if consumed.cost_usd is None else plain_usd(consumed.cost_usd).encode()
        chunk = _as_json({"object": "text_completion", **self._head, "model": self._alias, "choices": []})
        usage = _as_json(_totals(consumed.usage))
        return b"data: " + chunk[:-1] + b',"usage":' + usage[:-1] + b',"cost_usd":' + cost_usd + b"}}\n\n" + DONE

    def comment(self) -> bytes:
        return COMMENT

    def failed(self, error: GatewayError) -> bytes:
        return b"data: " + _as_json(error.envelope()) + b"\n\n"

    def interrupted(self, error: UpstreamError) -> bytes:
        why = "stalled" if error.kind is FailureKind.TIMEOUT else "broke off"
        said = f"The provider's stream {why} before its end; what was received is incomplete."
        error_body = {"message": said, "type": "upstream_error", "param": None, "code": "stream_interrupted"}
        return b"data: " + _as_json({"error": error_body}) + b"\n\n"


def _echoed(call: CompletionsCall, index: int) -> str:
    """What stands before the text of a choice that a chat model has made. A provider may number a choice as it
    likes."""
    texts, place = call.texts or (), index // call.choices
    return texts[place] if call.echo and 0 <= place < len(texts) else ""


def _reason(choice: Mapping[str, Any]) -> str | None:
    """This format knows three ends, and no tools."""
    reason = choice.get("finish_reason")
    return reason if reason in (None, "stop", "length", "content_filter") else "stop"


def _logprobs(choice: Mapping[str, Any], begins_at: int) -> Any:
    """As the provider wrote them, or those of a chat in this format's shape."""
    if LOGPROBS in choice:
        return choice[LOGPROBS]
    chat = choice.get("logprobs")
    tokens = chat.get("content") if isinstance(chat, dict) else None
    if not isinstance(tokens, list):
        return None
    written: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        written["tokens"].append(token.get("token"))
        written["token_logprobs"].append(token.get("logprob"))
        written["top_logprobs"].append({each["token"]: each["logprob"] for each in token.get("top_logprobs") or ()})
        written["text_offset"].append(begins_at)
        begins_at += len(str(token.get("token") or ""))
    return written


def _totals(usage: Usage) -> Json:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
