"""A live answer: read from its provider, rescued when it breaks, settled before its last byte and exactly once.

The last frame is sent only after the ledger's commit. A client that vanishes closes the generator (the server calls
``close()``, which raises GeneratorExit at the ``yield``), or is noticed while nothing is sent: the provider's
connection is closed and what was received is charged. A stream that breaks off is continued by the chain's next step
when the call can ask for the rest honestly. While there is nothing to send, because a provider thinks, a tool call is
held back or another step is asked, comments keep the client's connection. What the client is sent is the business of a
dialect's :class:`Frames`.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import chain
from typing import Protocol

from accounting import facts
from accounting.ledger.records import AttemptRecord
from accounting.outcomes import Outcome
from accounting.usage import NO_USAGE, Usage, UsageSource
from routing.breakers import breaker
from routing.exceptions import ClientClosed, GatewayError, InternalError
from routing.serving import books, cascade
from routing.serving.admission import Admission
from routing.serving.attempts import Clock, Failed, OpenStream, Served, at_least, counted
from routing.serving.books import Ending
from routing.serving.call import Client, Consumed, as_streamed
from routing.serving.decisions import REFUSED
from routing.serving.waiting import Waited
from routing.upstreams.base import QUIET, AnswerStream, Json, UpstreamError
from routing.upstreams.kinds import IN_WORDS

COUNT_GRACE_S = 2.0  # how long a provider is read on for a client that has left, once the answer was complete,
NEAR_S = 0.25  # and before: it may just have said its last word


BEGIN_AFTER_S = 8.0  # an answer that has no content by then begins with comments
MOST_FRAMES = 64  # that are sent at once
COMMENT_EVERY_S = 2.0  # while a stream that has begun has nothing to send: some clients give up after a few seconds


class Frames(Protocol):
    """One answer's stream in the words of the client's dialect."""

    def event(self, event: Json) -> bytes | None:
        """The event's frame; None when the client is sent nothing of it."""

    def end(self, consumed: Consumed) -> bytes:
        """What follows the last event of a complete answer."""

    def comment(self) -> bytes:
        """What keeps the connection, and is no event. Empty: the format has nothing of the kind."""

    def failed(self, error: GatewayError) -> bytes:
        """The only event of an answer that has begun and that nobody gave."""

    def interrupted(self, error: UpstreamError) -> bytes | None:
        """What follows the last event of an answer that broke and that nobody went on with. None: the format has no
        word for it, and breaking the connection off says it."""


class BrokenOff(ConnectionResetError):
    """The answer ends in the middle. The server breaks the connection off, so that nobody takes the half for the whole;
    with this number it does so without a word in the log, which has the fact already."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the answer broke")


class LiveAnswer:
    """The response's iterable. Settles exactly once, however it ends, even when nobody ever iterates it."""

    def __init__(self, served: Served[OpenStream], began: Clock, client: Client, frames: Frames) -> None:
        self._served = served
        self._began = began
        self._client = client
        self._frames = frames
        self._partial = as_streamed(served.admission.call).partial(is_rescuable=_has_rescuers(served))
        self._settled = False
        self._given_up: Failed | None = None  # no step could go on
        self._closing: _Closing | None = None  # once the client has left
        self._is_read_on = False
        self._is_rescued = False
        self._consumed = Consumed(NO_USAGE, None, is_counted=False)  # known once it is settled
        self._bytes = self._relay()
        served.answer.stream.beat(COMMENT_EVERY_S)
        client.on_gone(self._client_left)

    def __iter__(self) -> Iterator[bytes]:
        return self._bytes

    def close(self) -> None:
        """Called by the server at the end of every response, and when its client is gone."""
        self._bytes.close()
        # A generator that was never started runs no `finally`: the client left before the first event.
        self._end(Outcome.CLIENT_CLOSED, 499, "client_closed")

    def _client_left(self) -> None:
        """A silent provider must not be kept waiting for a client that has left: closing wakes our reader. Not at once,
        as the count of what it has said may be on its way."""
        stream = self._served.answer.stream  # of the step that is served now, which is not always the first
        self._closing = _Closing(stream, self._grace_s())

    def _grace_s(self) -> float:
        return COUNT_GRACE_S if self._partial.is_finished else NEAR_S

    def _relay(self) -> Generator[bytes, None, None]:
        outcome, status, code = Outcome.CLIENT_CLOSED, 499, "client_closed"
        interrupted: UpstreamError | None = None
        sent_at = time.monotonic()
        frames: list[bytes] = []  # that have come at once, and leave at once
        events = self._events()
        try:
            try:
                for event in events:
                    if self._client.is_gone:
                        self._read_on()
                        return
                    frame = None if event is QUIET else self._frames.event(event)
                    if frame is not None:
                        frames.append(frame)
                    if not frames:
                        if time.monotonic() - sent_at < COMMENT_EVERY_S:
                            continue
                        frames.append(self._frames.comment())
                    elif event is not QUIET and len(frames) < MOST_FRAMES and self._served.answer.stream.has_event:
                        continue
                    yield b"".join(frames)
                    frames.clear()
                    sent_at = time.monotonic()
                if frames:  # before the end, which waits for the books
                    yield b"".join(frames)
                    frames.clear()
            except UpstreamError as error:
                if self._client.is_gone:
                    return  # we closed the stream, as its client has left; the provider is not to blame
                outcome, status, code = Outcome(error.kind), 200, "stream_interrupted"
                interrupted = error
            except Exception:
                outcome, status, code = Outcome.GATEWAY_FAILED, 500, "internal_error"
                raise
            else:
                outcome, status, code = Outcome.ANSWERED, 200, ""
            self._end(outcome, status, code)
            yield from self._last(frames, interrupted)
        finally:
            events.close()  # what it asked for is over before it is settled
            self._end(outcome, status, code)

    def _last(self, frames: list[bytes], error: UpstreamError | None) -> Iterator[bytes]:
        """How the answer ends; with an error, after the frames that have come and that nobody went on with."""
        if error is None:
            yield self._frames.end(self._consumed)
            return
        word = self._frames.interrupted(error)
        yield b"".join((*frames, word or b""))
        if word is None:
            raise BrokenOff

    def _events(self) -> Generator[Json]:
        """The answer's events, whoever they come from, and QUIET while there is nothing to send. Raises UpstreamError
        when nobody goes on."""
        while True:
            try:
                for event in chain(self._served.answer.head, self._served.answer.stream):
                    released = () if event is QUIET else self._partial.receive(event)
                    yield from released or (QUIET,)
                return
            except UpstreamError as error:
                if self._client.is_gone:
                    raise
                if not cascade.is_of_the_client(self._served.admission, error):
                    breaker.failed(self._served.step, error, self._served.admission.key.id)
                facts.stream_interrupted(self._served.admission.request_id, error.kind.value)
                yield QUIET  # what has come is sent before others are asked
                is_rescued = yield from self._rescue(error)
                if not is_rescued:
                    raise

    def _rescue(self, error: UpstreamError) -> Generator[Json, None, bool]:
        """Whether a further step goes on with the answer; then it is the one that is served from now on."""
        broken = self._served
        if not self._partial.can_be_continued or error.kind in REFUSED:
            return False
        broken.answer.stream.close()
        interrupted = self._attempt(Outcome(error.kind), "stream_interrupted")
        resuming = Waited(lambda: cascade.resume(broken, interrupted, self._partial, self._client))
        try:
            while not resuming.is_over(COMMENT_EVERY_S):
                yield QUIET
        finally:
            if not resuming.is_over(0):  # we are left by our client, at the `yield`
                self._client.leave()
            self._take_over(resuming)
        if self._given_up is not None:
            return False
        if self._client.is_gone:  # while we asked around, when there was no stream to close
            raise error
        return True

    def _take_over(self, resuming: Waited[Served[OpenStream]]) -> None:
        try:
            self._served = resuming.result()
        except Failed as failed:
            self._given_up = failed
            return
        self._served.answer.stream.beat(COMMENT_EVERY_S)
        self._client.on_gone(self._client_left)
        self._partial.begin_anew()
        self._is_rescued = True

    def _end(self, outcome: Outcome, status: int, code: str) -> None:
        if self._settled:
            return
        self._settled = True
        self._client.release()
        served = self._served
        if outcome == Outcome.CLIENT_CLOSED:
            self._read_on()
        elif self._closing is not None:
            self._closing.cancel()
        served.answer.stream.close()
        if self._given_up is not None:
            admission, attempts = self._given_up.admission, self._given_up.attempts
            attempt = attempts[len(served.failed)]  # the one whose answer the client has the beginning of
        else:
            attempt = self._attempt(outcome, "" if outcome == Outcome.ANSWERED else code)
            admission, attempts = served.admission, [*served.failed, attempt]
        settlement = books.settle(
            Ending(
                admission,
                self._began,
                tuple(attempts),
                served=attempt,
                is_fallback=served.is_fallback,
                http_status=status,
                error_code=code,
            )
        )
        # What one step has said is the answer of all that were asked only when they said it together.
        usage = settlement.usage if self._is_rescued else attempt.usage
        is_counted = not self._is_rescued and usage.source is UsageSource.PROVIDER
        self._consumed = Consumed(usage, settlement.cost_usd, is_counted)

    def _read_on(self) -> None:
        """The client has left. What it was given last may be the end of the answer, whose count is on its way."""
        if self._is_read_on:
            return
        self._is_read_on = True
        stream = self._served.answer.stream
        closing = self._closing or _Closing(stream, self._grace_s())
        try:
            for event in stream:
                if event is not QUIET:
                    self._partial.receive(event)
                if self._partial.is_finished:
                    closing.defer(COUNT_GRACE_S)
        except UpstreamError:
            pass  # it is closed, or has failed: its client hears of neither
        finally:
            closing.cancel()

    def _attempt(self, outcome: Outcome, error: str) -> AttemptRecord:
        """The attempt in hand, as it ends."""
        stream = self._served.answer.stream
        return self._served.record(
            self._usage(outcome), stream.http_status, stream.provider_request_id, outcome=outcome, error=error
        )

    def _usage(self, outcome: Outcome) -> Usage:
        """The provider's count; for a stream cut before its final count, at least what was received."""
        answer = self._served.answer
        reported = answer.stream.usage
        if outcome == Outcome.ANSWERED or (reported is not None and self._partial.is_finished):
            return counted(reported, self._estimated, is_in_words=self._served.admission.call.kind in IN_WORDS)
        received = self._partial.received
        if not received and not answer.head:
            return reported or NO_USAGE
        estimated = self._estimated()
        return estimated if reported is None else at_least(reported, estimated)

    def _estimated(self) -> Usage:
        return self._served.admission.call.estimate(self._partial.received, self._served.step)


class LateAnswer:
    """An answer that has begun before anybody spoke: comments keep its client until a step does, or until none is left,
    which then is an event, as the status was sent. Settles exactly once, however it ends."""

    def __init__(
        self,
        opening: Waited[Served[OpenStream]],
        opened: Callable[[Served[OpenStream]], LiveAnswer],
        admission: Admission,
        began: Clock,
        *,
        client: Client,
        frames: Frames,
    ) -> None:
        self._opening = opening
        self._opened = opened
        self._admission = admission
        self._began = began
        self._client = client
        self._frames = frames  # until somebody speaks
        self._answer: LiveAnswer | None = None
        self._settled = False
        self._bytes = self._relay()

    def __iter__(self) -> Iterator[bytes]:
        return self._bytes

    def close(self) -> None:
        """Called by the server at the end of every response, and when its client is gone."""
        self._bytes.close()
        if self._answer is None and not self._settled:
            self._client.leave()  # ends the call that is waited for
            self._end()
        if self._answer is not None:
            self._answer.close()

    def _relay(self) -> Generator[bytes, None, None]:
        yield self._frames.comment()
        while not self._opening.is_over(COMMENT_EVERY_S):
            yield self._frames.comment()
        error = self._end()
        if self._answer is not None:
            yield from self._answer
        elif error is not None:
            yield self._frames.failed(error)

    def _end(self) -> GatewayError | None:
        """Of the waiting: there is an answer from now on, or the error that is in the books."""
        try:
            self._answer = self._opened(self._opening.result())
        except Failed as failed:
            return self._settle(failed)
        except Exception:
            self._settle(Failed(InternalError("The gateway failed."), [], self._admission))
            raise
        return None

    def _settle(self, failed: Failed) -> GatewayError:
        self._settled = True
        self._client.release()
        ending = Ending.of_failure(failed, self._began)
        books.settle(ending if isinstance(failed.error, ClientClosed) else replace(ending, http_status=200))
        return failed.error


class _Closing:
    """Ends a stream after a while, from another thread."""

    def __init__(self, stream: AnswerStream, after_s: float) -> None:
        self._stream = stream
        self._is_deferred = False
        self._timer = self._started(after_s)

    def defer(self, after_s: float) -> None:
        """Once, from now on."""
        if not self._is_deferred:
            self._is_deferred = True
            self._timer.cancel()
            self._timer = self._started(after_s)

    def cancel(self) -> None:
        self._timer.cancel()

    def _started(self, after_s: float) -> threading.Timer:
        timer = threading.Timer(after_s, self._stream.close)
        timer.daemon = True
        timer.start()
        return timer


def _has_rescuers(served: Served[OpenStream]) -> bool:
    """Whether the alias wants its streams rescued, and a further step is there to do it."""
    admission = served.admission
    alias = admission.catalog.alias(admission.call.alias)
    return bool(served.rest) and alias is not None and alias.rescues_streams
