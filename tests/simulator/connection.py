"""One client's connection: HTTP/1.1 requests in, bytes out, and the news that the client has left."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClientGone(Exception):
    """The client closed or reset the connection."""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as it came; `headers` has lower-case names, of a repeated one the last."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """Wraps an accepted socket; not shared between threads. Sending and waiting raise ClientGone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._buffer = b""
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read_request(self) -> RawRequest | None:
        """The next request, or None at the end of the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._receive():
                return None
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        request_line, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request_line.split(" ", 2)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            while (size := int(self._line().split(b";")[0], 16)) > 0:
                body += self._exactly(size)
                self._line()
            while self._line():
                pass
        elif length := int(headers.get("content-length", 0)):
            body = self._exactly(length)
        return RawRequest(method, target, headers, body)

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._receive():
                raise ClientGone
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _exactly(self, size: int) -> bytes:
        parts, missing = [self._buffer[:size]], size - len(self._buffer)
        self._buffer = self._buffer[size:]
        while missing > 0:
            try:
                data = self._sock.recv(min(missing, 1 << 20))
            except OSError:
                data = b""
            if not data:
                raise ClientGone
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise ClientGone from error

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def wait(self, seconds: float) -> None:
        """Sleeps, but wakes and raises ClientGone as soon as the client hangs up. Zero only looks."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if self._poll.poll(max(0, math.ceil(left * 1000))):
                try:
                    gone = not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                except BlockingIOError:
                    gone = False
                except OSError:
                    gone = True
                if gone:
                    raise ClientGone
                time.sleep(max(0.0, left))  # the next request is already here: readable tells nothing more
                return
            if left <= 0:
                return

    def close(self, reset: bool = False) -> None:
        """Ends the connection; `reset` sends an RST instead of a FIN."""
        try:
            if reset:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side was faster
        self._sock.close()

    def hang_up(self) -> None:
        """Wakes the thread that works on this connection, from another thread, so that it ends."""
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.shutdown(socket.SHUT_RDWR)


def response_head(status: int, headers: Mapping[str, str]) -> bytes:
    """A status line and headers, with the empty line."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # Anthropic's 529
        phrase = "Overloaded" if status == 529 else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
