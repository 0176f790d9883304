"""Anthropic's Messages as they are, for clients that speak that format themselves.

Nothing is translated, so nothing that only Anthropic understands is lost: signatures of thoughts, marks for its cache,
its own tools. The answer is read on the side, for its content, its count and its end.

https://docs.anthropic.com/en/api/messages · https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from accounting.usage import Usage
from routing.upstreams import errors, tiers
from routing.upstreams.base import QUIET, FailureKind, Json, Timeouts, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.http.events import EventReader, is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.mends.endings import lasting_counts
from routing.upstreams.mends.messages import BETA_HEADER, mended, without_betas
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.streams import LiveStream, Progress, read_events
from routing.upstreams.usage import usage_of_messages

VERSION: Final = "2023-06-01"
_FINISH_REASONS: Final = {"max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool_calls",
                          "refusal": "content_filter"}  # fmt: skip
#: Answers that may be without content: they say why, or the model has nothing to add.
_SPEAKING_ENDS: Final = frozenset({"max_tokens", "model_context_window_exceeded", "refusal", "pause_turn"})

#: How often a request is sent until the model takes it. A refusal names one thing at a time.
_MAX_MENDS: Final = 4
#: How much of a refusal is read.
_READ_BYTES: Final = 16_384

Answer = TypeVar("Answer", Whole, EventReader | Whole)


def ask(request: UpstreamRequest, headers: Mapping[str, str]) -> WholeAnswer:
    answer, dropped = _answer(request, headers, post, streamed=False)
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    request_id = errors.request_id(answer.headers, request.api_key)
    if is_stream(answer):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    try:
        body = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers, request.api_key) from None
    if error := errors.from_event(body, provider_request_id=request_id, secret=request.api_key):
        raise error
    content = body.get("content") if isinstance(body, dict) else None
    usage = usage_of_messages(body.get("usage")) if isinstance(body, dict) else None
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise errors.malformed(answer.status, answer.headers, request.api_key, usage)
    if not content and body.get("stop_reason") not in _SPEAKING_ENDS and not _may_be_empty(request.body):
        raise UpstreamError(
            FailureKind.EMPTY,
            "The provider's answer is empty",
            http_status=answer.status,
            provider_request_id=request_id,
            usage=usage,
            consumed=True,
        )
    return WholeAnswer(body, usage, answer.status, request_id, _tier(body.get("usage")), dropped)


def stream(request: UpstreamRequest, headers: Mapping[str, str]) -> LiveStream:
    def send(url: str, head: dict[str, str], body: bytes, timeouts: Timeouts) -> EventReader | Whole:
        return post_stream(url, head, body, timeouts, request.leash)

    answer, dropped = _answer(request, headers, send, streamed=True)
    if isinstance(answer, Whole):
        if answer.status != 200:
            raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
        answer = replayed(answer)
    return LiveStream(Events(answer, request, dropped))


def _answer(
    request: UpstreamRequest,
    headers: Mapping[str, str],
    send: Callable[[str, dict[str, str], bytes, Timeouts], Answer],
    *,
    streamed: bool,
) -> tuple[Answer, tuple[str, ...]]:
    """The provider's answer, and what of the request was changed because this model refuses it."""
    ends_at = time.monotonic() + request.timeouts.total_s
    body, dropped = request.body, []
    for attempt in range(_MAX_MENDS):
        timeouts = request.timeouts if attempt == 0 else request.timeouts.within(ends_at - time.monotonic())
        answer = send(_url(request), _headers(request, headers), _body(body, streamed=streamed), timeouts)
        said: EventReader | Whole = answer
        if isinstance(said, EventReader) or said.status != 400:
            break
        words = said.body[:_READ_BYTES].decode("utf-8", "replace")
        if (fewer := without_betas(headers, words)) is not None:
            headers = fewer
            dropped.append(BETA_HEADER)
        elif (change := mended(body, words)) is not None:
            body = change[0]
            dropped.append(change[1])
        else:
            break
    return answer, tuple(sorted(set(dropped)))


def _url(request: UpstreamRequest) -> str:
    url = (request.deployment.base_url or PROVIDERS["anthropic"].base_url or "").rstrip("/")
    return url if url.endswith("/v1/messages") else f"{url.removesuffix('/v1')}/v1/messages"


def _headers(request: UpstreamRequest, more: Mapping[str, str]) -> dict[str, str]:
    if not request.api_key:
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    return {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "anthropic-version": VERSION,
        "x-api-key": errors.authorization(request.api_key),
        **more,
    }


def _body(body: Mapping[str, Any], *, streamed: bool) -> bytes:
    return dumps({**{n: v for n, v in body.items() if n != "stream"}, **({"stream": True} if streamed else {})})


def _may_be_empty(body: Mapping[str, Any]) -> bool:
    """Whether the model may have nothing to add: it was given a tool's result."""
    content = body["messages"][-1]["content"]
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)


def _tier(usage: object) -> str | None:
    tier = tiers.served_by_anthropic(usage) if isinstance(usage, dict) else None
    return tier if isinstance(tier, str) else None


class Events:
    """A :class:`~routing.upstreams.streams.Source`: the provider's events, and what they say in chat's words."""

    def __init__(self, reader: EventReader, request: UpstreamRequest, dropped: tuple[str, ...] = ()) -> None:
        self.dropped_params = dropped
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.progress = Progress(may_be_empty=_may_be_empty(request.body))
        self._reader = reader
        self._secret = request.api_key
        self._usage: Json = {}
        self._finish: str | None = None
        self._calls: dict[int, int] = {}  # by the index of a block, the place of the tool call that it is
        self._head: Json = {"id": f"chatcmpl-{time.time_ns():x}", "created": int(time.time())}

    @property
    def usage(self) -> Usage | None:
        return usage_of_messages(self._usage) if self._usage else None

    @property
    def service_tier(self) -> str | None:
        return _tier(self._usage)

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _state(self) -> tuple[bool, bool]:
        is_over = self._finish is not None
        return is_over, is_over

    def chunks(self) -> Iterator[Json]:
        for event, data in read_events(self._reader, self.progress, self._state):
            if event is QUIET:
                yield QUIET
                continue
            if failure := errors.from_event(event, secret=self._secret):
                raise failure
            if event.get("type") == "ping":
                yield QUIET  # the client gets signs of life of ours
                continue
            yield {**self._head, "choices": self._said(event), "native": event, "raw": data}
            if event.get("type") == "message_stop":
                self._reader.finish()
                break
        self._reader.close()
        if self._finish is None or not (self.progress.spoken or self.progress.may_be_empty):
            raise self.progress.ended_early()

    def _said(self, event: Json) -> list[Json]:
        """What the event says, as the choices of a chunk. Notes the count."""
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                self._count(message.get("usage") if isinstance(message, dict) else None)
                return [self._choice({"role": "assistant", "content": ""})]
            case "content_block_start":
                return self._begun(event.get("index"), event.get("content_block"))
            case "content_block_delta":
                return self._gone_on(event.get("index"), event.get("delta"))
            case "message_delta":
                self._count(event.get("usage"))
                delta = event.get("delta")
                reason = delta.get("stop_reason") if isinstance(delta, dict) else None
                if not isinstance(reason, str):
                    return []
                self._finish = reason
                if reason in _SPEAKING_ENDS:
                    self.progress.spoken = True
                return [self._choice({}, _FINISH_REASONS.get(reason, "stop"))]
        return []

    def _begun(self, index: Any, block: Any) -> list[Json]:
        if not isinstance(block, dict):
            return []
        if block.get("type") == "tool_use":
            self._has_spoken()
            place = self._calls[index] = len(self._calls)
            function = {"name": block.get("name"), "arguments": ""}
            call = {"index": place, "id": block.get("id"), "type": "function", "function": function}
            return [self._choice({"tool_calls": [call]})]
        if block.get("type") in ("text", "thinking"):
            return []
        self._has_spoken()
        # Chat has no word for the other blocks, such as a search: nobody else can go on from them.
        return [self._choice({"thinking_blocks" if block.get("type") == "redacted_thinking" else "images": [block]})]

    def _gone_on(self, index: Any, delta: Any) -> list[Json]:
        if not isinstance(delta, dict):
            return []
        match delta.get("type"):
            case "text_delta":
                said: Json = {"content": delta.get("text")}
            case "thinking_delta":
                said = {"reasoning_content": delta.get("thinking")}
            case "input_json_delta" if index in self._calls:
                function = {"arguments": delta.get("partial_json")}
                return [self._choice({"tool_calls": [{"index": self._calls[index], "function": function}]})]
            case _:
                return []
        if not any(said.values()):
            return []
        self._has_spoken()
        return [self._choice(said)]

    def _has_spoken(self) -> None:
        self.progress.spoken = self.progress.is_uncounted = True
        self._reader.limits.content_seen()

    def _count(self, usage: Any) -> None:
        """Anthropic counts the input at the start, and the output at the end. A later number is the newer."""
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in lasting_counts(usage).items() if value is not None}
            if usage.get("output_tokens") is not None:
                self.progress.is_uncounted = False

    @staticmethod
    def _choice(delta: Json, reason: str | None = None) -> Json:
        return {"index": 0, "delta": delta, "finish_reason": reason}
