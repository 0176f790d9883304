"""The one skeleton of every route that spends: parse, identify, admit (hold), cascade, settle, render.

No cent leaves without a hold, because an endpoint has no other way to a provider. An endpoint gives `parse` and
`rendering`; all that happens between them is here. `gateway_project.routes` refuses to serve a route that goes another
way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting import json_text
from accounting.keys import Key
from accounting.ledger.records import AttemptRecord
from accounting.money import plain_usd
from accounting.usage import Usage
from routing.api import places
from routing.api.authentication import Caller, KeyAuthentication
from routing.api.disconnects import ClientConnection, WholeAnswer
from routing.api.headers import TIMEOUT_VARIABLE, headers_of, headers_so_far, note_failure, parse_timeout_s, request_id
from routing.endpoints.conversations import affinity_of
from routing.exceptions import GatewayError, InternalError
from routing.serving import admission, books, cascade, refused
from routing.serving.admission import Admission
from routing.serving.attempts import Clock, Failed, OpenStream, Served, counted
from routing.serving.bare import BareFrames
from routing.serving.books import Ending
from routing.serving.call import Call
from routing.serving.relaying import BEGIN_AFTER_S, Frames, LateAnswer, LiveAnswer
from routing.serving.waiting import Waited
from routing.upstreams.base import Content, Json
from routing.upstreams.kinds import IN_WORDS

C = TypeVar("C", bound=Call)
C_contra = TypeVar("C_contra", bound=Call, contravariant=True)

#: Takes the request, the parameters of its path, and when its client stops waiting (monotonic). Raises a GatewayError.
Parse = Callable[[HttpRequest, Mapping[str, str], float | None], C]


class WholeRendering(Protocol[C_contra]):
    """How whole answers are written in the client's dialect: a function of an endpoint's ``rendering`` module."""

    def whole(self, call: C_contra, body: Json, alias: str, estimated: Usage | None) -> Json | Content:
        """The body of a whole answer. ``estimated`` is its usage when the provider gave no count, else None."""

    # ``envelope(error, request_id)``, where the dialect has an envelope of its own: `routing.api.errors` looks for it.


class Rendering(WholeRendering[C_contra], Protocol[C_contra]):
    """The same for an endpoint that streams, with a second function."""

    def frames(self, call: C_contra, alias: str) -> Frames:
        """The frames in which a streamed answer is sent. They have a ``stream_type`` when they are no event stream."""


class SpendingView(APIView):
    """The view of every route that spends, as :func:`route` makes it."""

    authentication_classes = (KeyAuthentication,)
    parse: Parse[Any] | None = None
    rendering: WholeRendering[Any] | None = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        """Asks who calls. DRF would ask besides for a format, a version, permissions and a rate, which no such view
        has, and would look for a caller before it asks."""
        authentication = cast(Any, request.authenticators)[0]
        request.user, request.auth = authentication.authenticate(request)

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {"Allow": "POST, OPTIONS"}  # which DRF reads off the class with each request

    def post(self, request: Request, **path: str) -> HttpResponseBase:
        assert self.parse is not None
        assert self.rendering is not None
        return spend(request, path, self.parse, self.rendering)


def route(parse: Parse[C], rendering: WholeRendering[C]) -> Callable[..., HttpResponseBase]:
    """An endpoint that spends, for the URL table. Its rendering has ``frames`` when its calls can ask for a stream."""
    return SpendingView.as_view(parse=parse, rendering=rendering)


def spend(request: Request, path: Mapping[str, str], parse: Parse[C], rendering: WholeRendering[C]) -> HttpResponseBase:
    """Answer a request that costs money. When it raises a GatewayError, all that was spent is on the books."""
    began = Clock()
    key, call = cast(Key, request.auth), None
    sent = request._request  # whatever is asked of DRF's own goes through a `__getattr__`
    client = ClientConnection(sent.META.get("gunicorn.socket"))
    try:
        try:
            place = places.take(sent, key)  # before its body is read
            client.takes(place)
            timeout_s = parse_timeout_s(sent.META.get(TIMEOUT_VARIABLE))
            call = parse(sent, path, None if timeout_s is None else began.monotonic + timeout_s)
            client.watch()
            place.rest()
            affinity = affinity_of(call, sent.META)
            secret = cast(Caller, request.user).secret
            admitted = admission.admit(call, secret, request_id(sent), affinity)
        except GatewayError as error:
            refused.note(error, request_id(sent), key, call)
            raise
        return _answer(call, admitted, began, client, rendering)
    except BaseException:
        client.release()
        raise


def _answer(
    call: C, admitted: Admission, began: Clock, client: ClientConnection, rendering: WholeRendering[C]
) -> HttpResponseBase:
    """The response, whose end releases the client."""
    try:
        if call.streamed:
            return _streamed(call, admitted, began, client, cast(Rendering[C], rendering))
        served = cascade.whole(admitted, client)
        answer = served.answer
        usage = counted(
            answer.usage, lambda: call.estimate(answer.body, served.step), is_in_words=call.kind in IN_WORDS
        )
        attempt = served.record(usage, answer.http_status, answer.provider_request_id)
    except Failed as failed:
        note_failure(failed)
        books.settle(Ending.of_failure(failed, began))
        raise failed.error from None
    except Exception:
        # A defect of ours. Void the hold now, so that it does not have to expire: nothing says that a provider billed.
        books.settle(Ending.of_failure(Failed(InternalError("The gateway failed."), [], admitted), began))
        raise
    settlement = books.settle(
        Ending(
            served.admission,
            began,
            (*served.failed, attempt),
            served=attempt,
            is_fallback=served.is_fallback,
            http_status=200,
            error_code="",
        )
    )
    body = rendering.whole(call, answer.body, served.step.alias, None if usage is answer.usage else usage)
    written = body if isinstance(body, Content) else Content("application/json", json_text.dumps(body))
    headers = headers_of(served)
    if (cost_usd := settlement.cost_usd) is not None:
        headers["x-gateway-cost-usd"] = plain_usd(cost_usd)
    return WholeAnswer(written.data, client, headers, written.content_type)


def _streamed(
    call: C, admitted: Admission, began: Clock, client: ClientConnection, rendering: Rendering[C]
) -> StreamingHttpResponse:
    """An answer that begins with its first content, whose step the headers name; without it, when that takes long and
    its format has comments, which keep the client."""
    failed: list[AttemptRecord] = []
    opening = Waited(lambda: cascade.stream(admitted, client, failed))

    def opened(served: Served[OpenStream]) -> LiveAnswer:
        return LiveAnswer(served, began, client, rendering.frames(call, served.step.alias))

    answer: LiveAnswer | LateAnswer
    frames = rendering.frames(call, call.alias)
    content_type = getattr(frames, "stream_type", "text/event-stream")
    if isinstance(frames, BareFrames) or opening.is_over(BEGIN_AFTER_S):
        served = opening.result()
        answer, headers = opened(served), headers_of(served)
        if isinstance(frames, BareFrames):
            content_type = frames.content_type(served.answer.head)
    else:
        rate = admitted.hold.rate
        headers = headers_so_far(call.alias, len(failed) + 1, rate.status if rate else None)
        answer = LateAnswer(opening, opened, admitted, began, client=client, frames=frames)
    return StreamingHttpResponse(
        # The answer settles itself. Django calls its close() at the end, however the answer ends.
        answer,
        content_type=content_type,
        headers={**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
