"""Turns errors into HTTP: JSON in OpenAI's envelope, for every error and wherever it was raised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions as drf

from accounting import facts
from routing.api.headers import request_id
from routing.exceptions import (
    GatewayError,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    MethodNotAllowed,
    NotFound,
    RequestTooLarge,
)
from routing.upstreams.kinds import PATHS

SERVED = f"POST {', '.join(path for paths in PATHS.values() for path in paths)}, and GET /v1/models and /v1/budget"
BROWSER_PATHS = ("/admin/", "/static/")  # all other paths answer in JSON, even paths that lead nowhere


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """DRF's hook: every exception of an API view, in the envelope of the view's dialect."""
    found = gateway_error(error)
    envelope = getattr(getattr(context.get("view"), "rendering", None), "envelope", None)
    request = context.get("request")
    if envelope is None or request is None:
        return render(found)
    return render(found, envelope(found, request_id(request._request)))


def gateway_error(error: Exception) -> GatewayError:
    match error:
        case GatewayError():
            return error
        case DatabaseError():
            facts.request_without_database(error)
            return LedgerUnavailable()
        case RequestDataTooBig():
            return RequestTooLarge("The request is too large.")
        case drf.MethodNotAllowed():
            return MethodNotAllowed(
                f"The method {error.args[0] if error.args else ''} is not allowed here; see the docs."
            )
        case Http404() | drf.NotFound():
            return NotFound(f"There is nothing at this path. There are {SERVED}.")
        case drf.APIException():
            return InvalidRequest(str(error.detail))
        case BadRequest() | SuspiciousOperation():
            return InvalidRequest("The request is not valid.")
        case _:
            facts.request_failed(error)
            return InternalError(
                "The gateway failed. The operator finds the reason in the log under this request's id."
            )


def render(error: GatewayError, body: Mapping[str, Any] | None = None) -> JsonResponse:
    """``body`` is the error in another envelope than OpenAI's."""
    response = JsonResponse(error.envelope() if body is None else body, status=error.status, headers=error.headers)
    # The request has its own line in the log. Django would write a second line, without the request's id.
    response._has_been_logged = True  # type: ignore[attr-defined]  # django.utils.log.log_response looks at it
    return response


def is_api(request: HttpRequest) -> bool:
    return not request.path.startswith(BROWSER_PATHS)
