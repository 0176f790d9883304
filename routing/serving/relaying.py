"""SSE out: relays a stream whose first content event has arrived, captures its usage, settles it before its end.

The last byte (``data: [DONE]``) is sent only after the ledger's commit. A client that vanishes closes the generator
(the server calls ``close()``, which raises GeneratorExit at the ``yield``), or is noticed by
``routing.api.disconnects``: the provider's connection is closed and what was received is charged. A stream that breaks
off is continued by the chain's next step when that can be done honestly (`routing.endpoints.chat.continuing`).

Format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import chain

from accounting.ledger.records import ANSWERED, AttemptRecord
from accounting.usage import NO_USAGE, Usage
from routing.api.disconnects import ClientConnection
from routing.breakers import breaker
from routing.endpoints.chat.continuing import Partial
from routing.serving import books, cascade
from routing.serving.attempts import CLIENT_CLOSED, Clock, Failed, OpenStream, Served
from routing.serving.cascade import REFUSED
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.estimate import estimated_usage

log = logging.getLogger("gateway.streaming")

DONE = b"data: [DONE]\n\n"
_as_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for every event


class EventStream:
    """The response's iterable. Settles exactly once, however it ends, even when nobody ever iterates it."""

    def __init__(self, served: Served[OpenStream], began: Clock, client: ClientConnection) -> None:
        self._served = served
        self._began = began
        self._client = client
        self._received: list[str] = []  # text of all choices, for an estimate should no usage come
        self._settled = False
        # What the caller has of the answer, while there is somebody who could go on with it.
        self._partial = Partial() if _can_be_rescued(served) else None
        self._is_rescued = False
        self._given_up: Failed | None = None  # no step could go on
        self._alias = served.step.alias  # of every chunk: one answer has one model
        self._events = self._relay()
        # A silent provider must not be kept waiting for a client that has left: closing wakes our reader.
        client.on_gone(self._close_upstream)

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Called by the server at the end of every response, and when its client is gone."""
        self._events.close()
        # A generator that was never started runs no `finally`: the client left before the first event.
        self._end(CLIENT_CLOSED, 499, "client_closed")

    def _close_upstream(self) -> None:
        self._served.answer.stream.close()  # of the step that is served now, which is not always the first

    def _relay(self) -> Generator[bytes, None, None]:
        outcome, status, code = CLIENT_CLOSED, 499, "client_closed"
        try:
            final: list[bytes] = []
            try:
                for event in self._all():
                    line = self._render(event)
                    if line is not None:
                        yield line
            except UpstreamError as error:
                if self._client.is_gone:
                    return  # not the provider broke off: we did
                outcome, status, code = error.kind.value, 200, "stream_interrupted"
                final = [_interrupted(error)]
            except Exception:
                outcome, status, code = "gateway_failed", 500, "internal_error"
                raise
            else:
                outcome, status, code = ANSWERED, 200, ""
                final = [DONE]
            self._end(outcome, status, code)
            yield from final
        finally:
            self._end(outcome, status, code)

    def _all(self) -> Iterator[Json]:
        """The answer's events, whoever they come from. Raises UpstreamError when nobody goes on."""
        while True:
            try:
                for event in chain(self._served.answer.head, self._served.answer.stream):
                    self._note(event)
                    if self._partial is None:
                        yield event
                    else:
                        yield from self._partial.admit(event)
                return
            except UpstreamError as error:
                if self._client.is_gone:
                    raise
                if not cascade.is_of_the_client(self._served.admission, error):
                    breaker.failed(self._served.step, error)
                log.warning(
                    "stream interrupted",
                    extra={"request_id": self._served.admission.request_id, "kind": error.kind.value},
                )
                if not self._rescue(error):
                    raise

    def _rescue(self, error: UpstreamError) -> bool:
        """Whether a further step goes on with the answer; then it is the one that is served from now on."""
        partial, broken = self._partial, self._served
        if partial is None or partial.is_beyond_rescue or partial.is_finished or error.kind in REFUSED:
            return False
        partial.held.clear()  # half a tool call: it is begun anew
        broken.answer.stream.close()
        interrupted = self._attempt(error.kind.value, "stream_interrupted")
        try:
            self._served = cascade.resume(broken, interrupted, partial, self._client)
        except Failed as failed:
            self._given_up = failed
            return False
        self._client.on_gone(self._close_upstream)
        self._received.clear()
        self._is_rescued = True
        if self._client.is_gone:  # while we asked around, when there was no stream to close
            raise error
        return True

    def _render(self, event: Json) -> bytes | None:
        """The event as its client sees it: the alias as the model, usage only when asked for."""
        chat = self._served.admission.chat
        if not event.get("choices") and event.get("usage"):
            if not chat.include_usage:
                return None
            if self._is_rescued:
                event["usage"] = self._usage_of_all()
        event["model"] = self._alias
        if chat.include_usage:
            event.setdefault("usage", None)  # as OpenAI does once usage was asked for
        elif "usage" in event:
            del event["usage"]
        return b"data: " + _as_json(event).encode("ascii") + b"\n\n"

    def _note(self, event: Json) -> None:
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            for part in ("content", "reasoning_content", "refusal"):
                if isinstance(delta.get(part), str):
                    self._received.append(delta[part])
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                self._received.append(f"{function.get('name') or ''}{function.get('arguments') or ''}")

    def _end(self, outcome: str, status: int, code: str) -> None:
        if self._settled:
            return
        self._settled = True
        self._client.release()
        served = self._served
        served.answer.stream.close()
        if self._given_up is not None:
            admission, attempts = self._given_up.admission, self._given_up.attempts
            attempt = attempts[len(served.failed)]  # the one whose answer the caller has the beginning of
        else:
            attempt = self._attempt(outcome, "" if outcome == ANSWERED else code)
            admission, attempts = served.admission, [*served.failed, attempt]
        books.settle(
            admission,
            attempts,
            served=attempt,
            fallback=served.is_fallback,
            http_status=status,
            error_code=code,
            began=self._began,
        )

    def _attempt(self, outcome: str, error: str) -> AttemptRecord:
        """The attempt in hand, as it ends."""
        stream = self._served.answer.stream
        return self._served.record(
            self._usage(outcome), stream.http_status, stream.provider_request_id, outcome=outcome, error=error
        )

    def _usage(self, outcome: str) -> Usage:
        """The provider's count; for a stream cut before its final count, at least what was received."""
        answer = self._served.answer
        reported = answer.stream.usage
        if reported is not None and outcome == ANSWERED:
            return reported
        if not self._received and not answer.head:
            return reported or NO_USAGE
        estimated = estimated_usage(answer.body, "".join(self._received), self._served.step.deployment.model)
        return estimated if reported is None else _at_least(reported, estimated)

    def _usage_of_all(self) -> Json:
        """What the answer consumed at all its providers, as OpenAI reports it: it is what the books say."""
        total = self._usage(ANSWERED)
        for attempt in self._served.failed:
            if attempt.usage != NO_USAGE:
                total = total + attempt.usage
        return {
            "prompt_tokens": total.input_tokens,
            "completion_tokens": total.output_tokens,
            "total_tokens": total.input_tokens + total.output_tokens,
            "prompt_tokens_details": {"cached_tokens": total.cached_input_tokens},
            "completion_tokens_details": {"reasoning_tokens": total.reasoning_tokens},
        }


def _can_be_rescued(served: Served[OpenStream]) -> bool:
    """One answer, an alias that wants it, and a further step. Where nobody could go on, nothing is held back."""
    chat, catalog = served.admission.chat, served.admission.catalog
    return bool(served.rest) and chat.choices == 1 and catalog.aliases[chat.alias].rescues_streams


def _at_least(reported: Usage, estimated: Usage) -> Usage:
    """A cut stream's usage: the provider's input count when it gave one, and no less output than was received."""
    if reported.output_tokens >= estimated.output_tokens and reported.input_tokens:
        return reported
    return replace(
        reported,
        input_tokens=reported.input_tokens or estimated.input_tokens,
        output_tokens=max(reported.output_tokens, estimated.output_tokens),
        source=estimated.source,
    )


def _interrupted(error: UpstreamError) -> bytes:
    why = "stalled" if error.kind == FailureKind.TIMEOUT else "broke off"
    body = {
        "error": {
            "message": f"The provider's stream {why} before its end; what was received is incomplete.",
            "type": "upstream_error",
            "param": None,
            "code": "stream_interrupted",
        }
    }
    return b"data: " + _as_json(body).encode("ascii") + b"\n\n"
