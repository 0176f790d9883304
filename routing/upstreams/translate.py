"""Providers with a format of their own (Anthropic, Gemini): litellm translates, we carry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from accounting.usage import Usage
from routing.upstreams import (
    anthropic_messages,
    embeddings,
    errors,
    gemini_contents,
    gemini_embeddings,
    image_translation,
    images,
    rerank,
)
from routing.upstreams.answers import cleaned, may_be_empty, whole_answer
from routing.upstreams.base import Json, UpstreamRequest, WholeAnswer
from routing.upstreams.formats import FORMATS
from routing.upstreams.formats.wire import Prepared, WireFormat
from routing.upstreams.frames import IS_SHORT, forget_frames, prepare
from routing.upstreams.http.events import is_stream, post_stream, replayed
from routing.upstreams.http.transport import USER_AGENT, Whole, post
from routing.upstreams.mends.capability import cannot, lacking
from routing.upstreams.mends.endings import write_function_calls
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.relay import Chunks
from routing.upstreams.streams import LiveStream, collected
from routing.upstreams.translated import Translated, failed_turn
from routing.upstreams.usage import usage_of


class Translate:
    """An :class:`~routing.upstreams.base.Upstream`."""

    responses = responses_stream = lacking("The provider does not speak Responses")
    responses_kept = lacking("The provider keeps no responses")
    complete = complete_stream = lacking("The provider has no completions of the old kind")
    moderate = lacking("The provider has no moderations")
    speak = lacking("The provider has no endpoint for speech here")
    write_down = write_down_live = lacking("The provider has no endpoint for transcripts here")

    def whole(self, request: UpstreamRequest) -> WholeAnswer:
        wire = FORMATS[request.deployment.litellm_provider]
        ends_at = time.monotonic() + request.timeouts.total_s
        prepared = prepare(wire, request, streamed=False)
        answer = post(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts)
        if _is_mendable(wire, prepared, answer, request):
            return self.whole(_in_the_rest(request, ends_at))
        return _read_whole(wire, prepared, answer, request)

    def messages(self, request: UpstreamRequest, headers: Mapping[str, str]) -> WholeAnswer:
        return anthropic_messages.ask(request, headers)

    def messages_stream(self, request: UpstreamRequest, headers: Mapping[str, str]) -> LiveStream:
        return anthropic_messages.stream(request, headers)

    def contents(self, request: UpstreamRequest) -> WholeAnswer:
        return gemini_contents.ask(request)

    def contents_stream(self, request: UpstreamRequest) -> LiveStream:
        return gemini_contents.stream(request)

    def draw(self, request: UpstreamRequest) -> WholeAnswer:
        return image_translation.draw(request)

    def draw_stream(self, request: UpstreamRequest) -> LiveStream:
        return LiveStream(images.Drawn(image_translation.draw(request), request))

    def rerank(self, request: UpstreamRequest) -> WholeAnswer:
        return rerank.ask(request)

    def embed(self, request: UpstreamRequest) -> WholeAnswer:
        if request.deployment.litellm_provider == "gemini":
            return embeddings.embed(request, gemini_embeddings.send)
        raise cannot("The provider makes no embeddings", "model")

    def stream(self, request: UpstreamRequest) -> LiveStream:
        wire = FORMATS[request.deployment.litellm_provider]
        ends_at = time.monotonic() + request.timeouts.total_s
        prepared = prepare(wire, request, streamed=True)
        answer = post_stream(prepared.url, _headers(prepared), dumps(prepared.body), request.timeouts, request.leash)
        if isinstance(answer, Whole):
            if _is_mendable(wire, prepared, answer, request):
                return self.stream(_in_the_rest(request, ends_at))
            whole = _read_whole(wire, prepared, answer, request)
            said = replayed(Whole(answer.status, answer.headers, dumps(whole.body)))
            chunks = Chunks(
                said,
                request.api_key,
                len(whole.body["choices"]),
                prepared.dropped,
                may_be_empty=may_be_empty(request.body),
            )
            return LiveStream(chunks)
        return LiveStream(Translated(answer, wire, prepared, request))


def _is_mendable(wire: WireFormat, prepared: Prepared, answer: Whole, request: UpstreamRequest) -> bool:
    """Whether the provider, which has billed nothing, would take the request without what it has just refused. False at
    the latest when nothing is left that the format can do without."""
    if answer.status != 400 or not wire.learn(prepared, answer.body, request.deployment.model):
        return False
    forget_frames()
    return True


def _in_the_rest(request: UpstreamRequest, ends_at: float) -> UpstreamRequest:
    """The request in what is left of its attempt's time."""
    return replace(request, timeouts=request.timeouts.within(ends_at - time.monotonic()))


def _headers(prepared: Prepared) -> dict[str, str]:
    return {**prepared.headers, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}


def _read_whole(wire: WireFormat, prepared: Prepared, answer: Whole, request: UpstreamRequest) -> WholeAnswer:
    if answer.status != 200:
        raise errors.from_response(answer.status, answer.headers, answer.body, secret=request.api_key)
    request_id = errors.request_id(answer.headers, request.api_key)
    if is_stream(answer):
        stream = LiveStream(Translated(replayed(answer), wire, prepared, request))
        body = collected(stream)
        whole = whole_answer(
            body, answer.status, request_id, may_be_empty=may_be_empty(request.body), secret=request.api_key
        )
        return replace(whole, service_tier=stream.service_tier, dropped_params=prepared.dropped)
    try:
        raw = loads(answer.body)
    except ValueError:
        raise errors.malformed(answer.status, answer.headers, request.api_key) from None
    plain = None
    if IS_SHORT and isinstance(raw, dict):
        header = answer.headers.get(gemini_contents.TIER_HEADER)
        plain = wire.plain_answer(raw, prepared, request.deployment.model, header)
    if plain is not None:
        return WholeAnswer(
            plain, usage_of(plain["usage"]), answer.status, request_id, _tier(wire, answer, raw), prepared.dropped
        )
    failure = errors.from_event(raw, provider_request_id=request_id, secret=request.api_key)
    if failure is None and isinstance(raw, dict):
        failure = wire.refusal(raw, request.api_key)
        if failure is not None and raw.get(wire.usage_name):
            failure.usage = _usage_alone(wire, prepared, answer, raw)
    if failure is not None:
        failure.provider_request_id = request_id
        raise failure
    if not isinstance(raw, dict):
        raise errors.malformed(answer.status, answer.headers, request.api_key)
    body = _as_chat_completion(wire, prepared, answer, raw, request.api_key)
    body["model"] = request.deployment.model
    if reason := wire.failed_turn(raw):
        failed = failed_turn(reason)
        failed.http_status, failed.provider_request_id = answer.status, request_id
        failed.usage, failed.consumed = usage_of(body.get("usage")), True
        raise failed
    whole = whole_answer(
        body, answer.status, request_id, may_be_empty=may_be_empty(request.body), secret=request.api_key
    )
    if prepared.calls_functions:
        write_function_calls(whole.body["choices"], "message")
    return replace(whole, service_tier=_tier(wire, answer, raw), dropped_params=prepared.dropped)


def _tier(wire: WireFormat, answer: Whole, raw: Json) -> str | None:
    tier = wire.service_tier(raw) or answer.headers.get(gemini_contents.TIER_HEADER)
    return tier if isinstance(tier, str) else None


def _as_chat_completion(wire: WireFormat, prepared: Prepared, answer: Whole, raw: Json, secret: str) -> Json:
    reports_usage = bool(raw.get(wire.usage_name))
    if not reports_usage:
        raw[wire.usage_name] = dict(wire.no_usage)
    try:
        readable = wire.readable(raw, prepared)
        if not reports_usage or readable is not raw:
            answer = Whole(answer.status, answer.headers, dumps(readable))
        body = cleaned(wire.read(prepared, answer).model_dump(exclude_none=True))
    except Exception as error:
        usage = _usage_alone(wire, prepared, answer, raw) if reports_usage else None
        raise errors.malformed(answer.status, answer.headers, secret, usage) from error
    if not reports_usage:
        body.pop("usage", None)
    return body


def _usage_alone(wire: WireFormat, prepared: Prepared, answer: Whole, raw: Json) -> Usage | None:
    """What the provider counts for an answer that is none: a prompt that it blocked, or what litellm cannot read."""
    try:
        counted = replace(answer, body=dumps(wire.without_answer(raw)))
        return usage_of(wire.read(prepared, counted).model_dump().get("usage"))
    except Exception:  # noqa: BLE001 - a count that litellm cannot read must not mask the failure
        return None
