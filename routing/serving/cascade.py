"""THE attempt loop: the only place that retries or falls back.

A request goes through its chain step by step. A step is retried when its failure may pass (429, 5xx, a refused
connection), left when it will not (timeouts, wrong keys, malformed answers), and the whole chain is left when the
provider says that the *request* is wrong. Before each attempt the hold must cover it.

No database transaction is open while a provider is called. What comes out is either an answer (whole, or a stream
whose first content event has arrived) with the attempts behind it, or :class:`Failed` with the error for the client.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, TypeVar

from accounting import refusals
from accounting.ledger.records import ANSWERED, AttemptRecord
from accounting.pricing import cost_usd
from accounting.usage import NO_USAGE, Usage
from routing.api.disconnects import ClientConnection
from routing.breakers import breaker
from routing.catalog import Step
from routing.endpoints.chat import continuing as rescue
from routing.endpoints.chat.continuing import Continued, Partial
from routing.exceptions import AllModelsFailed, ClientClosed, GatewayError, ProviderRefused
from routing.models import ChainKind
from routing.secrets import rotation as provider_keys
from routing.secrets.rotation import ProviderKey
from routing.serving.admission import Admission
from routing.upstreams.answers import has_content
from routing.upstreams.base import (
    AnswerStream,
    FailureKind,
    Json,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    WholeAnswer,
)
from routing.upstreams.estimate import estimated_usage
from routing.upstreams.registry import upstream_for

log = logging.getLogger("gateway.cascade")

MAX_RETRY_AFTER_S = 5.0  # a provider that asks for more is left for the next step
BACKOFF_S = 0.25  # before the first retry; doubles, with jitter
REFUSED = frozenset({FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY})
#: Failures that mean that our configuration is wrong: an operator must hear of them.
ALERTS = frozenset({FailureKind.AUTHENTICATION, FailureKind.NOT_FOUND, FailureKind.NO_KEY, FailureKind.UNPRICED})

TIMER_S = 0.05  # so much too early may a time limit end: timers are not exact

CLIENT_CLOSED = "client_closed"  # the outcome of a stream whose reader went away

Answer = TypeVar("Answer")


@dataclass
class OpenStream:
    """A stream whose first content event has arrived. ``head`` are the events up to and including it."""

    stream: AnswerStream
    head: list[Json]
    body: Mapping[str, Any]  # what the provider was asked, for an estimate should it report no usage


@dataclass
class Clock:
    """When an attempt, or a request, began; both clocks, as durations must not jump with the wall's."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    monotonic: float = field(default_factory=time.monotonic)

    def ms(self) -> int:
        return round((time.monotonic() - self.monotonic) * 1000)


@dataclass
class Served(Generic[Answer]):
    """An answer, the step that gave it, and the failed attempts before it. The serving attempt is recorded by
    whoever knows its usage: at once for a whole answer, at the end for a stream."""

    answer: Answer
    step: Step
    admission: Admission
    failed: list[AttemptRecord]
    started: Clock
    first_token_ms: int | None
    rest: tuple[Step, ...]  # the steps that were not needed

    @property
    def is_fallback(self) -> bool:
        return self.step.alias != self.admission.chat.alias or bool(
            self.failed and any(not _same_deployment(a, self.step) for a in self.failed)
        )

    def record(self, usage: Usage, http_status: int | None, provider_request_id: str | None, *,
               outcome: str = ANSWERED, error: str = "") -> AttemptRecord:  # fmt: skip
        return record_attempt(
            self.admission, self.step, self.started, outcome, usage,
            http_status=http_status, provider_request_id=provider_request_id, error=error,
            first_token_ms=self.first_token_ms,
        )  # fmt: skip


class Failed(Exception):
    """No step answered. ``error`` is for the client, ``attempts`` for the books, ``admission`` has the last hold."""

    def __init__(self, error: GatewayError, attempts: list[AttemptRecord], admission: Admission) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts
        self.admission = admission


def whole(admission: Admission) -> Served[WholeAnswer]:
    """Call until a step gives a whole answer. Raises Failed."""

    def call(upstream: Upstream, request: UpstreamRequest, _: Clock) -> tuple[WholeAnswer, None]:
        return upstream.whole(request), None

    return _Cascade(admission, admission.steps, call).run()


def stream(admission: Admission, client: ClientConnection) -> Served[OpenStream]:
    """Call until a step's stream has given its first content event. Raises Failed, also when its client has left."""

    def call(upstream: Upstream, request: UpstreamRequest, started: Clock) -> tuple[OpenStream, int]:
        return _opened(upstream.stream(request), request.body), started.ms()

    return _Cascade(admission, admission.steps, call, client).run()


def resume(
    broken: Served[OpenStream], interrupted: AttemptRecord, partial: Partial, client: ClientConnection
) -> Served[OpenStream]:
    """Call the steps after the one whose stream broke until one goes on with the answer. Raises Failed, whose
    attempts and hold are for the books; for the caller it is the interruption that counts."""
    cascade: _Cascade[OpenStream]

    def call(upstream: Upstream, request: UpstreamRequest, started: Clock) -> tuple[OpenStream, int]:
        events = upstream.stream(request)
        return _opened(Continued(events, partial, prefilled=cascade.is_prefilling), request.body), started.ms()

    # What the caller has been sent is part of the prompt now, and the hold must cover it.
    more_tokens = rescue.further_input_tokens(partial.text)
    admission = replace(broken.admission, input_ceiling_tokens=broken.admission.input_ceiling_tokens + more_tokens)
    cascade = _Cascade(admission, broken.rest, call, client, partial)
    cascade.failed = [*broken.failed, interrupted]
    return cascade.run()


def _opened(events: AnswerStream, body: Mapping[str, Any]) -> OpenStream:
    """The stream, read up to its first content event. Raises UpstreamError."""
    try:
        head = []
        for event in events:
            head.append(event)
            if has_content(event):
                return OpenStream(events, head, body)
    except BaseException:
        events.close()
        raise
    events.close()
    raise UpstreamError(FailureKind.EMPTY, "the stream ended without content", http_status=events.http_status)


class _Cascade(Generic[Answer]):
    def __init__(
        self,
        admission: Admission,
        steps: tuple[Step, ...],
        call: Callable[[Upstream, UpstreamRequest, Clock], tuple[Answer, int | None]],
        client: ClientConnection | None = None,
        partial: Partial | None = None,
    ) -> None:
        self.admission = admission
        self.queue = list(steps)
        self.call = call
        self.client = client  # None: the answer is waited for, whoever is still there
        self.partial = partial  # what the caller has of an answer that these steps are to go on with
        self.is_prefilling = False  # in the attempt in hand
        self.failed: list[AttemptRecord] = []
        self.last_error: UpstreamError | None = None
        self.incapable: UpstreamError | None = None  # the first step's that could not take the request
        self.tried_keys: set[str] = set()  # of the step in hand
        self.key: ProviderKey | None = None  # of the attempt in hand

    def run(self) -> Served[Answer]:
        steps = self._steps()
        for step in steps:
            if self.failed and self.admission.chat.left_s() <= 0:
                break  # the client has said how long it waits
            self.tried_keys = set()
            for attempt in range(1 + step.provider.retries):
                served = self._with_each_key(step)
                if served is not None:
                    return served
                assert self.last_error is not None
                wait_s = _wait_before_retry_s(self.last_error, attempt)
                if wait_s is None or breaker.is_open(step) or wait_s >= self.admission.chat.left_s():
                    break
                if attempt < step.provider.retries:
                    time.sleep(wait_s)
        error = self._all_failed() if self.incapable is None else self._refused(self.incapable)
        raise Failed(error, self.failed, self.admission)

    def _with_each_key(self, step: Step) -> Served[Answer] | None:
        """An attempt, and further ones at once while the failure is the key's and another key is well."""
        while True:
            served = self._attempt(step)
            if served is not None or not self._is_for_another_key(step) or self.admission.chat.left_s() <= 0:
                return served

    def _is_for_another_key(self, step: Step) -> bool:
        assert self.last_error is not None
        of_the_key = self.last_error.kind in (FailureKind.RATE_LIMITED, FailureKind.AUTHENTICATION)
        return of_the_key and provider_keys.another_is_well(step.provider, self.tried_keys)

    def _steps(self) -> Iterator[Step]:
        """The chain, or what a refusal turns it into: the separate chain for its kind, each taken once."""
        turned: set[ChainKind] = set()
        while self.queue:
            step = self.queue.pop(0)
            if self.partial is not None:
                yield from self._ways_to_continue(step, self.partial)
                continue
            yield step
            kind = self.last_error.kind if self.last_error else None
            if kind in REFUSED:
                chain = {
                    FailureKind.CONTEXT_WINDOW: ChainKind.CONTEXT_WINDOW,
                    FailureKind.CONTENT_POLICY: ChainKind.CONTENT_POLICY,
                }.get(kind)
                if chain is not None and chain not in turned and self.admission.chain(chain):
                    turned.add(chain)
                    self.queue = list(self.admission.chain(chain))
                elif not turned or not self.queue:
                    assert self.last_error is not None
                    raise Failed(self._refused(self.incapable or self.last_error), self.failed, self.admission)

    def _ways_to_continue(self, step: Step, partial: Partial) -> Iterator[Step]:
        """The step, and once more if it refused our way of asking: a refusal is not the client's fault here, and must
        never mask that the model can go on when it is asked another way."""
        self.is_prefilling = bool(partial.text) and rescue.can_prefill(step.deployment)
        yield step
        if self.is_prefilling and self.last_error is not None and self.last_error.kind in REFUSED:
            rescue.learn_refusal(step.deployment)
            self.is_prefilling = False
            yield step

    def _attempt(self, step: Step) -> Served[Answer] | None:
        if self.client is not None and self.client.is_gone:  # while we waited for a retry
            raise Failed(ClientClosed(), self.failed, self.admission)
        started = Clock()
        try:
            request = self._request(step)
            self._cover(step)
            answer, first_token_ms = self.call(upstream_for(step.deployment.litellm_provider), request, started)
        except UpstreamError as error:
            if self.client is not None:
                self.client.hold(None)
                if self.client.is_gone:
                    raise self._client_left(step, started) from error
            self.last_error = error
            if error.kind is FailureKind.CAPABILITY:
                self.incapable = self.incapable or error
            if self.key is not None:
                provider_keys.failed(step.provider, self.key, error)
            if not self._is_for_another_key(step) and not is_of_the_client(self.admission, error):
                breaker.failed(step, error)
            self._note(step, started, error)
            return None
        else:
            breaker.succeeded(step)
        finally:
            breaker.abandoned(step)  # whatever else ended it: a probe without a result would keep the others waiting
        return Served(answer, step, self.admission, self.failed, started, first_token_ms, tuple(self.queue))

    def _cover(self, step: Step) -> None:
        spent = sum((a.cost_usd for a in self.failed if a.cost_usd is not None), Decimal(0))
        try:
            self.admission = self.admission.cover(step, spent)
        except refusals.Unpriced as refusal:
            raise UpstreamError(FailureKind.UNPRICED, f"no price is known for {refusal.model}") from None
        except refusals.BudgetRefusal as refusal:
            raise UpstreamError(FailureKind.UNPRICED, f"no room in the budget '{refusal.budget}'") from None
        except refusals.Refusal as refusal:
            from routing.exceptions import LedgerUnavailable

            raise Failed(LedgerUnavailable(), self.failed, self.admission) from refusal

    def _request(self, step: Step) -> UpstreamRequest:
        """The attempt's request. Raises UpstreamError when the deployment cannot be called at all."""
        self.key = provider_keys.choose(step.provider, self.tried_keys)
        if self.key is None:
            references = ", ".join(step.provider.key_references)
            raise UpstreamError(FailureKind.NO_KEY, f"the provider's key ({references}) is not there")
        self.tried_keys.add(self.key.reference)
        if not breaker.lets_through(step):
            raise UpstreamError(FailureKind.BREAKER_OPEN, "the breaker is open")
        body = self._body(step)
        return UpstreamRequest(
            deployment=step.deployment,
            api_key=self.key.secret,
            body=body,
            timeouts=step.deployment.timeouts.within(self.admission.chat.left_s()),
            request_id=self.admission.request_id,
            leash=self.client,
        )

    def _body(self, step: Step) -> Json:
        """What the step is asked: the client's request, with an output cap in any case."""
        body = dict(self.admission.chat.body)
        if self.admission.chat.output_cap_tokens is None:
            # The hold counts with this cap, so the provider must know it.
            name = "max_completion_tokens" if step.deployment.litellm_provider in ("openai", "azure") else "max_tokens"
            body[name] = self.admission.ceiling(step).output_cap_tokens
        if self.partial is None:
            return body
        said_tokens = sum(a.usage.output_tokens for a in self.failed if a.first_token_ms is not None)
        return rescue.continuation(body, self.partial.text, said_tokens, prefill=self.is_prefilling)

    def _client_left(self, step: Step, started: Clock) -> Failed:
        """The provider was asked, for nobody: what it may bill is estimated, as for every stream that is cut."""
        usage = estimated_usage(self._body(step), "", step.deployment.model)
        left = record_attempt(
            self.admission, step, started, CLIENT_CLOSED, usage, http_status=None, provider_request_id=None
        )
        return Failed(ClientClosed(), [*self.failed, left], self.admission)

    def _note(self, step: Step, started: Clock, error: UpstreamError) -> None:
        self.failed.append(
            record_attempt(
                self.admission,
                step,
                started,
                error.kind.value,
                error.usage or NO_USAGE,
                http_status=error.http_status,
                provider_request_id=error.provider_request_id,
                error=error.message,
            )
        )
        log.log(
            logging.ERROR if error.kind in ALERTS else logging.WARNING,
            "attempt failed",
            extra={
                "request_id": self.admission.request_id,
                "alias": step.alias,
                "provider": step.provider.name,
                "model": step.deployment.model,
                "kind": error.kind.value,
                "key_reference": None if self.key is None else self.key.reference,
                "status": error.http_status,
                "alert": error.kind in ALERTS,
            },
        )

    def _refused(self, error: UpstreamError) -> GatewayError:
        return ProviderRefused(
            error.message,
            status=error.http_status or 400,
            error_type=error.error_type,
            code=error.code,
            param=error.param,
        )

    def _all_failed(self) -> GatewayError:
        kinds = {attempt.outcome for attempt in self.failed}
        status, retry_after_s = 502, None
        if kinds == {FailureKind.TIMEOUT.value}:
            status = 504
        elif kinds == {FailureKind.RATE_LIMITED.value}:
            status = 429
            assert self.last_error is not None
            retry_after_s = max(1, round(self.last_error.retry_after_s or 1))
        attempts = [
            {"alias": a.alias, "provider": a.provider, "kind": a.outcome, "status": a.http_status} for a in self.failed
        ]
        tried = "; ".join(f"{a.alias} at {a.provider}: {a.outcome}" for a in self.failed)
        return AllModelsFailed(
            f"All models failed for '{self.admission.chat.alias}'. {tried}.",
            status=status,
            attempts=attempts,
            retry_after_s=retry_after_s,
        )


def record_attempt(
    admission: Admission,
    step: Step,
    started: Clock,
    outcome: str,
    usage: Usage,
    *,
    http_status: int | None,
    provider_request_id: str | None,
    error: str = "",
    first_token_ms: int | None = None,
) -> AttemptRecord:
    """The attempt as the books keep it, at the price that was in force when the request was admitted."""
    price = admission.ceiling(step).price
    if usage == NO_USAGE:
        cost: Decimal | None = Decimal(0)
    else:
        cost = None if price is None else cost_usd(usage, price)
    return AttemptRecord(
        alias=step.alias,
        provider=step.provider.name,
        model=step.deployment.model,
        outcome=outcome,
        http_status=http_status,
        error=error.replace("\x00", "").encode("utf-8", "replace").decode("utf-8"),
        started_at=started.at,
        duration_ms=started.ms(),
        first_token_ms=first_token_ms,
        usage=usage,
        cost_usd=cost,
        price=price,
        provider_request_id=provider_request_id,
    )


def is_of_the_client(admission: Admission, error: UpstreamError) -> bool:
    """Whether the provider was given up because its client waits no longer. That says nothing of the provider: no
    client may open a breaker, which all share, by waiting for a moment only."""
    return error.kind is FailureKind.TIMEOUT and admission.chat.left_s() <= TIMER_S


def _wait_before_retry_s(error: UpstreamError, attempt: int) -> float | None:
    """How long to wait before the same deployment is tried again; None: go to the next step."""
    if not error.retryable:
        return None
    if error.retry_after_s is not None:
        return error.retry_after_s if error.retry_after_s <= MAX_RETRY_AFTER_S else None
    return float(BACKOFF_S * 2**attempt * random.uniform(0.75, 1.25))  # noqa: S311  jitter, not a secret


def _same_deployment(attempt: AttemptRecord, step: Step) -> bool:
    return (attempt.provider, attempt.model) == (step.provider.name, step.deployment.model)
