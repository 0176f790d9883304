"""One request played out on its connection: the answer, whole or streamed, or the scripted failure."""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import TYPE_CHECKING, Any

from tests.simulator.behaviour import Behaviour
from tests.simulator.connection import Connection, response_head
from tests.simulator.model import Answer, PromptCache, answer
from tests.simulator.wire_format import Failure, Raw, WireFormat, compact

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.prompt import Prompt

_PIECE = b"x" * 65536
_PINGS = {"anthropic": b'event: ping\ndata: {"type": "ping"}\n\n'}  # elsewhere a comment, as OpenRouter's


class Exchange:
    """Plays one behaviour. `status` and `tokens_sent` say how far it came, also when ClientGone ends it."""

    def __init__(self, connection: Connection, wire: WireFormat, note_status: Callable[[int], None]) -> None:
        self._connection = connection
        self._wire = wire
        self._note_status = note_status
        self.tokens_sent = 0

    def fail(self, failure: Failure) -> bool:
        """Answers with the failure. True: the connection can be used for another request."""
        is_page = isinstance(failure.body, str)
        body = failure.body.encode() if isinstance(failure.body, str) else json.dumps(failure.body, indent=2).encode()
        kind = "text/html" if is_page else "application/json"
        self._head(failure.status, kind, dict(failure.headers), len(body))
        self._connection.send(body)
        return True

    def play(self, prompt: Prompt, behaviour: Behaviour, cache: PromptCache) -> bool:
        """Answers as the behaviour says. True: the connection can be used for another request."""
        self._connection.wait(float_of(behaviour.latency_s))
        if behaviour.instead:
            return self._play_instead(prompt, behaviour, cache)
        failure = self._failure(prompt, behaviour)
        if failure and failure.status == 200 and prompt.streamed:
            return self._stream_one(self._wire.failure_event(failure), behaviour)
        if failure:
            return self.fail(failure)
        said = answer(prompt, behaviour, cache)
        if prompt.streamed:
            return self._stream(prompt, said, behaviour)
        return self._whole(prompt, said, behaviour)

    def _failure(self, prompt: Prompt, behaviour: Behaviour) -> Failure | None:
        if behaviour.refuses_prefill and prompt.prefill is not None:
            return self._wire.failure("prefill_refused", prompt, behaviour)
        if behaviour.problem and (behaviour.problem_after is None or not prompt.streamed):
            failure = self._wire.failure(behaviour.problem, prompt, behaviour)
            return dataclasses.replace(
                failure,
                status=behaviour.status or failure.status,
                body=failure.body if behaviour.body is None else behaviour.body,
                headers={**failure.headers, **behaviour.headers},
            )
        if behaviour.status is not None or behaviour.body is not None:
            return Failure(behaviour.status or 200, behaviour.body or {}, behaviour.headers)
        return None

    # --- answers ---------------------------------------------------------------------------------

    def _whole(self, prompt: Prompt, said: Answer, behaviour: Behaviour) -> bool:
        generated = len(said.reasoning) + sum(len(choice.tokens) for choice in said.choices)
        # A whole answer is only sent when its last token is there.
        self._connection.wait(float_of(behaviour.first_token_s) + behaviour.token_s * generated)
        answered = self._wire.whole(prompt, said)
        if isinstance(answered, Raw):
            body, content_type = answered.data, answered.content_type
        else:
            body, content_type = compact(answered), "application/json"
        self._head(200, content_type, dict(behaviour.headers), len(body))
        if behaviour.cut_after is not None:
            self._connection.send(body[: len(body) // 2])
            self._connection.close(reset=behaviour.cut == "reset")
            return False
        if behaviour.stall_after is not None:
            self._connection.send(body[: len(body) // 2])
            self._connection.wait(behaviour.seconds)
            body = body[len(body) // 2 :]
        self._connection.send(body)
        self.tokens_sent = generated
        return True

    def _stream(self, prompt: Prompt, said: Answer, behaviour: Behaviour) -> bool:
        connection = self._connection
        stream_type = getattr(self._wire, "stream_type", None)  # of a format that has several
        content_type = stream_type(prompt) if stream_type else self._wire.STREAM_TYPE
        self._head(200, content_type, dict(behaviour.headers))
        stalled = False
        for event in self._wire.events(prompt, said):
            # Faults strike between content tokens: before the first one, or after the last before the end.
            if event.token or self.tokens_sent:
                if self.tokens_sent == behaviour.cut_after:
                    return self._cut(behaviour)
                if self.tokens_sent == behaviour.problem_after and behaviour.problem:
                    failure = self._wire.failure(behaviour.problem, prompt, behaviour)
                    connection.send_chunk(self._wire.failure_event(failure))
                    return self._end()
                if self.tokens_sent == behaviour.stall_after and not stalled:
                    stalled = True
                    self._wait(behaviour.seconds, behaviour)
            if event.token:
                self._wait(behaviour.token_s if self.tokens_sent else float_of(behaviour.first_token_s), behaviour)
                if self.tokens_sent == behaviour.malformed_event_at:
                    connection.send_chunk(event.data[: len(event.data) * 2 // 3] + b"\n\n")
            if event.last and behaviour.without_done:
                break
            connection.send_chunk(event.data)
            self.tokens_sent += event.token
        if behaviour.without_done:
            connection.wait(behaviour.seconds)
        return self._end()

    def _wait(self, seconds: float, behaviour: Behaviour) -> None:
        """As a provider that thinks: silent, or with signs of life."""
        while behaviour.ping_s and seconds > behaviour.ping_s:
            self._connection.wait(behaviour.ping_s)
            self._connection.send_chunk(_PINGS.get(self._wire.NAME, b": processing\n\n"))
            seconds -= behaviour.ping_s
        self._connection.wait(seconds)

    def _stream_one(self, event: bytes, behaviour: Behaviour) -> bool:
        self._head(200, self._wire.STREAM_TYPE, dict(behaviour.headers))
        self._connection.send_chunk(event)
        return self._end()

    def _cut(self, behaviour: Behaviour) -> bool:
        if behaviour.cut == "clean":
            return self._end()
        self._connection.close(reset=behaviour.cut == "reset")
        return False

    def _end(self) -> bool:
        self._connection.send(b"0\r\n\r\n")
        return True

    # --- what comes instead of an answer ---------------------------------------------------------

    def _play_instead(  # noqa: C901, PLR0912 - one case a fault
        self, prompt: Prompt, behaviour: Behaviour, cache: PromptCache
    ) -> bool:
        connection = self._connection
        content_type = self._wire.STREAM_TYPE if prompt.streamed else "application/json"
        opening = b'data: {"id": "' if prompt.streamed else b'{"id": "'
        match behaviour.instead:
            case "silent":
                connection.wait(behaviour.seconds)
                connection.close()
                return False
            case "reset":
                connection.close(reset=True)
                return False
            case "redirect":
                return self.fail(Failure(behaviour.status or 307, "", {"Location": behaviour.location}))
            case "malformed_body":
                body = opening + b'half", "choices": [{"mess'
                self._head(200, content_type, dict(behaviour.headers), len(body))
                connection.send(body)
                return True
            case "endless_headers":
                self._note_status(200)
                connection.send(b"HTTP/1.1 200 OK\r\n")
                while True:
                    connection.wait(0)
                    connection.send(b"X-Endless: %b\r\n" % _PIECE[:1024])
            case "endless":
                self._head(200, content_type, dict(behaviour.headers))
                if prompt.streamed:
                    return self._endless_stream(prompt, behaviour, cache)
                connection.send_chunk(opening)
                while True:
                    connection.wait(behaviour.token_s)
                    connection.send_chunk(_PIECE)
            case "huge_line":
                self._head(200, content_type, dict(behaviour.headers))
                connection.send_chunk(opening)
                for start in range(0, behaviour.size, len(_PIECE)):
                    connection.wait(0)
                    connection.send_chunk(_PIECE[: behaviour.size - start])
                connection.send_chunk(b'"}\n\n')
                return self._end()
            case "gzip_bomb":
                self._head(200, content_type, {"Content-Encoding": "gzip", **behaviour.headers})
                gzip = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
                packed = gzip.compress(opening)
                for start in range(0, behaviour.size, len(_PIECE)):
                    connection.wait(0)
                    packed += gzip.compress(_PIECE[: behaviour.size - start])
                    if packed:
                        connection.send_chunk(packed)
                        packed = b""
                connection.send_chunk(gzip.compress(b'"}\n\n') + gzip.flush())
                return self._end()
            case _:
                raise ValueError(f"unknown way to answer: {behaviour.instead!r}")

    def _endless_stream(self, prompt: Prompt, behaviour: Behaviour, cache: PromptCache) -> bool:
        unlimited = dataclasses.replace(prompt, max_tokens=None, stop=())
        said = answer(unlimited, Behaviour(tokens=("again ", "again ")), cache)
        for event in self._wire.events(unlimited, said):
            self._connection.send_chunk(event.data)
            self.tokens_sent += event.token
            while event.token:
                self._connection.wait(behaviour.token_s)
                self._connection.send_chunk(event.data)
                self.tokens_sent += 1
        return self._end()

    def _head(self, status: int, content_type: str, extra: dict[str, Any], length: int | None = None) -> None:
        headers = {"Content-Type": content_type, **self._wire.headers()}
        if length is None:
            headers |= {"Transfer-Encoding": "chunked", "Cache-Control": "no-cache"}
        else:
            headers["Content-Length"] = str(length)
        self._connection.send(response_head(status, headers | extra))
        self._note_status(status)


def float_of(value: float | tuple[float, float]) -> float:
    """Ranges have been drawn when the behaviour was taken from the script."""
    assert not isinstance(value, tuple)
    return value
