"""Connections to the providers: urllib3 makes them, and those that are idle are kept for the next request.

A connection that the provider has closed is noticed when it is taken, and another is taken. Connections that have been
idle longer than usual servers keep them (:data:`IDLE_HTTPS_S`, :data:`IDLE_HTTP_S`) are not used again.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections import deque
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import Any, Final

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, SSLError
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.ssl_match_hostname import CertificateError

from accounting.postgres.sockets import has_ended

#: The large providers keep idle connections for a minute and more; local servers (uvicorn, Node) for five seconds.
IDLE_HTTPS_S: Final = 50.0
IDLE_HTTP_S: Final = 4.0
_MOST_IDLE: Final = 256  # of one origin
_MOST_ORIGINS: Final = 200

SOCKET_OPTIONS: Final[list[tuple[int, int, int | bytes]]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


@lru_cache(maxsize=2)
def tls_context(pid: int) -> ssl.SSLContext:
    """One context for all connections: reading the authorities' certificates takes 15 ms.

    Uses certifi's list, because a slim image has no list. `SSL_CERT_FILE` names another list.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(os.environ.get("SSL_CERT_FILE") or certifi.where())
    return context


class Origin:
    """A server, whose connections can stand for each other.

    `address` is connected to instead of the host, whose name the certificate must have all the same."""

    def __init__(self, scheme: str, host: str, port: int, *, address: str = "", most_idle: int = _MOST_IDLE) -> None:
        self._is_tls = scheme == "https"
        self._host = host
        self._port = port
        self._address = address
        self._most_idle = most_idle
        self._idle_s = IDLE_HTTPS_S if self._is_tls else IDLE_HTTP_S
        self._idle: deque[tuple[Any, float]] = deque()  # sockets, and since when; the newest is used first

    def take(self) -> Any:
        """The socket of a kept connection that is open as far as one can see; None when there is none."""
        while True:
            try:
                sock, since = self._idle.pop()
            except IndexError:
                return None
            if monotonic() - since < self._idle_s and not has_ended(sock):
                return sock
            sock.close()

    def keep(self, sock: Any) -> None:
        now = monotonic()
        self._idle.append((sock, now))
        with suppress(IndexError):  # another thread may take the last
            while len(self._idle) > self._most_idle or now - self._idle[0][1] >= self._idle_s:
                self._idle.popleft()[0].close()

    def connect(self, within_s: float) -> Any:
        """The socket of a new connection. Raises urllib3's errors."""
        host = self._address or self._host
        made: HTTPConnection
        if self._is_tls:
            made = HTTPSConnection(
                host,
                self._port,
                timeout=within_s,
                socket_options=SOCKET_OPTIONS,
                ssl_context=tls_context(os.getpid()),
                server_hostname=self._host,
                assert_hostname=self._host,
            )
        else:
            made = HTTPConnection(host, self._port, timeout=within_s, socket_options=SOCKET_OPTIONS)
        try:
            made.connect()
        except TimeoutError as error:
            made.close()
            raise ConnectTimeoutError("no TLS connection in time") from error
        except (ssl.SSLError, CertificateError) as error:
            made.close()
            raise SSLError(error) from error
        except OSError as error:  # before TLS is agreed: no request was sent, and nothing can be billed
            made.close()
            raise NewConnectionError(made, "the connection ended before TLS was agreed") from error
        except BaseException:
            made.close()
            raise
        return made.sock

    def close(self) -> None:
        self._most_idle = 0
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].close()


_lock = threading.Lock()
_origins: dict[tuple[int, str, str, int], Origin] = {}


def origin_of(scheme: str, host: str, port: int) -> Origin:
    """The process's own: sockets that are shared across a fork would mix two workers' answers."""
    place = os.getpid(), scheme, host, port
    found = _origins.get(place)
    if found is not None:
        return found
    with _lock:
        if place not in _origins:
            if len(_origins) >= _MOST_ORIGINS:
                _origins.pop(next(iter(_origins))).close()
            _origins[place] = Origin(scheme, host, port)
        return _origins[place]
