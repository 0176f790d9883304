"""Google's generateContent as it is, for clients that speak that format themselves.

Nothing is translated, so nothing that only Gemini understands is lost: signatures of thoughts, its own tools, ratings
and citations. The answer is read on the side, for its content, its count and its end.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.answers import ends_empty
from routing.upstreams.base import QUIET, FailureKind, Json, Timeouts, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.formats.gemini import Gemini
from routing.upstreams.http.events import EventReader, is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.mends.endings import STOPPED
from routing.upstreams.mends.gemini import contents_mended
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.streams import LiveStream, Progress, read_events
from routing.upstreams.usage import usage_of_contents

TIER_HEADER: Final = "x-gemini-service-tier"
_FORMAT: Final = Gemini()
_NO_END: Final = "FINISH_REASON_UNSPECIFIED"
#: How often a request is sent again. A refusal names one thing at a time.
_MAX_MENDS: Final = 3

Answer = TypeVar("Answer", Whole, EventReader | Whole)


def ask(request: UpstreamRequest) -> WholeAnswer:
    answer, dropped = _answer(request, "generateContent", post)
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    if is_stream(answer):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    try:
        body = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers, request.api_key) from None
    request_id = errors.request_id(answer.headers, request.api_key)
    if error := errors.from_event(body, provider_request_id=request_id, secret=request.api_key):
        raise error
    if not isinstance(body, dict):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    usage = usage_of_contents(body)
    if failure := _failure(body, request.api_key):
        failure.http_status = failure.http_status or answer.status
        failure.provider_request_id, failure.usage = request_id, usage
        raise failure
    candidates = body.get("candidates")
    if not isinstance(candidates, list) or not all(isinstance(candidate, dict) for candidate in candidates):
        raise errors.malformed(answer.status, answer.headers, request.api_key, usage)
    if not any(_says_something(candidate, request.body) for candidate in candidates):
        raise UpstreamError(
            FailureKind.EMPTY,
            "The provider's answer is empty",
            http_status=answer.status,
            provider_request_id=request_id,
            usage=usage,
            consumed=True,
        )
    tier = _FORMAT.service_tier(body) or answer.headers.get(TIER_HEADER)
    return WholeAnswer(body, usage, answer.status, request_id, tier if isinstance(tier, str) else None, dropped)


def stream(request: UpstreamRequest) -> LiveStream:
    def send(url: str, headers: dict[str, str], body: bytes, timeouts: Timeouts) -> EventReader | Whole:
        return post_stream(url, headers, body, timeouts, request.leash)

    answer, dropped = _answer(request, "streamGenerateContent?alt=sse", send)
    if isinstance(answer, Whole):
        if answer.status != 200:
            raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
        answer = replayed(answer)
    return LiveStream(Events(answer, request, dropped))


def _answer(
    request: UpstreamRequest, method: str, send: Callable[[str, dict[str, str], bytes, Timeouts], Answer]
) -> tuple[Answer, tuple[str, ...]]:
    """Google's answer, and what of the request was left out because this model does not have it."""
    ends_at = time.monotonic() + request.timeouts.total_s
    url, headers, body = _url(request, method), _headers(request), request.body
    answer = send(url, headers, dumps(body), request.timeouts)
    dropped: list[str] = []
    for _ in range(_MAX_MENDS):
        said: EventReader | Whole = answer
        if isinstance(said, EventReader) or said.status != 400 or (rest := contents_mended(body, said.body)) is None:
            break
        body = rest[0]
        dropped += rest[1]
        answer = send(url, headers, dumps(body), request.timeouts.within(ends_at - time.monotonic()))
    return answer, tuple(sorted(set(dropped)))


def _url(request: UpstreamRequest, method: str) -> str:
    base_url = (request.deployment.base_url or PROVIDERS["gemini"].base_url or "").rstrip("/")
    return f"{base_url}/models/{request.deployment.model.removeprefix('models/')}:{method}"


def _headers(request: UpstreamRequest) -> dict[str, str]:
    if not request.api_key:
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    return {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "x-goog-api-key": errors.authorization(request.api_key),
    }


def _failure(event: Json, secret: str) -> UpstreamError | None:
    """A prompt that is blocked, or a turn that failed: to a client it would look like the end of the model's work."""
    if blocked := _FORMAT.refusal(event, secret):
        return blocked
    if reason := _FORMAT.failed_turn(event):
        return UpstreamError(FailureKind.MALFORMED, f"The model's turn failed ({reason})", consumed=True)
    return None


def _may_be_empty(body: Mapping[str, Any]) -> bool:
    """Whether the model may have nothing to add: it was given a tool's result, or may stop before its first word."""
    parts = body["contents"][-1]["parts"]
    return any("functionResponse" in part for part in parts) or bool(
        (body.get("generationConfig") or {}).get("stopSequences")
    )


def _says_something(candidate: Json, asked: Mapping[str, Any]) -> bool:
    if any(_said(candidate, 0).values()):
        return True
    end = _end_of(candidate, is_calling=False)
    return end is not None and not ends_empty(end, may_be_empty=_may_be_empty(asked))


# --- in the words of a chat ---------------------------------------------------------------------------------------


def _said(candidate: Json, calls_before: int) -> Json:
    """What a candidate says, as the delta of a chunk; empty when it says nothing."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    delta: Json = {}
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        call, text = part.get("functionCall"), part.get("text")
        if isinstance(call, dict):
            calls = delta.setdefault("tool_calls", [])
            calls.append(_call(call, calls_before + len(calls)))
        elif isinstance(text, str):
            name = "reasoning_content" if part.get("thought") else "content"
            if text:
                delta[name] = delta.get(name, "") + text
        elif part.keys() - {"thought", "thoughtSignature"}:
            # Chat has no word for the other parts, such as a picture or code that Google runs: nobody else can go on
            # from them.
            delta.setdefault("images", []).append(part)
    return delta


def _call(call: Json, place: int) -> Json:
    arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
    function = {"name": call.get("name"), "arguments": arguments}
    return {"index": place, "id": call.get("id") or f"call_{place}", "type": "function", "function": function}


def _end_of(candidate: Json, *, is_calling: bool) -> str | None:
    """The end of a candidate in chat's words; None: it goes on."""
    reason = candidate.get("finishReason")
    if not isinstance(reason, str) or reason == _NO_END:
        return None
    if reason == "MAX_TOKENS":
        return "length"
    if reason in STOPPED:
        return "content_filter"
    return "tool_calls" if is_calling else "stop"


class Events:
    """A :class:`~routing.upstreams.streams.Source`: the provider's events, and what they say in chat's words."""

    def __init__(self, reader: EventReader, request: UpstreamRequest, dropped: tuple[str, ...] = ()) -> None:
        self.dropped_params = dropped
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.progress = Progress(may_be_empty=_may_be_empty(request.body))
        self.service_tier: str | None = reader.headers.get(TIER_HEADER)
        self._reader = reader
        self._secret = request.api_key
        self._answers = (request.body.get("generationConfig") or {}).get("candidateCount") or 1
        self._count: Json = {}  # what the usage is read from: the newest count, and what was searched for
        self._calls: dict[int, int] = {}  # how many, by candidate
        self._ends: dict[int, str] = {}
        self._head: Json = {"id": f"chatcmpl-{time.time_ns():x}", "created": int(time.time())}

    @property
    def usage(self) -> Usage | None:
        return usage_of_contents(self._count)

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _state(self) -> tuple[bool, bool]:
        return len(self._ends) >= self._answers, "usageMetadata" in self._count

    def chunks(self) -> Iterator[Json]:
        for event, _ in read_events(self._reader, self.progress, self._state):
            if event is QUIET:
                yield QUIET
                continue
            if failure := errors.from_event(event, secret=self._secret):
                raise failure
            self._note_count(event)
            if failure := _failure(event, self._secret):
                raise failure
            choices = self._choices(event)
            if "usageMetadata" in event:
                self.progress.is_uncounted = False  # it counts what its own event says
            yield {**self._head, "choices": choices, "native": event}
        self._reader.close()
        is_empty = all(ends_empty(end, may_be_empty=self.progress.may_be_empty) for end in self._ends.values())
        if not self._ends or (is_empty and not self.progress.spoken):
            raise self.progress.ended_early()

    def _note_count(self, event: Json) -> None:
        if self.service_tier is None and isinstance(tier := _FORMAT.service_tier(event), str):
            self.service_tier = tier
        if isinstance(event.get("usageMetadata"), dict):
            self._count["usageMetadata"] = event["usageMetadata"]
        for candidate in _candidates(event):
            if "groundingMetadata" in candidate:
                found = {"groundingMetadata": candidate["groundingMetadata"]}
                self._count.setdefault("candidates", []).append(found)

    def _choices(self, event: Json) -> list[Json]:
        choices = []
        for candidate in _candidates(event):
            index = candidate.get("index")
            index = index if isinstance(index, int) else 0
            delta = _said(candidate, self._calls.get(index, 0))
            if delta and not self.progress.is_uncounted:
                self.progress.spoken = self.progress.is_uncounted = True
                self._reader.limits.content_seen()
            self._calls[index] = self._calls.get(index, 0) + len(delta.get("tool_calls") or ())
            end = _end_of(candidate, is_calling=self._calls[index] > 0)
            if end is not None:
                self._ends[index] = end
            if delta or end is not None:
                choices.append({"index": index, "delta": delta, "finish_reason": end})
        return choices


def _candidates(event: Json) -> list[Json]:
    candidates = event.get("candidates")
    return [each for each in candidates if isinstance(each, dict)] if isinstance(candidates, list) else []
