"""Calls all other providers that litellm knows, through `litellm.completion()` and `litellm.embedding()`.

That is slower than the other two kinds of upstream, but it knows those providers' log-ins and signatures. litellm's own
HTTP clients do the calling, so this kind cannot promise all that the others do:

- The size of an event and of what is decompressed is not limited.
- `first_token_s` and `idle_s` are not exact: the longer of the two limits the pause between two reads. `total_s` is
  looked at between chunks.
- litellm may read its own environment variables (`AWS_…`, `AZURE_…`, `VERTEXAI_…`) for what a deployment does not say.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import Any, Final

from accounting.usage import Usage
from routing.upstreams import (
    azure,
    embeddings,
    errors,
    image_translation,
    images,
    openai_responses,
    relay,
    rerank,
    sound,
)
from routing.upstreams.answers import cleaned, may_be_empty, speaks, tier_of, whole_answer
from routing.upstreams.base import FailureKind, Json, Timeouts, UpstreamError, UpstreamRequest, WholeAnswer
from routing.upstreams.calls import Calls
from routing.upstreams.conforming import conforming_choice, conforming_reason, ends_in_failure, why_failed
from routing.upstreams.deployment_parameters import resolved, values_of_variables
from routing.upstreams.formats.parameters import PARAMETERS, dropped_params
from routing.upstreams.http import media
from routing.upstreams.litellm_import import load
from routing.upstreams.mends import schemas
from routing.upstreams.mends.capability import cannot, lacking
from routing.upstreams.streams import LiveStream, Progress, completed, says_something
from routing.upstreams.usage import usage_of, usage_of_input

log = logging.getLogger("gateway.upstreams")

#: litellm puts the names of its exceptions and of the provider in front of what the provider said.
_PREFIX: Final = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Timeout|Timeout Error): )*(?:\w+Exception:? ?-? ?)?")

_OUR_WORDS: Final = {
    FailureKind.TIMEOUT: "The provider did not answer in time",
    FailureKind.CONNECTION: "The provider's answer broke off",
    FailureKind.MALFORMED: "The provider's answer cannot be read",
}


class Sdk:
    """An :class:`~routing.upstreams.base.Upstream`."""

    messages = messages_stream = lacking("The provider does not speak Anthropic's format")
    contents = contents_stream = lacking("The provider does not speak Google's format")
    moderate = lacking("The provider has no moderations")

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        answer = _complete(request, streamed=False)
        try:
            whole = _read_whole(answer, request)
        except UpstreamError:
            raise
        except Exception as error:
            log.exception("a provider's answer cannot be read")
            raise UpstreamError(FailureKind.MALFORMED, _OUR_WORDS[FailureKind.MALFORMED], consumed=True) from error
        return replace(whole, dropped_params=dropped_params(request.body, request.deployment, PARAMETERS))

    def responses(self, request: UpstreamRequest) -> WholeAnswer:
        return openai_responses.ask(request, _responses_address(request, "application/json", "responses"))

    def responses_stream(self, request: UpstreamRequest) -> LiveStream:
        return openai_responses.stream(request, _responses_address(request, "text/event-stream", "responses"))

    def responses_kept(self, request: UpstreamRequest, method: str, resource: str) -> Json:
        return openai_responses.kept(request, _responses_address(request, "application/json", resource), method)

    def complete(self, request: UpstreamRequest) -> WholeAnswer:
        return relay.complete(*azure.address(request, "completions"), request)

    def complete_stream(self, request: UpstreamRequest) -> LiveStream:
        return relay.complete_live(*azure.address(request, "completions"), request)

    def draw(self, request: UpstreamRequest) -> WholeAnswer:
        if request.deployment.litellm_provider == "azure":
            return images.draw(*azure.address(request, images.resource_of(request)), request)
        return image_translation.draw(request)

    def draw_stream(self, request: UpstreamRequest) -> LiveStream:
        if request.deployment.litellm_provider == "azure":
            return images.draw_live(*azure.address(request, images.resource_of(request)), request)
        return LiveStream(images.Drawn(image_translation.draw(request), request))

    def rerank(self, request: UpstreamRequest) -> WholeAnswer:
        return rerank.ask(request)

    def embed(self, request: UpstreamRequest) -> WholeAnswer:
        return embeddings.embed(request, _embed)

    def speak(self, request: UpstreamRequest) -> LiveStream:
        return sound.speak(*azure.address(request, "audio/speech"), request)

    def write_down(self, request: UpstreamRequest, resource: str) -> WholeAnswer:
        return sound.write_down(*azure.address(request, resource), request)

    def write_down_live(self, request: UpstreamRequest, resource: str) -> LiveStream:
        return sound.write_down_live(*azure.address(request, resource), request)

    def stream(self, request: UpstreamRequest) -> LiveStream:
        started = monotonic()
        return LiveStream(Answering(_complete(request, streamed=True), request, started))


def _responses_address(request: UpstreamRequest, accept: str, resource: str) -> openai_responses.Address:
    """Azure alone of these providers is asked without litellm: it speaks Responses as OpenAI does."""
    if request.deployment.litellm_provider != "azure":
        raise cannot("The provider does not speak Responses", "model")
    return openai_responses.azure_address(request, accept, resource)


def _read_whole(answer: Any, request: UpstreamRequest) -> WholeAnswer:
    """Raises whatever an answer raises that litellm let pass, which may be nothing at all."""
    body = cleaned(answer.model_dump(exclude_none=True))
    body["model"] = request.deployment.model
    if usage_of(body.get("usage")) is None:
        body.pop("usage", None)
    return whole_answer(
        body,
        200,
        _request_id(answer, request.api_key),
        may_be_empty=may_be_empty(request.body),
        secret=request.api_key,
    )


def _complete(request: UpstreamRequest, *, streamed: bool) -> Any:
    deployment = request.deployment
    litellm = load()
    given = {name: request.body[name] for name in PARAMETERS if request.body.get(name) is not None}
    schemas.refuse_unbounded_tools(given)  # litellm writes the references of some of these providers' schemas out
    schemas.refuse_unbounded(given.get("response_format"), "response_format")
    given = copy.deepcopy({**given, "messages": request.body.get("messages")})
    if deployment.litellm_provider != "azure" and isinstance(given["messages"], list):
        # Azure fetches pictures itself. For the others litellm would, without a bound.
        media.inlined(given["messages"], lambda _: True, monotonic() + request.timeouts.total_s)
    parameters = resolved(deployment.parameters)
    if streamed:
        given |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        return litellm.completion(
            model=deployment.model,
            custom_llm_provider=deployment.litellm_provider,
            api_key=request.api_key or None,
            api_base=deployment.base_url,
            api_version=deployment.api_version,
            timeout=_timeout(request.timeouts, streamed=streamed),
            num_retries=0,
            max_retries=0,
            _skip_mcp_handler=True,  # litellm would look for servers of its own in the client's tools
            **{**given, **parameters},
        )
    except Exception as error:
        raise _mapped(error, request) from error


def _embed(body: Json, request: UpstreamRequest) -> WholeAnswer:
    deployment = request.deployment
    try:
        answer = load().embedding(
            custom_llm_provider=deployment.litellm_provider,
            api_key=request.api_key or None,
            api_base=deployment.base_url,
            api_version=deployment.api_version,
            timeout=request.timeouts.total_s,
            num_retries=0,
            max_retries=0,
            **{**copy.deepcopy(body), **resolved(deployment.parameters)},
        )
    except Exception as error:
        raise _mapped(error, request) from error
    read = answer.model_dump(exclude_none=True)
    return WholeAnswer(read, usage_of_input(read.get("usage")), 200, _request_id(answer, request.api_key))


def _timeout(timeouts: Timeouts, *, streamed: bool) -> Any:
    import httpx  # litellm's HTTP client; it must not be imported before litellm

    pause_s = max(timeouts.first_token_s, timeouts.idle_s) if streamed else timeouts.total_s
    return httpx.Timeout(min(pause_s, timeouts.total_s), connect=min(timeouts.connect_s, timeouts.total_s))


def _mapped(error: Exception, request: UpstreamRequest) -> UpstreamError:
    """litellm's exceptions (OpenAI's classes, with `status_code`) → one UpstreamError."""
    # litellm wraps the error that ends a stream in the middle. That is for its own router, which is not used here.
    error = getattr(error, "original_exception", None) or error
    status = getattr(error, "status_code", None)
    status = status if type(status) is int and 400 <= status < 600 else None
    said = _PREFIX.sub("", str(getattr(error, "message", None) or error))
    for value in values_of_variables(request.deployment.parameters):  # a cloud's credentials
        said = said.replace(value, "***")
    secret = request.api_key
    message = errors.said(said) or "The provider's answer is an error without words"
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    kind = _kind(error, status, message)
    message = _OUR_WORDS.get(kind, message)  # litellm's own words are about its HTTP client
    code = {
        FailureKind.CONTEXT_WINDOW: "context_length_exceeded",
        FailureKind.CONTENT_POLICY: "content_policy_violation",
    }.get(kind)
    if kind in _OUR_WORDS:
        status = None  # litellm made this status up: no answer had it
    return UpstreamError(
        kind,
        message,
        http_status=status,
        retry_after_s=errors.retry_after_s(headers),
        error_type="invalid_request_error" if kind in errors.REFUSALS else None,
        code=code,
        provider_request_id=errors.request_id(headers, secret),
        secret=secret,
        consumed=kind in _OUR_WORDS and not _was_never_sent(error) and not _was_refused(error),
    )


def _was_never_sent(error: Exception) -> bool:
    import httpx

    unconnected = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    return any(isinstance(link, unconnected) for link in _chain(error))


def _was_refused(error: Exception) -> bool:
    """Whether the provider answered with an error's status. litellm calls a 504 a timeout like its own."""
    import httpx
    import openai

    answered = (openai.APIStatusError, httpx.HTTPStatusError)
    return any(isinstance(link, answered) and not type(link).__module__.startswith("litellm") for link in _chain(error))


def _kind(error: Exception, status: int | None, message: str) -> FailureKind:
    import httpx

    exceptions = load().exceptions
    chain = list(_chain(error))
    by_class = (
        (exceptions.ContextWindowExceededError, FailureKind.CONTEXT_WINDOW),
        (exceptions.ContentPolicyViolationError, FailureKind.CONTENT_POLICY),
        (exceptions.LiteLLMUnknownProvider, FailureKind.NOT_FOUND),
        (exceptions.Timeout, FailureKind.TIMEOUT),
        (httpx.TimeoutException, FailureKind.TIMEOUT),
        (json.JSONDecodeError, FailureKind.MALFORMED),
        (exceptions.APIResponseValidationError, FailureKind.MALFORMED),
        (httpx.TransportError, FailureKind.CONNECTION),
    )
    for cause, kind in by_class:
        # litellm calls its own defects and dead connections an internal server error. The causes tell which it was.
        if any(isinstance(link, cause) for link in chain):
            return kind
    if isinstance(error, exceptions.APIConnectionError):
        return FailureKind.CONNECTION
    return errors.kind_of(status, message) if status else FailureKind.OVERLOADED


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, and its causes."""
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _request_id(answer: Any, secret: str) -> str | None:
    hidden = getattr(answer, "_hidden_params", None) or {}
    headers = hidden.get("additional_headers") or {}
    names = {str(name).removeprefix("llm_provider-"): str(value) for name, value in headers.items()}
    return errors.request_id(names, secret)


class Answering:
    """A :class:`~routing.upstreams.streams.Source`: the stream of an SDK call."""

    http_status = 200

    def __init__(self, stream: Any, request: UpstreamRequest, started: float) -> None:
        self.provider_request_id = _request_id(stream, request.api_key)
        self.progress = Progress(may_be_empty=may_be_empty(request.body))
        self.service_tier: str | None = None
        self.dropped_params = dropped_params(request.body, request.deployment, PARAMETERS)
        self._stream = stream
        self._request = request
        self._model = request.deployment.model
        self._total_at = started + request.timeouts.total_s
        self._usage: Json | None = None
        self._finished = False
        self._calls: dict[int, Calls] = {}
        self._head: Json = {}
        self._closed = False

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._usage) if self._reported() else None

    def chunks(self) -> Iterator[Json]:
        while True:
            if self._closed:
                raise UpstreamError(FailureKind.INTERRUPTED, "The call was closed")
            if monotonic() > self._total_at:
                raise UpstreamError(FailureKind.TIMEOUT, "The provider's answer took too long")
            try:
                chunk = next(self._stream)
            except StopIteration:
                break
            except Exception as error:
                raise _mapped(error, self._request) from error
            read = self._read(chunk.model_dump(exclude_none=True))
            if read is not None:
                yield read
        yield from self._end()

    def _read(self, chunk: Json) -> Json | None:
        chunk["model"] = self._model
        completed(chunk, self._head)
        self.service_tier = tier_of(chunk) or self.service_tier
        usage = chunk.pop("usage", None)
        if usage:
            self._usage = usage
            self.progress.is_uncounted = False
        if not chunk.get("choices"):
            return None  # the usage is sent at the end
        for place, choice in enumerate(chunk["choices"]):
            reason = choice.get("finish_reason")
            if ends_in_failure(reason):
                raise UpstreamError(FailureKind.OVERLOADED, why_failed([choice]), secret=self._request.api_key)
            calls = self._calls.setdefault(choice.get("index", place), Calls())
            delta = conforming_choice(choice, place, "delta", calls)
            choice["finish_reason"] = reason = conforming_reason(reason, called=bool(calls)) if reason else None
            if says_something(delta, reason, may_be_empty=self.progress.may_be_empty):
                self.progress.spoken = True
            self.progress.is_uncounted = self.progress.is_uncounted or speaks(delta)
            if reason and self._cut_off():
                raise self.progress.ended_early()
            self._finished = self._finished or bool(reason)
        self._head = {name: chunk[name] for name in ("id", "object", "created", "model") if name in chunk}
        worth_sending = any(c["delta"] or c["finish_reason"] for c in chunk["choices"])
        return chunk if worth_sending and (self.progress.spoken or not self._finished) else None

    def _end(self) -> Iterator[Json]:
        if not self._finished or not self.progress.spoken:
            raise self.progress.ended_early()
        if self.usage is None:
            return
        yield {**self._head, "choices": [], "usage": self._usage}

    def _cut_off(self) -> bool:
        """Whether the finish reason was made up by litellm, which adds "stop" to every stream that breaks off."""
        reasons = [
            getattr(self._stream, name, "unknown") for name in ("received_finish_reason", "intermittent_finish_reason")
        ]
        return not any(reasons)

    def _reported(self) -> bool:
        """When a provider reports no usage, litellm counts by itself and does not say so. That count is not used."""
        return any(getattr(chunk, "usage", None) for chunk in getattr(self._stream, "chunks", ()))

    @property
    def has_event(self) -> bool:
        return False  # litellm does not say

    def beat(self, every_s: float) -> None:
        """Its reads are litellm's, and cannot be interrupted."""

    def close(self) -> None:
        """Ends the call at once. While another thread reads the stream, the call ends at its next event."""
        self._closed = True
        inner = getattr(self._stream, "completion_stream", None)
        # litellm's stream classes hold the response, or the generator that holds it, under one of these names.
        held = (inner, *(getattr(inner, name, None) for name in ("http_response", "response", "streaming_response")))
        for owner in held:
            close = getattr(owner, "close", None)
            if callable(close):
                with suppress(Exception):  # closing an object that is being read may raise anything
                    close()
