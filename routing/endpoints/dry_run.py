"""``POST /v1/dry-run``: what would become of a request, without sending or writing anything.

The request is read by its own endpoint's ``parse``, admitted by the same admission, and decided by the same ledger as
if it were sent. docs/dry-run.md says what is answered.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, Final, cast

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import Resolver404, ResolverMatch, resolve
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting import json_text
from accounting.budgets import Balance, BudgetRule
from accounting.keys import Key
from accounting.ledger.rehearsal import Books
from accounting.money import plain_usd
from routing import catalog
from routing.api import places
from routing.api.authentication import Caller, KeyAuthentication
from routing.api.body import parse_json, read_body
from routing.api.headers import TIMEOUT_VARIABLE, parse_timeout_s, request_id
from routing.endpoints.conversations import affinity_of
from routing.endpoints.spending import SpendingView
from routing.exceptions import GatewayError, InvalidRequest
from routing.serving.call import Call
from routing.serving.callers import identify_in
from routing.serving.plan import Plan, PlannedStep, plan
from routing.upstreams.base import Json
from routing.upstreams.kinds import PATHS, kind_of
from routing.upstreams.price_map import mode_of

#: Of the WSGI environment: what speaks of the outer request's body.
_OF_THE_BODY: Final = frozenset({"wsgi.input", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"})
CHAT: Final = "/v1/chat/completions"


class DryRunView(APIView):
    authentication_classes = (KeyAuthentication,)

    def post(self, request: Request, endpoint: str = "") -> HttpResponse:
        """``endpoint``: the path behind ``/v1/dry-run/``, with the body that is sent there, whatever its format."""
        place = places.take(request._request, cast(Key, request.auth))
        try:
            catalog.fresh()  # no hold proves here that the configuration is current
            secret = cast(Caller, request.user).secret
            key = identify_in(catalog.current(), secret)
            asked, match = _addressed(request._request, endpoint) if endpoint else _read(request._request, key)
            return JsonResponse(_answer(asked, match, secret))
        finally:
            place.free()


def _answer(asked: HttpRequest, match: ResolverMatch, secret: str | None) -> Json:
    rendering = match.func.initkwargs["rendering"]  # type: ignore[attr-defined]  # DRF's, of a SpendingView
    call: Call | None = None
    found: Plan | None = None
    refusal: GatewayError | None
    try:
        timeout_s = parse_timeout_s(asked.META.get(TIMEOUT_VARIABLE))
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        call = cast(Call, match.func.initkwargs["parse"](asked, match.kwargs, deadline))  # type: ignore[attr-defined]
    except GatewayError as error:
        refusal = error
    else:
        found = plan(call, secret, request_id(asked), affinity_of(call, asked.META))
        refusal = found.refusal
    answer: Json = {
        "object": "dry_run",
        "endpoint": asked.path_info,
        "model": call.alias if call else None,
        "admitted": refusal is None,
        "hold_usd": _usd(found.hold.hold_usd) if found and found.hold else None,
        "status": 200 if refusal is None else refusal.status,
        "refusal": None if refusal is None else _error_object(refusal, rendering, asked),
        "refusal_headers": {} if refusal is None else refusal.headers,
        "key": None,
        "steps": [],
        "budgets": [],
        "rate_limits": {},
    }
    if found is not None:
        answer["key"] = found.key.name
        answer["steps"] = [_step(place, each, rendering, asked) for place, each in enumerate(found.steps, start=1)]
        answer["budgets"] = [_budget(rule, balance, found.steps) for rule, balance in found.books.balances.items()]
        answer["rate_limits"] = _rate_limits(found.key, found.books)
    return answer


def _error_object(error: GatewayError, rendering: Any, asked: HttpRequest) -> Any:
    """As the endpoint itself would write it."""
    envelope = getattr(rendering, "envelope", None)
    body = error.envelope() if envelope is None else envelope(error, request_id(asked))
    return body["error"]


def _step(position: int, planned: PlannedStep, rendering: Any, asked: HttpRequest) -> Json:
    step, most = planned.step, planned.ceiling.most
    unbounded = planned.ceiling.unbounded
    return {
        "position": position,
        "alias": step.alias,
        "provider": step.provider.name,
        "model": step.deployment.model,
        "kind": kind_of(step.deployment.litellm_provider, step.deployment.model),
        "key_reference": planned.key_reference,
        "key_problem": planned.key_problem,
        "breaker": planned.breaker,
        "breaker_open_s": round(planned.breaker_open_s, 3),
        "hold_usd": _usd(planned.ceiling.hold_usd),
        "quantities": {
            "input_tokens": most.input_tokens,
            "output_cap_tokens": most.output_cap_tokens,
            "output_cap_of": most.capped_by.value,
            "answers": most.answers,
            "predicted_tokens": most.predicted_tokens,
            "tier": most.tier,
            "tiers": sorted(most.tiers),
            "units": {name: plain_usd(count) for name, count in most.units.items()},
        },
        "unbounded": None if unbounded is None else {"param": unbounded.param, "reason": str(unbounded)},
        "budgets": [rule.name for rule in planned.budgets],
        "refusal": None if planned.refusal is None else _error_object(planned.refusal, rendering, asked),
    }


def _budget(rule: BudgetRule, balance: Balance, steps: tuple[PlannedStep, ...]) -> Json:
    available_usd = max(Decimal(0), balance.limit_usd - balance.posted_usd - balance.held_usd)
    return {
        "budget": balance.budget,
        "scope": rule.scope,
        "scope_value": rule.scope_value,
        "mode": balance.mode,
        "period": rule.period,
        "limit_usd": plain_usd(balance.limit_usd),
        "posted_usd": plain_usd(balance.posted_usd),
        "held_usd": plain_usd(balance.held_usd),
        "available_usd": plain_usd(available_usd),
        "resets_at": balance.resets_at.isoformat() if balance.resets_at else None,
        "steps": [place for place, each in enumerate(steps, start=1) if rule in each.budgets],
    }


def _rate_limits(key: Key, books: Books) -> Json:
    """The key's limits, and what it has used of them; without this request."""
    if books.use is None:
        return {}
    named = (
        ("requests_per_minute", key.limits.requests_per_minute, books.use.requests),
        ("tokens_per_minute", key.limits.tokens_per_minute, books.use.tokens),
        ("concurrent_requests", key.limits.concurrent_requests, books.use.running),
    )
    limits = {name: {"limit": most, "used": used} for name, most, used in named if most is not None}
    return {**limits, "reset_s": 60 - books.now.second}


def _usd(amount: Decimal | None) -> str | None:
    return None if amount is None else plain_usd(amount)


# --- which endpoint is meant ------------------------------------------------------------------------------------------


def _addressed(request: HttpRequest, endpoint: str) -> tuple[HttpRequest, ResolverMatch]:
    """The request as it came: only the path says that nothing is to be sent."""
    request.path_info = f"/{endpoint.strip().removeprefix('POST').strip().lstrip('/')}"
    return request, _match(request.path_info)


def _read(request: HttpRequest, key: Key) -> tuple[HttpRequest, ResolverMatch]:
    """``{"endpoint": …, "body": {…}}``, or the body alone, whose form says which endpoint it is for."""
    raw = read_body(request, settings.GATEWAY_MAX_BODY_BYTES)
    said = parse_json(raw)
    if not isinstance(said, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if "endpoint" not in said:
        return _with_body(request, _path_of(said, request, key), raw)
    endpoint, body = said["endpoint"], said.get("body")
    if not isinstance(endpoint, str) or not endpoint:
        raise InvalidRequest(f"'endpoint' must be a path, such as '{CHAT}'.", param="endpoint")
    if not isinstance(body, dict):
        raise InvalidRequest("'body' must be the JSON object that the endpoint takes.", param="body")
    return _with_body(request, endpoint, json_text.dumps(body))


def _with_body(request: HttpRequest, endpoint: str, raw: bytes) -> tuple[HttpRequest, ResolverMatch]:
    environ = {name: value for name, value in request.META.items() if name not in _OF_THE_BODY | {places.META}}
    environ |= {"wsgi.input": io.BytesIO(raw), "CONTENT_LENGTH": str(len(raw)), "CONTENT_TYPE": "application/json"}
    return _addressed(WSGIRequest(environ), endpoint)


def _match(path: str) -> ResolverMatch:
    """Only what spends can be rehearsed. Raises InvalidRequest."""
    try:
        match = resolve(path)
    except Resolver404:
        match = None
    if match is None or getattr(match.func, "cls", None) is not SpendingView:
        known = dict.fromkeys(path for paths in PATHS.values() for path in paths)
        raise InvalidRequest(
            f"No endpoint that spends is at '{path[:100]}'. Those that do: {', '.join(known)}.", param="endpoint"
        )
    return match


def _path_of(body: Mapping[str, Any], request: HttpRequest, key: Key) -> str:
    """By what the body has, and where that leaves a choice by what its model is for; else a chat."""
    if "messages" in body:
        is_anthropic = "system" in body or "HTTP_ANTHROPIC_VERSION" in request.META
        return "/v1/messages" if is_anthropic else CHAT
    name = body.get("model")
    alias = None
    with suppress(GatewayError):  # what is not for this key is as if it were not there
        alias = catalog.current().alias_for(key, name) if isinstance(name, str) else None
    models = [(step.deployment.litellm_provider, step.deployment.model) for step in (alias.own if alias else ())]
    kinds = [kind_of(*model) for model in models]
    own = next((PATHS[kind] for kind in kinds if kind is not None and kind in PATHS), ())
    if own and CHAT not in own:
        return own[0]
    if "documents" in body:
        return "/v1/rerank"
    if "voice" in body:
        return "/v1/audio/speech"
    if "input" in body:
        return "/v1/responses"
    if "prompt" not in body:
        return CHAT
    makes_pictures = any(mode_of(*model).startswith("image") for model in models)  # though it may chat, too
    return "/v1/images/generations" if makes_pictures else "/v1/completions"
