"""Every error that the gateway answers, with the fields of OpenAI's error envelope.

    GatewayError                 .status .type .code .param .headers .extra
    ├── InvalidRequest           400  the client's request is wrong: InvalidJson, MissingParameter, UnboundedCost,
    │                                or a wrong value
    ├── RequestTooLarge          413
    ├── CompressedBody           415
    ├── RequestTimeout           408  the client takes too long to send its request
    ├── WrongKind                400  an embedding model is asked to chat, or the other way round
    ├── ModelNotFound            404
    ├── InvalidApiKey            401
    ├── ModelNotAllowed          403
    ├── OpenModeIsLocal          403
    ├── RateLimited              429  a limit of ours
    ├── BudgetRefused            429  budget_exceeded, budget_in_flight, request_exceeds_budget
    ├── ModelUnpriced            403
    ├── ProviderRefused          as upstream: the provider rejects the request itself
    ├── ResponseNotKept          404, or 400 for one to go on from
    ├── ProviderFailed           502  what only one provider knows, and it does not answer
    ├── AllModelsFailed          502, 504 or 429: every step of the chain failed
    ├── LedgerUnavailable        503
    ├── GatewayBusy              503  a worker has as many requests, or bytes of them, in hand as it may
    ├── HoldLost                 503  the hold was expired or resolved while the request ran
    ├── ClientClosed             499  for the ledger only: the client has gone
    └── NotFound, MethodNotAllowed, InternalError   404, 405, 500

Source of the envelope: OpenAI's API reference, "Error codes", and the contract's error table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from accounting import refusals
from accounting.money import plain_usd

NO_RETRY = {"x-should-retry": "false"}  # the official clients retry 429 and 5xx by themselves unless told not to
_SHOWN_CHARACTERS = 100  # of a client's text that a message repeats; no alias is longer


def _shown(alias: str) -> str:
    return alias if len(alias) <= _SHOWN_CHARACTERS else f"{alias[:_SHOWN_CHARACTERS]}…"


class GatewayError(Exception):
    status = 500
    type = "server_error"
    code: str | None = None
    #: Why the ledger refuses the request; None when the ledger was not asked.
    refusal: refusals.Refusal | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def envelope(self) -> dict[str, Any]:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
                **self.extra,
            }
        }


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class InvalidJson(InvalidRequest):
    code = "invalid_json"


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"


class UnboundedCost(InvalidRequest):
    """A parameter, tool or file whose cost nobody bounds, under a hard budget."""

    code = "unbounded_cost"


class RequestTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class CompressedBody(InvalidRequest):
    """A small body may unfold to one of any size, which nobody would have made room for."""

    status = 415
    code = "unsupported_content_encoding"

    def __init__(self, coding: str) -> None:
        super().__init__(
            f"The request body is compressed ('{_shown(coding)}'). Send it without 'Content-Encoding': the "
            "gateway reads plain bodies alone."
        )


class RequestTimeout(InvalidRequest):
    status = 408
    code = "request_timeout"


class ModelNotFound(InvalidRequest):
    status = 404
    code = "model_not_found"

    def __init__(self, alias: str, aliases: Sequence[str]) -> None:
        """``aliases``: those that the client may use."""
        use = ", ".join(aliases) if aliases else "none is configured for this API key; see the admin"
        super().__init__(f"The model '{_shown(alias)}' does not exist. Use one of: {use}.", param="model")


class WrongKind(InvalidRequest):
    """The alias has no model of the kind that the endpoint serves. Its models are asked at ``paths``."""

    def __init__(self, alias: str, kind: str, asked: str, paths: Sequence[str]) -> None:
        where = f" Ask it at POST {' or '.join(paths)}.".replace("{alias}", _shown(alias)) if paths else ""
        super().__init__(
            f"The model '{_shown(alias)}' is for {kind}, and this endpoint is for {asked}.{where}", param="model"
        )


class NotFound(InvalidRequest):
    status = 404
    code = "not_found"


class ResponseNotKept(InvalidRequest):
    """A response that the caller cannot go on from, or look at. Whose it is, or was, nobody is told."""

    def __init__(self, param: str | None = None) -> None:
        super().__init__(
            "There is no response with this id that a provider keeps for this API key behind this model. Only "
            "providers that speak Responses keep any, and only with 'store'. Send the conversation in 'input'.",
            param=param,
        )
        self.code = "previous_response_not_found" if param else "response_not_found"
        if param is None:
            self.status = 404


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"


class InvalidApiKey(InvalidRequest):
    """``key`` is the name of the key that was presented, when it is one of ours that does not count any more."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})  # RFC 9110, 11.6.1: a 401 must say how
        self.key = key


class ModelNotAllowed(GatewayError):
    status = 403
    type = "permission_error"
    code = "model_not_allowed"

    def __init__(self, key: str, alias: str, aliases: Sequence[str]) -> None:
        """``aliases``: those that the key may use."""
        use = ", ".join(aliases) or "none that is there now"
        super().__init__(
            f"The API key '{key}' may not use the model '{_shown(alias)}'. It may use: {use}.", param="model"
        )


class OpenModeIsLocal(GatewayError):
    """Open mode serves the programs of its own machine. ``message`` says who asked instead."""

    status = 403
    type = "permission_error"
    code = "open_mode_is_local"


class ModelUnpriced(GatewayError):
    status = 403
    type = "permission_error"
    code = "model_unpriced"

    def __init__(self, refusal: refusals.Unpriced) -> None:
        self.refusal = refusal
        super().__init__(
            f"The budget '{refusal.budget}' is a hard one and no price is known for the model '{refusal.model}' of "
            f"the provider '{refusal.provider}'. Add its price in the admin under Accounting, Prices.",
            param="model",
        )


class RateLimited(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, refusal: refusals.RateLimited, fits_tokens: int | None = None) -> None:
        """``fits_tokens``: the output cap with which a request that never fits would."""
        limited = f"The API key is limited to {refusal.most} {refusal.limit}"
        if refusal.retry_after_s is None:  # however long the client waits
            hint = f"Set max_tokens to {fits_tokens} or less." if fits_tokens else "Shorten it, or raise the limit."
            super().__init__(
                f"{limited}, and this request alone could need {refusal.asked}: it will never fit. {hint}",
                headers=NO_RETRY,
            )
            return
        super().__init__(
            f"{limited} and has used {refusal.used}. Try again in {refusal.retry_after_s} s.",
            headers={"Retry-After": str(refusal.retry_after_s)},
        )


class BudgetRefused(GatewayError):
    """A budget has no room. ``fits_tokens`` is the output cap that would fit; None when no cap would."""

    status = 429
    type = "insufficient_quota"

    def __init__(
        self, refusal: refusals.BudgetRefusal, fits_tokens: int | None = None, asked_usd: Decimal | None = None
    ) -> None:
        self.refusal: refusals.BudgetRefusal = refusal
        self.asked_usd = asked_usd  # the most that the request could cost; the refusal has what it would have held
        limit, spent, held = (plain_usd(amount) for amount in (refusal.limit_usd, refusal.spent_usd, refusal.held_usd))
        reset = f" It resets at {refusal.resets_at.isoformat()}." if refusal.resets_at else ""
        headers: Mapping[str, str] = NO_RETRY
        match refusal:
            case refusals.BudgetInFlight():
                self.code = "budget_in_flight"
                message = (
                    f"Running requests hold {held} USD of the budget '{refusal.budget}' ({limit} USD, {spent} spent); "
                    f"this one fits once they settle. Try again shortly."
                )
                headers = {"Retry-After": "1"}
            case refusals.RequestExceedsBudget():
                self.code = "request_exceeds_budget"
                hint = (
                    f"Set max_tokens to {fits_tokens} or less."
                    if fits_tokens
                    else "Its prompt alone costs more; shorten it or raise the budget."
                )
                message = (
                    f"This request could cost {plain_usd(refusal.hold_usd)} USD, more than the whole budget "
                    f"'{refusal.budget}' of {limit} USD. {hint}"
                )
            case _:
                self.code = "budget_exceeded"
                message = f"The budget '{refusal.budget}' of {limit} USD is spent ({spent} USD).{reset}"
                if refusal.resets_at and refusal.hold_usd <= refusal.limit_usd > 0:  # else it will not fit then either
                    left_s = (refusal.resets_at - datetime.now(UTC)).total_seconds()
                    headers = {**NO_RETRY, "Retry-After": str(max(1, math.ceil(left_s)))}
                if refusal.spent_usd < refusal.limit_usd:
                    message = (
                        f"The budget '{refusal.budget}' of {limit} USD has {plain_usd(left(refusal))} USD left; this "
                        f"request could cost {plain_usd(refusal.hold_usd)} USD.{reset}"
                    )
                    if fits_tokens:
                        message += f" It would fit with max_tokens of {fits_tokens} or less."
        super().__init__(
            message,
            headers=headers,
            extra={
                "budget": refusal.budget,
                "limit_usd": limit,
                "spent_usd": spent,
                "held_usd": held,
                "resets_at": refusal.resets_at.isoformat() if refusal.resets_at else None,
            },
        )


def left(refusal: refusals.BudgetRefusal) -> Decimal:
    return max(Decimal(0), refusal.limit_usd - refusal.spent_usd)


class ProviderRefused(GatewayError):
    """The provider says that the request itself is wrong. The client gets the provider's words and status."""

    def __init__(
        self, message: str, *, status: int, error_type: str | None, code: str | None, param: str | None
    ) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.type = error_type or "invalid_request_error"
        self.code = code


class ProviderFailed(GatewayError):
    """The only provider that could answer has not."""

    status = 502
    type = "upstream_error"
    code = "provider_failed"


class AllModelsFailed(GatewayError):
    type = "upstream_error"
    code = "all_models_failed"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        attempts: Sequence[Mapping[str, Any]],
        retry_after_s: int | None,
        may_retry: bool = False,
    ) -> None:
        headers = {} if may_retry else dict(NO_RETRY)
        if retry_after_s is not None:
            headers["Retry-After"] = str(retry_after_s)
        super().__init__(message, headers=headers, extra={"attempts": list(attempts)})
        self.status = status


class ClientClosed(GatewayError):
    """The client closed the connection. The status is nginx's, because no standard has one."""

    status = 499
    type = "invalid_request_error"
    code = "client_closed"

    def __init__(self) -> None:
        super().__init__("The client closed the connection before its answer began.")


class LedgerUnavailable(GatewayError):
    status = 503
    type = "server_error"
    code = "ledger_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "The ledger cannot be written right now, so nothing is spent. Try again shortly.",
            headers={"Retry-After": "1"},
        )


class GatewayBusy(GatewayError):
    """A worker has as much in hand as it may. ``what`` says of what."""

    status = 503
    type = "server_error"
    code = "gateway_busy"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} Nothing was spent; try again in a second.", headers={"Retry-After": "1"})


class HoldLost(GatewayError):
    status = 503
    type = "server_error"
    code = "hold_lost"

    def __init__(self) -> None:
        super().__init__(
            "The money held for this request was resolved while it ran, so no further model was asked. Send it again.",
            headers={"Retry-After": "1"},
        )


class InternalError(GatewayError):
    code = "internal_error"
