"""Providers that speak OpenAI's format already: the request goes out as it came, but for the model's name and for what
this provider is known not to understand (`dialects`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import monotonic
from typing import Any, Final, TypeVar

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.answers import dumps, ends_empty, loads, speaks, whole_answer
from routing.upstreams.base import FailureKind, Json, Timeouts, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.dialects import Spoken, learn, refused_words, spoken
from routing.upstreams.http.events import EventReader, post_stream
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.providers import PROVIDERS
from routing.upstreams.usage import usage_of

#: After the last finish reason: how long we wait for the usage, and then for `[DONE]`.
_USAGE_GRACE_S: Final = 2.0
_DONE_GRACE_S: Final = 0.25
#: How often a request is sent until a server finds nothing unknown in it: most name one thing at a time.
_MAX_MENDS: Final = 4

Answer = TypeVar("Answer", Whole, EventReader | Whole)


class Relay:
    """An :class:`~routing.upstreams.base.Upstream`."""

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        answer, asked = _ask(request, "application/json", post, streamed=False)
        return replace(_read_whole(answer, request.api_key), dropped_params=asked.dropped)

    def stream(self, request: UpstreamRequest) -> RelayStream:
        def send(url: str, headers: dict[str, str], body: bytes, timeouts: Timeouts) -> EventReader | Whole:
            return post_stream(url, headers, body, timeouts, request.leash)

        answer, asked = _ask(request, "text/event-stream", send, streamed=True)
        if isinstance(answer, Whole):
            _read_whole(answer, request.api_key)
            raise UpstreamError(  # a good answer, but not the stream that was asked for
                FailureKind.MALFORMED,
                "The provider's answer is not a stream",
                http_status=answer.status,
                provider_request_id=errors.request_id(answer.headers),
            )
        choices = asked.body.get("n")
        return RelayStream(
            answer, request.api_key, choices if type(choices) is int and choices > 1 else 1, asked.dropped
        )


def _ask(
    request: UpstreamRequest,
    accept: str,
    send: Callable[[str, dict[str, str], bytes, Timeouts], Answer],
    *,
    streamed: bool,
) -> tuple[Answer, Spoken]:
    """The provider's answer. A server that calls a part of the request unknown, which the request can do without, has
    done nothing and billed nothing: it is asked again without that part, in what is left of the attempt's time."""
    url, headers = _address(request, accept)
    ends_at = monotonic() + request.timeouts.total_s
    without: frozenset[str] = frozenset()
    for _ in range(_MAX_MENDS):
        asked = spoken(request.body, request.deployment, streamed=streamed, without=without)
        answer = send(url, headers, dumps(asked.body), request.timeouts.within(ends_at - monotonic()))
        if not isinstance(answer, Whole) or answer.status == 200:
            break
        more = refused_words(answer.status, answer.body, asked.body) - without
        if not more:
            return answer, asked
        without |= more
    else:
        return answer, asked
    if without:
        learn(request.deployment, without)
    return answer, asked


def _address(request: UpstreamRequest, accept: str) -> tuple[str, dict[str, str]]:
    deployment = request.deployment
    base_url = deployment.base_url or PROVIDERS[deployment.litellm_provider].base_url
    if not base_url:
        raise UpstreamError(FailureKind.NOT_FOUND, "The provider has no base URL")
    headers = {
        "Accept": accept,
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
    }
    if request.api_key:
        headers["Authorization"] = f"Bearer {errors.authorization(request.api_key)}"
    path, question, query = base_url.partition("?")
    if deployment.litellm_provider in ("ollama", "ollama_chat") and path.rstrip("/").count("/") == 2:
        path = f"{path.rstrip('/')}/v1"  # litellm's configurations give Ollama's own address
    return f"{path.rstrip('/')}/chat/completions{question}{query}", headers


def _read_whole(answer: Whole, api_key: str) -> WholeAnswer:
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=api_key)
    try:
        body = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers) from None
    request_id = errors.request_id(answer.headers)
    if error := errors.from_event(body, provider_request_id=request_id, secret=api_key):
        raise error  # OpenRouter and some proxies say so with a 200
    return whole_answer(body, answer.status, request_id)


class RelayStream:
    """An :class:`~routing.upstreams.base.AnswerStream`.

    A malformed event is skipped. Without `[DONE]` the stream is complete once every choice has its finish
    reason and the usage has come, or has not come within a short grace. Chunks in which a provider reports usage
    beside choices lose it there: the usage always comes in a last chunk of its own, as OpenAI sends it.
    """

    def __init__(self, reader: EventReader, api_key: str, choices: int, dropped_params: tuple[str, ...]) -> None:
        self.dropped_params = dropped_params
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers)
        self._reader = reader
        self._api_key = api_key
        self._unfinished = choices
        self._usage: Any = None
        self._usage_sent = False
        self._spoken = False
        self._held: list[Json] = []  # finish reasons of an answer that is still empty
        self._malformed = False
        self._last: Json = {}
        self._done = False
        self._failure: UpstreamError | None = None

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._usage)

    def __iter__(self) -> Iterator[Json]:
        return self

    def __next__(self) -> Json:
        if self._failure is not None:
            raise self._failure  # a failed stream must not look complete to whoever asks again
        while not self._done:
            if self._held and self._spoken:
                return self._held.pop(0)
            data = self._next_event()
            if data is None or data == b"[DONE]":
                return self._end(announced=data is not None)
            chunk = self._read(data)
            if chunk is not None:
                return chunk
        raise StopIteration

    def _next_event(self) -> bytes | None:
        within_s = None
        if self._unfinished <= 0:
            within_s = _USAGE_GRACE_S if self._usage is None else _DONE_GRACE_S
        try:
            return self._reader.next_event(within_s)
        except UpstreamError as error:
            if self._unfinished <= 0 and error.kind in (FailureKind.TIMEOUT, FailureKind.CONNECTION):
                return None  # all is here that was to come
            if error.kind is FailureKind.CONNECTION and self._spoken:
                interrupted = UpstreamError(FailureKind.INTERRUPTED, error.message, http_status=self.http_status)
                raise self._failed(interrupted) from error
            raise self._failed(error) from error.__cause__

    def _read(self, data: bytes) -> Json | None:
        """The chunk, or None when there is nothing in it to hand on now."""
        chunk = self._parse(data)
        if chunk is None:
            self._malformed = True
            return None
        choices = chunk["choices"]
        usage = chunk.get("usage")
        if usage is not None:
            self._usage = usage
            if choices:
                chunk["usage"] = None
            else:
                self._usage_sent = True
        if "object" not in chunk or "id" not in chunk or "created" not in chunk:
            self._complete(chunk)
        self._last = chunk
        finished = False
        for index, choice in enumerate(choices):
            finished = self._note(index, choice) or finished
        if not self._spoken and (finished or self._held):
            self._reader.limits.content_seen()
            self._held.append(chunk)
            return None
        return chunk

    def _parse(self, data: bytes) -> Json | None:
        """The event as a chunk with its list of choices; None when it is none. Raises the error that it is."""
        try:
            chunk = loads(data)
        except ValueError:
            return None
        if type(chunk) is not dict:
            return None
        if "error" in chunk and (error := errors.from_event(chunk, secret=self._api_key)):
            raise self._failed(error)
        choices = chunk.get("choices")
        if type(choices) is not list:
            if chunk.get("usage") is None:
                return None
            choices = chunk["choices"] = []
        return chunk if all(type(choice) is dict for choice in choices) else None

    def _note(self, index: int, choice: Json) -> bool:
        """Fills in what a choice must have, notes what it says, and whether it is its last."""
        delta = choice.get("delta")
        if type(delta) is not dict:
            delta = choice["delta"] = {}
        choice.setdefault("index", index)
        reason = choice.setdefault("finish_reason", None)
        if not self._spoken and (speaks(delta) or (reason and not ends_empty(reason))):
            self._spoken = True
            self._reader.limits.content_seen()
        if not reason:
            return False
        self._unfinished -= 1
        return True

    def _complete(self, chunk: Json) -> None:
        chunk.setdefault("id", self._last.get("id") or f"chatcmpl-{time.time_ns():x}")
        chunk.setdefault("object", "chat.completion.chunk")
        chunk.setdefault("created", self._last.get("created") or int(time.time()))

    def _end(self, *, announced: bool) -> Json:
        """The events are over: the usage chunk if it was not sent, else StopIteration, or the failure it is."""
        self._done = True
        if announced:
            self._reader.finish()
        self._reader.close()
        if self._unfinished > 0 or not self._spoken:
            if self._spoken:
                kind, message = FailureKind.INTERRUPTED, "The provider's stream ended before its answer did"
            elif self._malformed:
                kind, message = FailureKind.MALFORMED, "The provider's stream is not one of chat completions"
            else:
                kind, message = FailureKind.EMPTY, "The provider's answer is empty"
            raise self._failed(UpstreamError(kind, message, http_status=self.http_status))
        if self._usage is not None and not self._usage_sent:
            self._usage_sent = True
            head: Json = {k: self._last[k] for k in ("id", "object", "created", "model") if k in self._last}
            return {**head, "choices": [], "usage": self._usage}
        raise StopIteration

    def _failed(self, error: UpstreamError) -> UpstreamError:
        self.close()
        self._failure = error
        error.usage = self.usage
        error.provider_request_id = error.provider_request_id or self.provider_request_id
        return error

    def close(self) -> None:
        self._reader.close()
