"""OpenAI's Responses as they are, for clients that speak that format themselves.

Nothing is translated, so nothing that only such a provider understands is lost: encrypted reasoning, its own tools,
what it keeps. The answer is read on the side, for its content, its count and its end.

https://platform.openai.com/docs/api-reference/responses · https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.base import (
    QUIET,
    FailureKind,
    Json,
    Timeouts,
    UpstreamError,
    UpstreamRequest,
    WholeAnswer,
)
from routing.upstreams.http.events import EventReader, is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post, send
from routing.upstreams.mends.capability import cannot
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.responses_dialect import SEAM, Keeper, NoSuchPath, is_certain, learn_silence
from routing.upstreams.streams import LiveStream, Progress, read_events
from routing.upstreams.usage import usage_of_response

#: A provider's URL and headers.
Address = tuple[str, dict[str, str]]
Answer = TypeVar("Answer", Whole, EventReader | Whole)

_FINISH_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
#: Items that are a part of every conversation. All others are what the provider's own tools have done.
_SPOKEN: Final = frozenset({"message", "reasoning"})
_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
#: What a provider says of reasoning that another account's model has thought, or whose item does not follow.
#: https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items
_FOREIGN_REASONING: Final = ("invalid_encrypted_content", "encrypted content", "required following item")
#: Signs that a provider lives, which are none of OpenAI's events.
_PINGS: Final = frozenset({"ping", "keepalive", "response.keepalive"})


def ask(request: UpstreamRequest, address: Address) -> WholeAnswer:
    answer, dropped = _sent(request, address, streamed=False, by=post)
    _refuse(answer, request)
    request_id = errors.request_id(answer.headers, request.api_key)
    if is_stream(answer):
        source = Events(replayed(answer), request, dropped)
        for _ in LiveStream(source):
            pass
        body = source.final
    else:
        try:
            body = loads(answer.body)
        except ValueError:
            raise errors.malformed(answer.status, answer.headers, request.api_key) from None
    if error := failure_of(body, request.api_key):
        error.provider_request_id = request_id
        error.usage = usage_of_response(body, request.body)
        error.consumed = error.usage is not None
        raise error
    if not isinstance(body, dict) or not _is_over(body):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    usage = usage_of_response(body, request.body)
    if not body["output"] and _finish_reason(body) == "stop" and not may_be_empty(request.body):
        raise UpstreamError(
            FailureKind.EMPTY,
            "The provider's answer is empty",
            http_status=answer.status,
            provider_request_id=request_id,
            usage=usage,
            consumed=True,
        )
    return WholeAnswer(body, usage, answer.status, request_id, _tier(body), dropped)


def stream(request: UpstreamRequest, address: Address) -> LiveStream:
    def by(url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts) -> EventReader | Whole:
        return post_stream(url, headers, body, timeouts, request.leash)

    answer, dropped = _sent(request, address, streamed=True, by=by)
    if isinstance(answer, Whole):
        _refuse(answer, request)
        answer = replayed(answer)
    return LiveStream(Events(answer, request, dropped))


def kept(request: UpstreamRequest, address: Address, method: str) -> Json:
    """What the provider keeps, or a count: it costs nothing. Raises UpstreamError."""
    url, headers = address
    body = dumps(request.body) if method == "POST" else b""
    answer = send(method, url, headers, body, request.timeouts)
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    try:
        found = loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    return found


def azure_address(request: UpstreamRequest, accept: str, resource: str) -> Address:
    """Azure's newest address, which needs no date of a version.
    https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle"""
    found = urlsplit(request.deployment.base_url or "")
    if not found.netloc or not request.api_key:
        learn_silence(request.deployment)  # only its SDK finds the way there
        raise NoSuchPath(cannot("Azure is asked for Responses with an address and a key of its own", "model"))
    version = request.deployment.api_version
    query = f"api-version={version}" if version in ("preview", "latest") else ""
    if query:
        query = f"{'&' if '?' in resource else '?'}{query}"
    headers = {
        "Accept": accept,
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "api-key": errors.authorization(request.api_key),
    }
    root = found.path.partition("/openai")[0].rstrip("/")
    return f"{found.scheme}://{found.netloc}{root}/openai/v1/{resource}{query}", headers


def _sent(
    request: UpstreamRequest,
    address: Address,
    *,
    streamed: bool,
    by: Callable[[str, Mapping[str, str], bytes, Timeouts], Answer],
) -> tuple[Answer, tuple[str, ...]]:
    """The provider's answer, and what it was not asked.

    Reasoning that another account's model has thought is refused as a whole. The provider has done nothing then, so it
    is asked again without, in what is left of the attempt's time."""
    url, headers = address
    ends_at = monotonic() + request.timeouts.total_s
    body = {name: value for name, value in request.body.items() if name != "stream"}
    if streamed:
        body["stream"] = True
    answer = by(url, headers, dumps(body), request.timeouts)
    said: object = answer
    if isinstance(said, Whole) and said.status == 400 and _speaks_of_reasoning(said.body):
        without, places = _without_reasoning(body)
        if places:
            return by(url, headers, dumps(without), request.timeouts.within(ends_at - monotonic())), places
    return answer, ()


def _speaks_of_reasoning(body: bytes) -> bool:
    text = body[:4000].decode("utf-8", "replace").lower()
    return any(words in text for words in _FOREIGN_REASONING)


def _without_reasoning(body: Mapping[str, Any]) -> tuple[Json, tuple[str, ...]]:
    """The ids of the other items go too, as the provider would look for what they were said with."""
    given = body.get("input")
    items = given if isinstance(given, list) else []
    places = tuple(f"input[{i}]" for i, item in enumerate(items) if item.get("type") == "reasoning")
    kept = [
        {name: value for name, value in item.items() if name != "id"}
        for item in items
        if item.get("type") != "reasoning"
    ]
    return {**body, "input": kept}, places


def _refuse(answer: Whole, request: UpstreamRequest) -> None:
    if answer.status == 200:
        return
    error = errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    is_of_a_model = error.code == "model_not_found" or "model" in error.message.lower()
    if answer.status in (404, 405, 501) and not is_of_a_model and not is_certain(request.deployment):
        learn_silence(request.deployment)
        raise NoSuchPath(error)
    raise error


def may_be_empty(body: Mapping[str, Any]) -> bool:
    """Whether the model may have nothing to add: it was given a tool's output."""
    given = body.get("input")
    last = given[-1] if isinstance(given, list) and given else {}
    return isinstance(last, dict) and last.get("type") in _OUTPUTS


def failure_of(payload: object, secret: str) -> UpstreamError | None:
    """The error of an event, or of a response that has failed; None when it is none."""
    if not isinstance(payload, dict):
        return None
    said = payload.get("response") if payload.get("type") == "response.failed" else None
    failed = said if isinstance(said, dict) else payload
    if failed.get("status") == "failed" or payload.get("type") in ("response.failed", "error"):
        given = failed.get("error")
        error: Json = given if isinstance(given, dict) else payload
        code = error.get("code")
        words = {
            "message": error.get("message"),
            "code": code,
            "param": error.get("param"),
            "type": error.get("type") if error.get("type") != "error" else code,
        }
        return errors.from_event({"error": words}, secret=secret)
    return errors.from_event(payload, secret=secret) if "output" not in payload and "type" not in payload else None


def _is_over(body: Json) -> bool:
    items = body.get("output")
    return (
        isinstance(body.get("id"), str)
        and body.get("status") in ("completed", "incomplete", None)
        and isinstance(items, list)
        and all(isinstance(item, dict) for item in items)
    )


def _finish_reason(response: Mapping[str, Any]) -> str:
    details = response.get("incomplete_details")
    if response.get("status") == "incomplete":
        return _FINISH_REASONS.get(str(details.get("reason") if isinstance(details, dict) else None), "length")
    called = any(item.get("type") in _CALLS for item in response.get("output") or ())
    return "tool_calls" if called else "stop"


def _tier(response: Mapping[str, Any]) -> str | None:
    tier = response.get("service_tier")
    return tier if isinstance(tier, str) and tier != "auto" else None


class Events:
    """A :class:`~routing.upstreams.streams.Source`: the provider's events, and what they say in chat's words."""

    def __init__(self, reader: EventReader, request: UpstreamRequest, dropped_params: tuple[str, ...] = ()) -> None:
        self.dropped_params = dropped_params
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers, request.api_key)
        self.progress = Progress(may_be_empty=may_be_empty(request.body))
        self.service_tier: str | None = None
        self.final: Json | None = None  # the response as a whole, once it is over
        self._reader = reader
        self._secret = request.api_key
        self._asked = request.body
        self._keeper = Keeper.of(request)
        self._usage: Usage | None = None
        self._calls: dict[Any, int] = {}  # by the index of an item, the place of the tool call that it is
        self._head: Json = {"id": f"chatcmpl-{time.time_ns():x}", "created": int(time.time())}

    @property
    def usage(self) -> Usage | None:
        return self._usage

    @property
    def has_event(self) -> bool:
        return self._reader.has_event

    def beat(self, every_s: float) -> None:
        self._reader.beat_s = every_s

    def close(self) -> None:
        self._reader.close()

    def _state(self) -> tuple[bool, bool]:
        is_over = self.final is not None
        return is_over, is_over

    def chunks(self) -> Iterator[Json]:
        for event, data in read_events(self._reader, self.progress, self._state):
            if event is QUIET:
                yield QUIET
                continue
            self._count(event)
            if failure := failure_of(event, self._secret):
                raise failure
            kind = event.get("type")
            if kind in _PINGS:
                yield QUIET  # the client gets signs of life of ours
                continue
            if kind in ("response.completed", "response.incomplete"):
                yield self._ended(event)
                self._reader.finish()
                break
            yield self._chunk(self._said(kind, event), event, data)
        self._reader.close()
        if self.final is None:
            raise self.progress.ended_early()

    def _ended(self, event: Json) -> Json:
        response = event.get("response")
        if not isinstance(response, dict) or not isinstance(response.get("output"), list):
            self.progress.malformed = True
            raise self.progress.ended_early()
        reason = _finish_reason(response)
        if response["output"] or reason != "stop":
            self._has_spoken()
        if not (self.progress.spoken or self.progress.may_be_empty):
            raise self.progress.ended_early()
        self.final = response
        return self._chunk([self._choice({}, reason)], event, b"")

    def _chunk(self, choices: list[Json], event: Json, data: bytes) -> Json:
        """``raw``: the event as it came. ``kept_by``: who may keep the response, which the event has in it."""
        chunk: Json = {**self._head, "choices": choices, "native": event, "raw": data}
        if "response" in event:
            chunk["kept_by"] = self._keeper
        return chunk

    def _said(self, kind: Any, event: Json) -> list[Json]:
        """What the event says, as the choices of a chunk."""
        match kind:
            case "response.created":
                return [self._choice({"role": "assistant", "content": ""})]
            case "response.output_text.delta":
                return self._text("content", event.get("delta"))
            case "response.refusal.delta":
                return self._text("refusal", event.get("delta"))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return self._text("reasoning_content", event.get("delta"))
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                place = self._calls.get(event.get("output_index"))
                if place is None:
                    return []
                return [self._choice({"tool_calls": [{"index": place, "function": {"arguments": event.get("delta")}}]})]
            case "response.output_item.added":
                return self._begun(event.get("output_index"), event.get("item"))
        return []

    def _begun(self, index: Any, item: Any) -> list[Json]:
        if not isinstance(item, dict) or item.get("type") in _SPOKEN:
            return []
        self._has_spoken()
        if item.get("type") not in _CALLS:
            # Chat has no word for what the provider's own tools do: nobody else can go on from there.
            return [self._choice({"images": [{"type": item.get("type")}]})]
        place = self._calls[index] = len(self._calls)
        name = SEAM.join(str(part) for part in (item.get("namespace"), item.get("name")) if part)
        function = {"name": name, "arguments": item.get("arguments") or item.get("input") or ""}
        call = {"index": place, "id": item.get("call_id"), "type": "function", "function": function}
        return [self._choice({"tool_calls": [call]})]

    def _text(self, name: str, text: Any) -> list[Json]:
        if not isinstance(text, str) or not text:
            return []
        self._has_spoken()
        return [self._choice({name: text})]

    def _has_spoken(self) -> None:
        self.progress.spoken = True
        self._reader.limits.content_seen()

    def _count(self, event: Json) -> None:
        response = event.get("response")
        if isinstance(response, dict):
            self._usage = usage_of_response(response, self._asked) or self._usage
            self.service_tier = _tier(response) or self.service_tier

    @staticmethod
    def _choice(delta: Json, reason: str | None = None) -> Json:
        return {"index": 0, "delta": delta, "finish_reason": reason}
