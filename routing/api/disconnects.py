"""Notices clients that went away while nothing is written to them: their answer is silent, or has not begun.

One thread a process (a greenlet under gevent) looks at the sockets of all running requests twice a second. It asks the
kernel for the connection's TCP state, which neither reads a byte nor waits. Any state but ``ESTABLISHED`` means that
the client has closed at least its side, and does not wait for the rest. (A client that half-closes after its request
counts as gone, as it does for nginx. A whole answer is sent to it all the same.) Without TCP_INFO (not Linux, a Unix
socket), only a failing write shows that a client has gone.

A client that stays but stops reading is not noticed here: its writes time out after ``SEND_TIMEOUT_S``.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from django.http import HttpResponse

from routing.api.headers import Headers
from routing.api.places import Place

LOOK_EVERY_S = 0.5
SEND_TIMEOUT_S = 60.0
SEND_BYTES_A_S = 64 * 1024  # a whole answer has one second more for each of these
_TCP_ESTABLISHED = 1  # include/net/tcp_states.h


class _Watch:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets = itertools.count()
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._is_looking = False

    def add(self, client: socket.socket, when_gone: Callable[[], None]) -> int:
        ticket = next(self._tickets)
        self._watched[ticket] = (client, when_gone)
        if not self._is_looking:  # `_look` says so before its last look for clients: so one of the two sees the other
            with self._lock:
                if not self._is_looking:
                    self._is_looking = True
                    threading.Thread(target=self._look, name="client-watch", daemon=True).start()
        return ticket

    def remove(self, ticket: int) -> None:
        self._watched.pop(ticket, None)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            if not self._watched:
                with self._lock:
                    self._is_looking = False
                    if not self._watched:
                        return
                    self._is_looking = True
            for ticket, (client, when_gone) in self._watched.copy().items():
                if _is_gone(client):
                    self.remove(ticket)
                    when_gone()


_watch = _Watch()


class ClientConnection:
    """A request's client, watched until :meth:`release`, and the place that it takes.

    A stream's client is the `routing.upstreams.base.Leash` of its calls. A whole answer is waited for without its
    client, but does not keep the place of a client that has gone. ``raw`` is None when the server does not give its
    socket. Then only a failing write shows that the client is gone.
    """

    def __init__(self, raw: socket.socket | None) -> None:
        self._raw = raw
        self._place: Place | None = None
        self._ticket: int | None = None
        self._timeout_before: float | None = None
        self._end: Callable[[], None] | None = None
        self.is_gone = False

    def takes(self, place: Place) -> None:
        self._place = place

    def watch(self) -> None:
        """From now on: its request was read."""
        if self._raw is not None:
            self._timeout_before = self._raw.gettimeout()
            self._raw.settimeout(SEND_TIMEOUT_S)
            self._ticket = _watch.add(self._raw, self.leave)

    def expect_to_take(self, answer_bytes: int) -> None:
        """It is about to be sent so much at once, for which it may need longer than for a stream's event."""
        if self._raw is not None and self._ticket is not None:
            self._raw.settimeout(SEND_TIMEOUT_S + answer_bytes / SEND_BYTES_A_S)

    def on_gone(self, end: Callable[[], None] | None) -> None:
        """Call ``end`` when the client has gone, from another thread. It replaces what was to be called before."""
        self._end = end
        if self.is_gone and end is not None:  # the client left before there was anything to end
            end()

    def leave(self) -> None:
        self.is_gone = True
        if self._place is not None:
            self._place.leave()
        if self._end is not None:
            self._end()

    def release(self) -> None:
        if self._place is not None:
            self._place.free()
        self._end = None
        if self._raw is None or self._ticket is None:
            return
        _watch.remove(self._ticket)
        self._ticket = None
        try:
            self._raw.settimeout(self._timeout_before)
        except OSError:
            return  # the socket was closed meanwhile


class WholeAnswer(HttpResponse):
    """An answer that keeps its client's place until it is sent: a client may take its time."""

    headers: Headers

    def __init__(
        self,
        body: bytes,
        client: ClientConnection,
        headers: Mapping[str, str],
        content_type: str = "application/json",
    ) -> None:
        super().__init__(body, content_type=content_type)
        self.headers = Headers({"Content-Type": content_type, "Content-Length": str(len(body)), **headers})
        self._client = client
        client.expect_to_take(len(body))

    def sent(self) -> Iterator[bytes]:
        """What the server is to send, without Django's end of a request."""
        try:
            yield self.content
        finally:
            self._client.release()

    def close(self) -> None:
        super().close()
        self._client.release()


def _is_gone(client: socket.socket) -> bool:
    try:
        state: int = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except (OSError, AttributeError, IndexError):
        return client.fileno() == -1
    return state != _TCP_ESTABLISHED
