"""THE attempt loop: the only place that retries or falls back.

A request goes through its chain step by step. What comes after a failed attempt is decided by
`routing.serving.decisions`; here it is done. Before each attempt the hold must cover it.

No database transaction is open while a provider is called. What comes out is either an answer (whole, or a stream
whose first content event has arrived) with the attempts behind it, or :class:`Failed` with the error for the client.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Generic

from accounting import facts, refusals
from accounting.ledger.records import AttemptRecord
from accounting.outcomes import Outcome
from accounting.usage import NO_USAGE, Usage
from routing.breakers import breaker
from routing.catalog import Step
from routing.exceptions import AllModelsFailed, ClientClosed, GatewayError, HoldLost, LedgerUnavailable, ProviderRefused
from routing.models import ChainKind
from routing.secrets import references, rotation
from routing.secrets.references import UnknownStore
from routing.secrets.rotation import ProviderKey
from routing.serving.admission import Admission
from routing.serving.attempts import Answer, Clock, Failed, OpenStream, Served, counted, record_attempt
from routing.serving.call import Client, Partial, Unbounded, as_bound, as_streamed
from routing.serving.decisions import (
    CHAIN_OF,
    OF_THE_KEY,
    REFUSALS,
    Decision,
    NextKey,
    NextStep,
    Position,
    RetryAfter,
    Stop,
    TurnTo,
    decide,
    words_of,
)
from routing.upstreams.answers import has_content
from routing.upstreams.base import (
    MAX_THINKING_S,
    AnswerStream,
    FailureKind,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    WholeAnswer,
)
from routing.upstreams.disclosure import NotAllowed
from routing.upstreams.registry import upstream_for
from routing.upstreams.thinking import asks_to_think, may_think

BACKOFF_S = 0.25  # before the first retry; doubles, with jitter
PROBE_WAIT_S = 10.0  # the longest that a request with no other step waits for a breaker's probe
DEADLINE_SLACK_S = 0.05  # timers may fire this early: a failure so close to the client's deadline is the deadline's
#: Failures that mean that our configuration is wrong: an operator must hear of them.
ALERTS = frozenset({FailureKind.AUTHENTICATION, FailureKind.NOT_FOUND, FailureKind.NO_KEY, FailureKind.UNPRICED})


def whole(admission: Admission, client: Client) -> Served[WholeAnswer]:
    """Call until a step gives a whole answer. Raises Failed. When its client has gone, the answer in hand is still
    waited for, as only its end says what is billed, but no further step is asked."""

    return _Cascade(admission, admission.steps, admission.call.answer_of, client, is_streamed=False).run()


def stream(admission: Admission, client: Client, failed: list[AttemptRecord]) -> Served[OpenStream]:
    """Call until a step's stream has given its first content event. Raises Failed, also when its client has left.
    Failed attempts are put on the list as they come."""
    return _streaming(admission, admission.steps, client, failed).run()


def resume(
    broken: Served[OpenStream], interrupted: AttemptRecord, partial: Partial, client: Client
) -> Served[OpenStream]:
    """Call the steps after the one whose stream broke until one goes on with the answer. Raises Failed, whose
    attempts and hold are for the books; for the client it is the interruption that counts."""
    attempts = [*broken.failed, interrupted]
    said_tokens = sum(attempt.usage.output_tokens for attempt in attempts if attempt.first_token_ms is not None)
    call = as_streamed(broken.admission.call).continuation(partial, said_tokens)
    return _streaming(broken.admission.now_asking(call), broken.rest, client, attempts).run()


def is_of_the_client(admission: Admission, error: UpstreamError) -> bool:
    """Whether the provider was given up because its client waits no longer. That says nothing of the provider: no
    client may open a breaker, which all share, by waiting for a moment only."""
    return error.kind is FailureKind.TIMEOUT and admission.call.left_s() <= DEADLINE_SLACK_S


def _is_clients_word(step: Step, error: UpstreamError) -> bool:
    """Whether the provider does not know a model that the client, and not the operator, has named: a wildcard answered
    to the name. Nobody else's requests suffer from that, and no operator has to hear of it."""
    return step.is_of_wildcard and error.kind is FailureKind.NOT_FOUND


def _is_thought(admission: Admission, step: Step, error: UpstreamError, started: Clock) -> bool:
    """Whether the request asked the model to think, and it was silent for no longer than a thinker may be."""
    if error.kind is not FailureKind.TIMEOUT or not error.consumed or started.ms() >= MAX_THINKING_S * 1000:
        return False
    return asks_to_think(admission.call.request_for(step, admission.ceiling(step).most))


def _streaming(
    admission: Admission, steps: Iterable[Step], client: Client, attempts: list[AttemptRecord]
) -> _Cascade[OpenStream]:
    call = as_streamed(admission.call)

    def ask(upstream: Upstream, request: UpstreamRequest) -> OpenStream:
        return _opened(call.stream_of(upstream, request))

    return _Cascade(admission, steps, ask, client, attempts)


def _opened(events: AnswerStream) -> OpenStream:
    """The stream, read up to its first content event. Raises UpstreamError."""
    try:
        head = []
        for event in events:
            head.append(event)
            if has_content(event):
                return OpenStream(events, head)
    except BaseException:
        events.close()
        raise
    events.close()
    raise UpstreamError(
        FailureKind.EMPTY,
        "the stream ended without content",
        http_status=events.http_status,
        provider_request_id=events.provider_request_id,
        usage=events.usage,
        consumed=True,
    )


@dataclass
class _Visit:
    """The step in hand: how often it was retried, and with which keys it was tried."""

    step: Step
    retries: int = 0
    tried_keys: set[str] = field(default_factory=set)
    key: ProviderKey | None = None  # of the last attempt
    is_bound_to_key: bool = False  # what the call goes on from is kept for the account of this key alone

    def has_another_key_for(self, error: UpstreamError) -> bool:
        if self.is_bound_to_key or error.kind not in OF_THE_KEY:
            return False
        return rotation.another_is_well(self.step.provider, self.tried_keys)


class _Cascade(Generic[Answer]):
    """One way through a chain. A stream ends with its client; a whole answer is waited for, whoever is still there."""

    def __init__(
        self,
        admission: Admission,
        steps: Iterable[Step],
        ask: Callable[[Upstream, UpstreamRequest], Answer],
        client: Client,
        attempts: list[AttemptRecord] | None = None,
        *,
        is_streamed: bool = True,
    ) -> None:
        self._admission = admission
        self._queue = list(steps)
        self._ask: Callable[[Upstream, UpstreamRequest], Answer] = ask
        self._client = client
        self._leash = client if is_streamed else None
        self._failed = [] if attempts is None else attempts
        self._turned_to: set[ChainKind] = set()
        self._is_first = not self._failed
        self._refusal: UpstreamError | None = None  # the first of what the client sent

    def run(self) -> Served[Answer]:
        if self._is_first:
            self._note_passed_over()
        if not self._queue or (self._failed and self._admission.call.left_s() <= 0):
            raise self._failure(self._all_failed(None))
        visit = _Visit(self._queue.pop(0))
        while True:
            try:
                return self._attempt(visit)
            except UpstreamError as error:
                decision = self._decide(visit, error)
                self._failed[-1] = replace(self._failed[-1], next=words_of(decision))
                match decision:
                    case NextKey():
                        continue
                    case RetryAfter(wait_s):
                        visit.retries += 1
                        time.sleep(wait_s)
                        continue
                    case TurnTo(chain):
                        self._turned_to.add(chain)
                        self._queue = list(self._admission.chain(chain))
                    case Stop(is_refusal):
                        refusal = self._refusal if is_refusal else None
                        raise self._failure(_refused(refusal) if refusal else self._all_failed(error)) from None
                    case NextStep():
                        pass
            visit = _Visit(self._queue.pop(0))
            self._is_first = False

    def _decide(self, visit: _Visit, error: UpstreamError) -> Decision:
        step, is_refusal = visit.step, error.kind in REFUSALS
        if is_refusal and self._admission.call.ask_otherwise(step):
            self._queue.insert(0, step)  # once more, in other words
        chains_left = {
            chain
            for kind, chain in CHAIN_OF.items()
            if kind is error.kind and chain not in self._turned_to and self._admission.chain(chain)
        }
        if _is_clients_word(step, error) and self._refusal is None:
            self._refusal = error
        position = Position(
            is_first=self._is_first,
            is_adapted=self._admission.call.is_adapted,
            was_refused=self._refusal is not None,
            has_steps_left=bool(self._queue),
            chains_left=chains_left,
            has_keys_left=visit.has_another_key_for(error),
            retries_left=step.provider.retries - visit.retries,
            backoff_s=BACKOFF_S * 2**visit.retries * random.uniform(0.75, 1.25),  # noqa: S311  jitter, not a secret
            is_breaker_open=breaker.is_open(step),
            left_s=self._admission.call.left_s(),
        )
        if error.kind in REFUSALS and not position.is_adapted and self._refusal is None:
            self._refusal = error
        return decide(error, position)

    def _attempt(self, visit: _Visit) -> Served[Answer]:
        """Raises UpstreamError, which is on record then, or Failed when nobody else is to be asked."""
        if self._client.is_gone:  # while another step was asked, or we waited for a retry
            raise self._failure(ClientClosed())
        step, started = visit.step, Clock()
        try:
            request = self._request(visit)
            self._cover(step, started)
            answer = self._ask(upstream_for(step.deployment.litellm_provider), request)
        except UpstreamError as error:
            if self._leash is not None:
                self._leash.on_gone(None)
                if self._client.is_gone:
                    raise self._client_left(step, started, error) from error
            if visit.key is not None:
                rotation.failed(step.provider, visit.key, error)
            is_of_client = (
                is_of_the_client(self._admission, error)
                or _is_clients_word(step, error)
                or _is_thought(self._admission, step, error, started)
            )
            if not visit.has_another_key_for(error) and not is_of_client:
                breaker.failed(step, error, self._admission.key.id)
            self._note(visit, started, error)
            raise
        else:
            breaker.succeeded(step, self._admission.key.id)
        finally:
            breaker.probe_ended(step)  # whatever else ended it: a probe without a result would keep the others waiting
        first_token_ms = None if self._leash is None else started.ms()
        rest, reference = tuple(self._queue), visit.key.reference if visit.key is not None else ""
        return Served(answer, step, self._admission, self._failed, started, first_token_ms, rest, reference)

    def _cover(self, step: Step, started: Clock) -> None:
        try:
            self._admission = self._admission.cover(step, self._failed)
        except refusals.Unpriced as refusal:
            raise UpstreamError(FailureKind.UNPRICED, f"no price is known for {refusal.model}") from None
        except Unbounded as unbounded:
            raise UpstreamError(FailureKind.UNBOUNDED, f"'{unbounded.param}': {unbounded}") from None
        except refusals.BudgetRefusal as refusal:
            raise UpstreamError(FailureKind.NO_ROOM, f"no room in the budget '{refusal.budget}'") from None
        except refusals.HoldLost:
            lost = record_attempt(
                self._admission, step, started, Outcome.HOLD_LOST, NO_USAGE, http_status=None, provider_request_id=None
            )
            raise Failed(HoldLost(), [*self._failed, lost], self._admission) from None
        except refusals.Refusal as refusal:
            raise self._failure(LedgerUnavailable()) from refusal

    def _request(self, visit: _Visit) -> UpstreamRequest:
        """The attempt's request. Raises UpstreamError when the deployment cannot be called at all."""
        step = visit.step
        visit.key = None
        try:
            bound = as_bound(self._admission.call)
            prefers = None if bound is None else bound.prefers_key
            key = rotation.choose(step.provider, visit.tried_keys, self._admission.chance, prefers=prefers)
        except (UnknownStore, NotAllowed) as error:
            raise UpstreamError(FailureKind.NO_KEY, str(error)) from None
        if key is None:
            problems = (references.refused(each) or f"{each} is empty" for each in step.provider.key_references)
            raise UpstreamError(FailureKind.NO_KEY, f"the provider's key is not there: {'; '.join(problems)}")
        visit.key = key
        visit.is_bound_to_key = prefers is not None and prefers(key.secret)
        visit.tried_keys.add(key.reference)
        self._pass_breaker(step)
        body = self._admission.call.request_for(step, self._admission.ceiling(step).most)
        timeouts = step.deployment.timeouts
        if may_think(step.deployment, body):
            timeouts = timeouts.for_a_thinker()
        return UpstreamRequest(
            deployment=step.deployment,
            api_key=key.secret,
            body=body,
            timeouts=timeouts.within(self._admission.call.left_s()),
            leash=self._leash,
        )

    def _pass_breaker(self, step: Step) -> None:
        """Raises UpstreamError when the deployment is not to be called now. With no other step left that is a refusal
        of the request, and the provider may be well again: so it waits for the probe."""
        if breaker.lets_through(step):
            return
        if not self._queue:
            wait_s = min(PROBE_WAIT_S, step.deployment.timeouts.first_token_s, self._admission.call.left_s())
            is_admitted = breaker.admits(step, wait_s)
            if self._client.is_gone:
                raise self._failure(ClientClosed())
            if is_admitted:
                return
        raise UpstreamError(FailureKind.BREAKER_OPEN, "the breaker is open", retry_after_s=breaker.open_s(step))

    def _client_left(self, step: Step, started: Clock, error: UpstreamError) -> Failed:
        """The provider was asked, for nobody."""
        left = record_attempt(
            self._admission,
            step,
            started,
            Outcome.CLIENT_CLOSED,
            self._consumed(step, error),
            http_status=None,
            provider_request_id=error.provider_request_id,
        )
        return Failed(ClientClosed(), [*self._failed, left], self._admission)

    def _consumed(self, step: Step, error: UpstreamError) -> Usage:
        """What the failed attempt may be billed for."""
        if not error.consumed:
            return error.usage or NO_USAGE
        return counted(error.usage, lambda: self._admission.call.estimate("", step))

    def _note(self, visit: _Visit, started: Clock, error: UpstreamError) -> None:
        step = visit.step
        is_alert = error.kind in ALERTS and not _is_clients_word(step, error)
        self._failed.append(
            record_attempt(
                self._admission,
                step,
                started,
                Outcome(error.kind),
                self._consumed(step, error),
                http_status=error.http_status,
                provider_request_id=error.provider_request_id,
                error=error.message,
                key_reference=visit.key.reference if visit.key is not None else "",
            )
        )
        facts.attempt_failed(
            facts.AttemptFailed(
                request_id=self._admission.request_id,
                alias=step.alias,
                provider=step.provider.name,
                model=step.deployment.model,
                kind=error.kind.value,
                key_reference=None if visit.key is None else visit.key.reference,
                status=error.http_status,
                alert=is_alert,
            )
        )

    def _note_passed_over(self) -> None:
        """What admission has left out before the step that it found room for."""
        for step, error in self._admission.passed_over:
            self._note(_Visit(step), Clock(), error)
            self._failed[-1] = replace(self._failed[-1], next=words_of(NextStep()))
            self._is_first = False

    def _failure(self, error: GatewayError) -> Failed:
        return Failed(error, self._failed, self._admission)

    def _all_failed(self, last: UpstreamError | None) -> GatewayError:
        kinds = {attempt.outcome for attempt in self._failed}
        status, retry_after_s, may_retry = 502, None, False
        if kinds == {FailureKind.TIMEOUT.value}:
            status = 504
        elif kinds == {FailureKind.RATE_LIMITED.value}:
            status = 429
            retry_after_s = max(1, round((last.retry_after_s if last else None) or 1))
        if last is not None and last.kind is FailureKind.BREAKER_OPEN:
            retry_after_s, may_retry = max(1, math.ceil(last.retry_after_s or 0)), True
        attempts = [
            {"alias": a.alias, "provider": a.provider, "kind": a.outcome, "status": a.http_status} for a in self._failed
        ]
        tried = "; ".join(f"{a.alias} at {a.provider}: {a.outcome}" for a in self._failed)
        return AllModelsFailed(
            f"All models failed for '{self._admission.call.alias}'. {tried}.",
            status=status,
            attempts=attempts,
            retry_after_s=retry_after_s,
            may_retry=may_retry,
        )


def _refused(error: UpstreamError) -> GatewayError:
    return ProviderRefused(
        error.message,
        # The model is one that the client has named (a wildcard answered), so its status is the client's, too.
        status=404 if error.kind is FailureKind.NOT_FOUND else error.client_status,
        error_type=error.error_type,
        code=error.code,
        param=error.param,
    )
