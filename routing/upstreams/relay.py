"""Providers that speak OpenAI's format already: the request goes out as it came, but for the model's name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from accounting.usage import Usage
from routing.upstreams import errors
from routing.upstreams.answers import dumps, ends_empty, loads, may_be_empty, speaks, whole_answer
from routing.upstreams.base import FailureKind, Json, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.http.events import EventReader, post_stream
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.usage import usage_of

#: litellm's name of the provider → where it is when its row names no base URL. None: it has to.
BASE_URLS: Final[dict[str, str | None]] = {
    "openai": "https://api.openai.com/v1",
    "custom_openai": None,
    "openai_like": None,
    "litellm_proxy": None,
    "anyscale": "https://api.endpoints.anyscale.com/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "deepinfra": "https://api.deepinfra.com/v1/openai",
    "deepseek": "https://api.deepseek.com/v1",
    "featherless_ai": "https://api.featherless.ai/v1",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "groq": "https://api.groq.com/openai/v1",
    "hosted_vllm": None,
    "hyperbolic": "https://api.hyperbolic.xyz/v1",
    "lambda_ai": "https://api.lambda.ai/v1",
    "llamafile": "http://127.0.0.1:8080/v1",
    "lm_studio": "http://localhost:1234/v1",
    "meta_llama": "https://api.llama.com/compat/v1",
    "mistral": "https://api.mistral.ai/v1",
    "moonshot": "https://api.moonshot.ai/v1",
    "nebius": "https://api.studio.nebius.ai/v1",
    "novita": "https://api.novita.ai/v3/openai",
    "nvidia_nim": "https://integrate.api.nvidia.com/v1",
    "ollama": "http://localhost:11434/v1",
    "ollama_chat": "http://localhost:11434/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "perplexity": "https://api.perplexity.ai",
    "sambanova": "https://api.sambanova.ai/v1",
    "together_ai": "https://api.together.ai/v1",
    "vllm": None,
    "xai": "https://api.x.ai/v1",
}

#: These refuse `stream_options`; they report usage in their last chunk by themselves.
_WITHOUT_STREAM_OPTIONS: Final = frozenset({"mistral", "perplexity"})

#: After the last finish reason: how long we wait for the usage, and then for `[DONE]`.
_USAGE_GRACE_S: Final = 2.0
_DONE_GRACE_S: Final = 0.25


class Relay:
    """An :class:`~routing.upstreams.base.Upstream`."""

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        body = {**request.body, "model": request.deployment.model}
        body.pop("stream", None)
        body.pop("stream_options", None)
        url, headers = _address(request, "application/json")
        answer = post(url, headers, dumps(body), request.timeouts)
        return _read_whole(answer, request)

    def stream(self, request: UpstreamRequest) -> RelayStream:
        body = {**request.body, "model": request.deployment.model, "stream": True}
        if request.deployment.litellm_provider in _WITHOUT_STREAM_OPTIONS:
            body.pop("stream_options", None)
        else:
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        url, headers = _address(request, "text/event-stream")
        answer = post_stream(url, headers, dumps(body), request.timeouts, request.leash)
        if isinstance(answer, Whole):
            _read_whole(answer, request)
            raise UpstreamError(  # a good answer, but not the stream that was asked for
                FailureKind.MALFORMED,
                "The provider's answer is not a stream",
                http_status=answer.status,
                provider_request_id=errors.request_id(answer.headers),
            )
        choices = body.get("n")
        choices = choices if type(choices) is int and choices > 1 else 1
        return RelayStream(answer, request.api_key, choices, may_be_empty=may_be_empty(body))


def _address(request: UpstreamRequest, accept: str) -> tuple[str, dict[str, str]]:
    deployment = request.deployment
    base_url = deployment.base_url or BASE_URLS.get(deployment.litellm_provider)
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


def _read_whole(answer: Whole, request: UpstreamRequest) -> WholeAnswer:
    api_key = request.api_key
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=api_key)
    try:
        body = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers) from None
    request_id = errors.request_id(answer.headers)
    if error := errors.from_event(body, provider_request_id=request_id, secret=api_key):
        raise error  # OpenRouter and some proxies say so with a 200
    return whole_answer(body, answer.status, request_id, may_be_empty=may_be_empty(request.body))


class RelayStream:
    """An :class:`~routing.upstreams.base.AnswerStream`.

    A malformed event is skipped. Without `[DONE]` the stream is complete once every choice has its finish
    reason and the usage has come, or has not come within a short grace. Chunks in which a provider reports usage
    beside choices lose it there: the usage always comes in a last chunk of its own, as OpenAI sends it.
    """

    def __init__(self, reader: EventReader, api_key: str, choices: int, *, may_be_empty: bool = False) -> None:
        self.http_status = reader.status
        self.provider_request_id = errors.request_id(reader.headers)
        self._reader = reader
        self._api_key = api_key
        self._unfinished = choices
        self._may_be_empty = may_be_empty
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
        ends_well = bool(reason) and not ends_empty(reason, may_be_empty=self._may_be_empty)
        if not self._spoken and (ends_well or speaks(delta)):
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
