"""The refusal of a step that cannot take the request. Another step may take it, so it is not the request's fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from routing.upstreams.base import FailureKind, UpstreamError


def cannot(message: str, param: str | None = None) -> UpstreamError:
    """The error for a request that this provider cannot be asked. Nothing has been sent."""
    return UpstreamError(
        FailureKind.CAPABILITY,
        message,
        http_status=400,
        error_type="invalid_request_error",
        code="invalid_value",
        param=param,
    )


def lacking(message: str) -> Callable[..., NoReturn]:
    """A method of an upstream whose provider has no such endpoint."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise cannot(message, "model")

    return refuse
