"""SSE out: relays a stream whose first content event has arrived, captures its usage, settles it before its end.

The last byte (``data: [DONE]``) is sent only after the ledger's commit. A client that vanishes closes the generator
(the server calls ``close()``, which raises GeneratorExit at the ``yield``), or is noticed by ``routing.vanishing``: the
provider's connection is closed and what was received is charged.

Format: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from dataclasses import replace

from accounting.ledger import ANSWERED
from accounting.usage import NO_USAGE, Usage
from routing import books, breaker
from routing.cascade import Clock, OpenStream, Served
from routing.upstreams.base import FailureKind, Json, UpstreamError
from routing.upstreams.estimate import estimated_usage
from routing.vanishing import ClientConnection

log = logging.getLogger("gateway.streaming")

DONE = b"data: [DONE]\n\n"
_as_json = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for every event
CLIENT_CLOSED = "client_closed"  # the outcome of a stream whose reader went away


class EventStream:
    """The response's iterable. Settles exactly once, however it ends, even when nobody ever iterates it."""

    def __init__(self, served: Served[OpenStream], began: Clock, client: ClientConnection) -> None:
        self._served = served
        self._began = began
        self._client = client
        self._received: list[str] = []  # text of all choices, for an estimate should no usage come
        self._settled = False
        self._events = self._relay()
        # A silent provider must not be kept waiting for a client that has left: closing wakes our reader.
        client.watch(served.answer.stream.close)

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Called by the server at the end of every response, and when its client is gone."""
        self._events.close()
        # A generator that was never started runs no `finally`: the client left before the first event.
        self._end(CLIENT_CLOSED, 499, "client_closed")

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
                breaker.failed(self._served.step, error)
                final = [_interrupted(error)]
                log.warning(
                    "stream interrupted",
                    extra={"request_id": self._served.admission.request_id, "kind": error.kind.value},
                )
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
        yield from self._served.answer.head
        yield from self._served.answer.stream

    def _render(self, event: Json) -> bytes | None:
        """The event as its client sees it: the alias as the model, usage only when asked for."""
        choices = event.get("choices")
        if not choices and event.get("usage"):
            if not self._served.admission.chat.include_usage:
                return None
        elif isinstance(choices, list):
            self._note(choices)
        event["model"] = self._served.step.alias
        if self._served.admission.chat.include_usage:
            event.setdefault("usage", None)  # as OpenAI does once usage was asked for
        elif "usage" in event:
            del event["usage"]
        return b"data: " + _as_json(event).encode("ascii") + b"\n\n"

    def _note(self, choices: list[Json]) -> None:
        for choice in choices:
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
        served, stream = self._served, self._served.answer.stream
        stream.close()
        attempt = served.record(
            self._usage(outcome),
            stream.http_status,
            stream.provider_request_id,
            outcome=outcome,
            error="" if outcome == ANSWERED else code,
        )
        books.settle(
            served.admission,
            [*served.failed, attempt],
            served=attempt,
            fallback=served.is_fallback,
            http_status=status,
            error_code=code,
            began=self._began,
        )

    def _usage(self, outcome: str) -> Usage:
        """The provider's count; for a stream cut before its final count, at least what was received."""
        reported = self._served.answer.stream.usage
        if reported is not None and outcome == ANSWERED:
            return reported
        if not self._received and not self._events_sent():
            return reported or NO_USAGE
        estimated = estimated_usage(
            self._served.admission.chat.body, "".join(self._received), self._served.step.deployment.model
        )
        return estimated if reported is None else _at_least(reported, estimated)

    def _events_sent(self) -> bool:
        return bool(self._served.answer.head)


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
