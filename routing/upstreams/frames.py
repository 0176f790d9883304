"""A client's request in its provider's format: by litellm, or put into what litellm made of one like it."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from traceback import walk_tb
from typing import Final, NamedTuple

from django.conf import settings

from routing.upstreams import errors
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError, UpstreamRequest
from routing.upstreams.formats import FORMATS
from routing.upstreams.formats.parameters import dropped_params
from routing.upstreams.formats.wire import Prepared, WireFormat
from routing.upstreams.mends.capability import cannot
from routing.upstreams.plain_conversations import conversation_of, is_for_one, parameters_of, sample
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.scrubbing import scrubbed

IS_SHORT: Final = settings.GATEWAY_TRANSLATION == "short"
#: How many frames of requests are remembered, of each kind.
_FRAMES: Final = 1024

#: With what litellm begins to repeat a request's messages.
_CONVERSATION: Final = re.compile(r"[.\s]*Received (?:Messages=|- message=|tool call with)|Invalid Message passed in")


def prepare(wire: WireFormat, request: UpstreamRequest, *, streamed: bool) -> Prepared:
    """The request in the provider's format. Raises UpstreamError: NO_KEY, or CAPABILITY for what cannot be said."""
    if not request.api_key:
        # litellm would go and look in the environment.
        raise UpstreamError(FailureKind.NO_KEY, "The provider has no key")
    errors.authorization(request.api_key)
    said = conversation_of(request.body) if IS_SHORT else None
    parameters = parameters_of(request.body) if said is not None else None
    if said is None or parameters is None:
        return by_litellm(wire, request, streamed=streamed)
    to = request.deployment
    asked = _Asked(to.litellm_provider, to.model, to.base_url, request.api_key, parameters, streamed, bool(said.system))
    frame = (_frame_for_one if is_for_one(request.body) else _frame)(asked)
    if frame is None:
        return by_litellm(wire, request, streamed=streamed)
    return Prepared(
        frame.url,
        frame.headers,
        {**frame.body, **wire.told(said)},
        {**frame.context, "messages": request.body["messages"]},
        frame.dropped,
        frame.calls_functions,
    )


class _Asked(NamedTuple):
    """All that decides what a provider is sent, but for the conversation."""

    litellm_provider: str
    model: str
    base_url: str | None
    api_key: str
    parameters: bytes
    streamed: bool
    has_system: bool


def _made_frame(asked: _Asked) -> Prepared | None:
    """What litellm makes of such a request with a conversation of ours. None: the two would differ in more than the
    parts that have the conversation, or litellm cannot translate them."""
    wire = FORMATS[asked.litellm_provider]
    messages = sample(with_system=asked.has_system)
    said = conversation_of({"messages": messages})
    assert said is not None
    body = {**loads(asked.parameters), "messages": messages}
    deployment = Deployment("", asked.litellm_provider, asked.model, asked.base_url, Timeouts())
    request = UpstreamRequest(deployment, asked.api_key, body, Timeouts())
    try:
        frame = by_litellm(wire, request, streamed=asked.streamed)
    except UpstreamError:
        return None
    return frame if dumps({**frame.body, **wire.told(said)}) == dumps(frame.body) else None


#: Frames for one end user are kept apart, because there may be so many that they would push out all others.
_frame: Final = lru_cache(maxsize=_FRAMES)(_made_frame)
_frame_for_one: Final = lru_cache(maxsize=_FRAMES)(_made_frame)


def forget_frames() -> None:
    """The next requests are translated anew, because a format has learnt to leave something out."""
    _frame.cache_clear()
    _frame_for_one.cache_clear()


def by_litellm(wire: WireFormat, request: UpstreamRequest, *, streamed: bool) -> Prepared:
    """The request as litellm translates it."""
    try:
        prepared = wire.prepare(request, streamed=streamed)
    except UpstreamError:
        raise
    except Exception as error:
        if isinstance(error, TypeError | AttributeError | ImportError) and not _raised_in_litellm(error):
            raise  # our call of litellm is wrong, whatever the client has sent
        said = scrubbed(_reason(error), request.api_key)
        raise cannot(f"The request cannot be translated to the provider's format: {said}") from error
    return replace(prepared, dropped=_dropped(wire, prepared, request))


def _dropped(wire: WireFormat, prepared: Prepared, request: UpstreamRequest) -> tuple[str, ...]:
    """What is not translated, and what was mended."""
    left_out = set(dropped_params(request.body, request.deployment, wire.parameters))
    if prepared.calls_functions:
        left_out -= {"functions", "function_call"}
    return tuple(sorted(left_out.union(prepared.dropped)))


def _reason(error: Exception) -> str:
    """What litellm says is wrong, without the conversation that it repeats: a refusal is kept in the books."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, AttributeError | TypeError):
        return "a value has a type that it cannot have"
    said = str(getattr(error, "message", None) or error) or type(error).__name__
    cause = said.rpartition("Received error=")[2]
    reason = _CONVERSATION.split(cause)[0].strip()
    return f"{reason} is missing" if re.fullmatch(r"'\w+'", reason) else reason


def _raised_in_litellm(error: Exception) -> bool:
    """Whether litellm has at least looked at the request. It has not when it is called with wrong arguments."""
    frames = walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__", "")).partition(".")[0] == "litellm" for frame, _ in frames)
