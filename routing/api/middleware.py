"""What every answer of the API has, whoever made it: a request id, CORS headers, and JSON for errors."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from routing.api.errors import gateway_error, is_api, render
from routing.endpoints.chat.view import sane_request_id
from routing.exceptions import InvalidRequest, MethodNotAllowed, NotFound

Handler = Callable[[HttpRequest], HttpResponseBase]


class GatewayMiddleware:
    """Outermost: even a 400 for a bad Host header leaves with an id and, on the API's paths, as JSON."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = sane_request_id(request.headers.get("x-request-id"))
        request.META["gateway.request_id"] = request_id
        response: HttpResponseBase
        if is_api(request) and request.method == "OPTIONS":
            response = HttpResponse(status=204)
        else:
            response = self.handle(request)
            if is_api(request) and _is_html_error(response):
                response = render(_of_status(response.status_code))
        response["x-request-id"] = request_id
        if is_api(request):
            _allow_origin(request, response)
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return render(gateway_error(error)) if is_api(request) else None


def _is_html_error(response: HttpResponseBase) -> bool:
    return response.status_code >= 400 and not response.headers.get("Content-Type", "").startswith("application/json")


def _of_status(status: int) -> InvalidRequest:
    if status == 404:
        return NotFound("There is nothing at this path. The endpoint is POST /v1/chat/completions.")
    if status == 405:
        return MethodNotAllowed("This method is not allowed here.")
    error = InvalidRequest("The request is not valid. Is the host name in ALLOWED_HOSTS?")
    error.status = status
    return error


def _allow_origin(request: HttpRequest, response: HttpResponseBase) -> None:
    """CORS for the origins of CORS_ALLOWED_ORIGINS: https://fetch.spec.whatwg.org/#http-cors-protocol"""
    response["Vary"] = ", ".join(filter(None, (response.headers.get("Vary"), "Origin")))
    origin = request.headers.get("Origin")
    if origin is None or not {origin, "*"} & set(settings.GATEWAY_CORS_ALLOWED_ORIGINS):
        return
    response["Access-Control-Allow-Origin"] = origin
    response["Access-Control-Expose-Headers"] = (
        "x-request-id, x-gateway-alias, x-gateway-provider, x-gateway-model, x-gateway-attempts, "
        "x-gateway-fallback, x-gateway-cost-usd, x-gateway-dropped-params, retry-after"
    )
    if request.method == "OPTIONS":
        response["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
        response["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
        response["Access-Control-Max-Age"] = "600"
