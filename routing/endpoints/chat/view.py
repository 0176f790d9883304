"""The HTTP surface: parse, call, render. No loops, no SQL."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from django.http import HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting.money import plain_usd
from accounting.usage import Usage
from routing.api.authentication import Caller, KeyAuthentication
from routing.api.body import read_json
from routing.api.disconnects import ClientConnection
from routing.api.headers import TIMEOUT_HEADER, headers_of, note_failure, parse_timeout_s, request_id
from routing.endpoints.chat.request import parse_chat
from routing.exceptions import InternalError
from routing.serving import admission, books, cascade
from routing.serving.admission import Admission
from routing.serving.attempts import Clock, Failed, Served
from routing.serving.relaying import EventStream
from routing.upstreams.base import WholeAnswer
from routing.upstreams.estimate import estimated_usage


class ChatCompletionsView(APIView):
    """``POST /v1/chat/completions``: https://platform.openai.com/docs/api-reference/chat/create"""

    authentication_classes = (KeyAuthentication,)

    def post(self, request: Request, alias: str | None = None) -> HttpResponseBase:
        began = Clock()
        caller = cast(Caller, request.user)
        timeout_s = parse_timeout_s(request.headers.get(TIMEOUT_HEADER))
        chat = parse_chat(read_json(request._request), alias)
        if timeout_s is not None:
            chat = replace(chat, deadline=began.monotonic + timeout_s)
        admitted = admission.admit(chat, caller.secret, request_id(request._request))
        try:
            if chat.streamed:
                return _streamed(admitted, began, ClientConnection(request.META.get("gunicorn.socket")))
            return _whole(cascade.whole(admitted), began)
        except Failed as failed:
            _settle_failure(failed, began)
            raise failed.error from None
        except Exception:
            # A fault of ours: the hold must not be left for the expiry, and nothing says that a provider was paid.
            _settle_failure(Failed(InternalError("The gateway failed."), [], admitted), began)
            raise


def _whole(served: Served[WholeAnswer], began: Clock) -> HttpResponse:
    answer = served.answer
    body = answer.body
    usage = answer.usage or _estimate(served)
    attempt = served.record(usage, answer.http_status, answer.provider_request_id)
    settlement = books.settle(
        served.admission,
        [*served.failed, attempt],
        served=attempt,
        fallback=served.is_fallback,
        http_status=200,
        error_code="",
        began=began,
    )
    body["model"] = served.step.alias
    if answer.usage is None:
        body["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
    response = JsonResponse(body, headers=headers_of(served))
    if settlement.cost_usd is not None:
        response["x-gateway-cost-usd"] = plain_usd(settlement.cost_usd)
    return response


def _streamed(admitted: Admission, began: Clock, client: ClientConnection) -> HttpResponseBase:
    try:
        served = cascade.stream(admitted, client)
    except BaseException:
        client.release()
        raise
    return StreamingHttpResponse(
        EventStream(served, began, client),  # Django calls its close() at the end, however that comes
        content_type="text/event-stream",
        headers={**headers_of(served), "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _estimate(served: Served[WholeAnswer]) -> Usage:
    """Usage of a whole answer whose provider reported none."""
    texts = []
    for choice in served.answer.body["choices"]:
        message = choice["message"]
        texts.append(message.get("content") or "")
        texts.extend(str(call.get("function")) for call in message.get("tool_calls") or ())
    return estimated_usage(served.admission.chat.body, "".join(map(str, texts)), served.step.deployment.model)


def _settle_failure(failed: Failed, began: Clock) -> None:
    note_failure(failed)
    books.settle(
        failed.admission,
        failed.attempts,
        served=None,
        fallback=False,
        http_status=failed.error.status,
        error_code=failed.error.code or "",
        began=began,
    )
