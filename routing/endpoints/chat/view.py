"""The HTTP surface: parse, call, render. No loops, no SQL."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting.keys import Key
from accounting.money import plain_usd
from accounting.rates import RateStatus
from accounting.reports import budgets_of
from accounting.usage import Usage
from routing import catalog
from routing.api.authentication import Caller, KeyAuthentication, identify_in
from routing.api.body import read_body
from routing.api.disconnects import ClientConnection
from routing.catalog import Catalog
from routing.endpoints.chat.request import TIMEOUT_HEADER, parse_chat, parse_json, parse_timeout_s
from routing.exceptions import InternalError, ModelNotFound
from routing.serving import admission, books, cascade
from routing.serving.admission import Admission
from routing.serving.cascade import Clock, Failed, OpenStream, Served
from routing.serving.relaying import EventStream
from routing.upstreams.base import Json, WholeAnswer
from routing.upstreams.estimate import estimated_usage


class ChatCompletionsView(APIView):
    """``POST /v1/chat/completions``: https://platform.openai.com/docs/api-reference/chat/create"""

    authentication_classes = (KeyAuthentication,)

    def post(self, request: Request, alias: str | None = None) -> HttpResponseBase:
        began = Clock()
        caller = cast(Caller, request.user)
        timeout_s = parse_timeout_s(request.headers.get(TIMEOUT_HEADER))
        chat = parse_chat(parse_json(read_body(request._request, settings.GATEWAY_MAX_BODY_BYTES)), alias)
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


class ModelsView(APIView):
    """``GET /v1/models``: the aliases that the caller may use."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = _fresh(request)
        return JsonResponse(
            {
                "object": "list",
                "data": [_model(name) for name in snapshot.enabled_aliases if key.may_use(name)],
            }
        )


class ModelView(APIView):
    """``GET /v1/models/{alias}``."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request, alias: str) -> HttpResponse:
        snapshot, key = _fresh(request)
        usable = [name for name in snapshot.enabled_aliases if key.may_use(name)]
        if alias not in usable:
            raise ModelNotFound(alias, usable)
        return JsonResponse(_model(alias))


class BudgetView(APIView):
    """``GET /v1/budget``: every budget that applies to the caller's key."""

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        _, key = _fresh(request)
        return JsonResponse(
            {
                "object": "list",
                "data": [
                    {
                        "budget": status.budget,
                        "scope": status.scope,
                        "mode": status.mode,
                        "period": status.period,
                        "limit_usd": plain_usd(status.limit_usd),
                        "posted_usd": plain_usd(status.posted_usd),
                        "held_usd": plain_usd(status.held_usd),
                        "available_usd": plain_usd(status.available_usd),
                        "resets_at": status.resets_at.isoformat() if status.resets_at else None,
                    }
                    for status in budgets_of(key.id)
                ],
            }
        )


def request_id(request: HttpRequest) -> str:
    """The id that RequestIdMiddleware gave the request."""
    return str(request.META["gateway.request_id"])


def sane_request_id(offered: str | None) -> str:
    """The client's own id when it is short and plain, else a new one."""
    if offered and re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", offered):
        return offered
    return f"req-{uuid.uuid4().hex}"


def _fresh(request: Request) -> tuple[Catalog, Key]:
    """The configuration as the database has it now, and the caller's key in it. DRF's ``request.auth`` may come from an
    older snapshot, which is only good for requests that prove it in their hold."""
    snapshot = catalog.fresh()
    return snapshot, identify_in(snapshot, cast(Caller, request.user).secret)


def _model(alias: str) -> Json:
    return {"id": alias, "object": "model", "created": 0, "owned_by": "gateway"}


def _headers(served: Served[WholeAnswer] | Served[OpenStream]) -> dict[str, str]:
    rate = served.admission.hold.rate
    answer = served.answer.stream if isinstance(served.answer, OpenStream) else served.answer
    dropped = answer.dropped_params
    return {
        **(_rate_headers(rate.status) if rate else {}),
        "x-gateway-alias": served.step.alias,
        "x-gateway-provider": served.step.provider.name,
        "x-gateway-model": served.step.deployment.model,
        "x-gateway-attempts": str(len(served.failed) + 1),
        "x-gateway-fallback": "true" if served.is_fallback else "false",
        **({"x-gateway-dropped-params": ", ".join(dropped)} if dropped else {}),
    }


def _rate_headers(status: RateStatus) -> dict[str, str]:
    """https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers"""
    headers: dict[str, str] = {}
    for name, limit, left in (
        ("requests", status.limits.requests_per_minute, status.requests_left),
        ("tokens", status.limits.tokens_per_minute, status.tokens_left),
    ):
        if limit is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(left)
            headers[f"x-ratelimit-reset-{name}"] = f"{status.reset_s}s"
    return headers


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
    response = JsonResponse(body, headers=_headers(served))
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
        headers={**_headers(served), "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
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
    failed.error.headers.update(
        {
            "x-gateway-alias": failed.admission.chat.alias,
            "x-gateway-attempts": str(len(failed.attempts)),
            "x-gateway-fallback": "false",
        }
    )
    if failed.attempts:
        failed.error.headers["x-gateway-provider"] = failed.attempts[-1].provider
        failed.error.headers["x-gateway-model"] = failed.attempts[-1].model
    books.settle(
        failed.admission,
        failed.attempts,
        served=None,
        fallback=False,
        http_status=failed.error.status,
        error_code=failed.error.code or "",
        began=began,
    )
