"""Gives every answer of the API a request id, and makes JSON of every error, whichever code made the answer.

The CORS headers come from django-cors-headers, which stands between the two classes of this file.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from routing.api.body import most_bytes, refuse_announced
from routing.api.errors import SERVED, gateway_error, is_api, render
from routing.api.headers import sane_request_id
from routing.exceptions import InvalidRequest, MethodNotAllowed, NotFound, RequestTooLarge

Handler = Callable[[HttpRequest], HttpResponseBase]


class GatewayMiddleware:
    """The outermost middleware, so that even a preflight or a 400 for a bad Host header has an id."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = sane_request_id(request.META.get("HTTP_X_REQUEST_ID"))
        request.META["gateway.request_id"] = request_id
        response = self.handle(request)
        response["x-request-id"] = request_id
        if "HTTP_ANTHROPIC_VERSION" in request.META:
            response["request-id"] = request_id  # where Anthropic's clients look for it
        return response


class JsonErrors:
    """On the API's paths an error is JSON, even when Django's own middleware made it.

    It stands inside the CORS middleware, so that a web page may read the errors that are rendered here.
    """

    def __init__(self, handle: Handler) -> None:
        self.handle = handle

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_api(request):
            return self.handle(request)
        if request.method == "OPTIONS":  # not a preflight: the CORS middleware has answered those
            return HttpResponse(status=204)
        try:
            refuse_announced(request, most_bytes(request))  # its sender need not even have a key
        except RequestTooLarge as error:
            return render(error)
        response = self.handle(request)
        return render(_of_status(response.status_code)) if _is_html_error(response) else response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return render(gateway_error(error)) if is_api(request) else None


def _is_html_error(response: HttpResponseBase) -> bool:
    return response.status_code >= 400 and not response.headers.get("Content-Type", "").startswith("application/json")


def _of_status(status: int) -> InvalidRequest:
    if status == 404:
        return NotFound(f"There is nothing at this path. There are {SERVED}.")
    if status == 405:
        return MethodNotAllowed("This method is not allowed here.")
    error = InvalidRequest("The request is not valid. Is the host name in ALLOWED_HOSTS?")
    error.status = status
    return error
