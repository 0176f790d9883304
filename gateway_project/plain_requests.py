"""The short way of plain requests through the server.

Nearly all requests are plain: GET or POST, HTTP/1.1, the whole head in the first read, names of letters, digits and
hyphens, no name twice, a Content-Length or no body. Two expressions split such a head, and the answer leaves with its
own head in one send. Whatever is not plain is left, unread, to gunicorn's own parser: what is strict there stays
strict. Nothing is judged here but whether a head is harmless. docs/adr/0026 says what is promised.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from socket import socket
from types import TracebackType
from typing import Any, Final, cast

from gunicorn import SERVER
from gunicorn.config import Config
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import _ip_in_allow_list
from gunicorn.http.unreader import Unreader
from gunicorn.http.wsgi import base_environ
from gunicorn.util import unquote_to_wsgi_str

Address = tuple[str, int]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

#: The paths of pages and their files, as routing.api.errors.is_api has them. gunicorn sends files without reading them.
PAGES: Final = ("/admin/", "/static/")

READ_BYTES: Final = 64 * 1024
HEAD_BYTES: Final = 16 * 1024
JOINED_BYTES: Final = 64 * 1024  # a longer part of an answer is not copied to stand behind its head

#: Each bound is below gunicorn's own: what is longer is its to judge. No target has a fragment, or begins with `//`.
_HEAD: Final = re.compile(
    rb"(GET|POST) (/(?!/)[!-\"$-~]{0,4000}+) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]{1,100}+:[\t -~\x80-\xff]{0,8000}+\r\n){1,80}+)\r\n"
)
_FIELD: Final = re.compile(r"([^:]++):[ \t]*+([^\r]*+)\r\n")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
#: Fields that are gunicorn's to judge.
_NOT_PLAIN: Final = frozenset(
    {"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_UPGRADE", "HTTP_TE", "HTTP_TRAILER", "HTTP_HTTP2_SETTINGS"}
)
_MOST_NAMES: Final = 1000

#: As gunicorn checks an answer's head. The number of its lines is compared besides.
_ANSWER_HEAD: Final = re.compile(
    r"HTTP/1\.1 [0-9]{3}(?: [\t -~\x80-\xff]*+)?\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++: [\t -~\x80-\xff]*+\r\n)*+\r\n"
)
#: What the server alone decides, as gunicorn leaves it out.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding"}
    | {"upgrade", "server", "date"}
)

_CHUNKED: Final = "Transfer-Encoding: chunked\r\n"

_keys: dict[str, str] = {}  # of the environment, by the name of the field
_ordinary: set[str] = set()  # names of an answer's fields that mean nothing to the server
_date: tuple[int, str] = (0, "")


class WholeBody(io.BytesIO):
    """A body that has come with its head, and with nothing after it, so that nothing is left to wait for."""


class PlainRequest:
    """What gunicorn's request has, as far as the worker asks for it."""

    __slots__ = ("body", "closes", "environ", "method", "path", "query", "uri")

    version = (1, 1)

    def __init__(self, environ: dict[str, Any], path: str, body: Body | WholeBody) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.uri: str = environ["RAW_URI"]
        self.path = path
        self.query: str = environ["QUERY_STRING"]
        self.body = body
        self.closes: bool = environ.get("HTTP_CONNECTION", "").lower() == "close"


class PlainReader:
    """Reads the plain requests of one connection."""

    def __init__(
        self, cfg: Config, base: Mapping[str, Any], listener: socket, client: socket, address: Address
    ) -> None:
        server = listener.getsockname()
        self._environ = {
            **base,
            "gunicorn.socket": client,
            "REMOTE_ADDR": address[0],
            "REMOTE_PORT": str(address[1]),
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
        }
        is_trusted = _ip_in_allow_list(address[0], cfg.forwarded_allow_ips, cfg.forwarded_allow_networks())
        self._schemes = [
            (f"HTTP_{name.replace('-', '_')}", secure)
            for name, secure in (cfg.secure_scheme_headers.items() if is_trusted else ())
        ]
        self._scheme_keys = frozenset(key for key, _ in self._schemes)

    def next(self, unreader: Unreader) -> PlainRequest | None:
        """The next request; None when what comes is for gunicorn's parser, which then reads it from its beginning."""
        data: bytes = unreader.take_buffered() or unreader.chunk(READ_BYTES)
        head = _HEAD.match(data, 0, HEAD_BYTES)
        request = head and self._request(head, data, unreader)
        if request is None:
            unreader.unread(data)
        return request

    def _request(self, head: re.Match[bytes], data: bytes, unreader: Unreader) -> PlainRequest | None:
        method, target, fields = head.groups()
        environ = self._environ.copy()
        for name, value in _FIELD.findall(fields.decode("latin-1")):
            key = _keys.get(name) or _key(name)
            if key in environ:
                return None  # twice, or one of the server's own
            environ[key] = value.rstrip(" \t")
        length = environ.get("CONTENT_LENGTH", "0")
        if not environ.keys().isdisjoint(_NOT_PLAIN) or "HTTP_HOST" not in environ or not _LENGTH.fullmatch(length):
            return None
        if self._schemes and not self._has_one_scheme(environ):
            return None
        uri = target.decode("ascii")
        path, _, query = uri.partition("?")
        if is_page(path):
            return None
        environ["REQUEST_METHOD"] = method.decode("ascii")
        environ["RAW_URI"] = uri
        environ["PATH_INFO"] = unquote_to_wsgi_str(path) if "%" in path else path
        environ["QUERY_STRING"] = query
        environ["wsgi.input"] = body = self._body(int(length), data[head.end() :], unreader)
        return PlainRequest(environ, path, body)

    def _body(self, length: int, rest: bytes, unreader: Unreader) -> Body | WholeBody:
        if len(rest) == length:
            return WholeBody(rest)
        unreader.unread(rest)
        return Body(LengthReader(unreader, length))

    def _has_one_scheme(self, environ: dict[str, Any]) -> bool:
        """Whether the proxies in front agree how the client came. False: gunicorn says what is then to be done."""
        if environ.keys().isdisjoint(self._scheme_keys):
            return True
        said = {environ[key] == secure for key, secure in self._schemes if key in environ}
        environ["wsgi.url_scheme"] = "https" if said == {True} else "http"
        return len(said) == 1


def is_page(path: str) -> bool:
    """Whether a request is for a page or a file, by its path as it was sent: the application reads `/%61dmin/` as
    `/admin/`."""
    return (unquote_to_wsgi_str(path) if "%" in path else path).startswith(PAGES)


def plain_environ(cfg: Config) -> dict[str, Any] | None:
    """The part of an environment that all plain requests share. None when the configuration asks for what is not done
    here: TLS, the PROXY protocol, a path below which the gateway is."""
    if cfg.is_ssl or cfg.proxy_protocol != "off" or os.environ.get("SCRIPT_NAME"):
        return None
    return {
        **base_environ(cfg),
        "wsgi.multithread": True,
        "wsgi.url_scheme": "http",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
    }


def _key(name: str) -> str:
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    if len(_keys) < _MOST_NAMES:
        _keys[name] = key
    return key


class PlainAnswer:
    """PEP 3333's `start_response`, and the answer that follows. The head leaves with the first part of the body."""

    __slots__ = ("_client", "_head", "_is_chunked", "_left", "_omits_body", "closes", "has_begun")

    def __init__(self, client: socket, *, closes: bool) -> None:
        self._client = client
        self._head: bytes | None = None
        self._is_chunked = False
        self._left: int | None = None  # of the length that the head says
        self._omits_body = False
        self.closes = closes  # the connection ends after this answer
        self.has_begun = False  # its head was sent

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info and self.has_begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._head is not None and not exc_info:
            raise AssertionError("Response headers already set!")
        self._omits_body = status[:3] in ("204", "304")
        self._left = None
        lines = [  # `_is_sent` notes the length
            f"{name}: {value}\r\n" for name, value in headers if name in _ordinary or self._is_sent(name, value, status)
        ]
        self._is_chunked = not self._omits_body and self._left is None
        head = (
            f"HTTP/1.1 {status}\r\nServer: {SERVER}\r\nDate: {_http_date()}\r\n"
            f"Connection: {'close' if self.closes else 'keep-alive'}\r\n"
            f"{_CHUNKED if self._is_chunked else ''}{''.join(lines)}\r\n"
        )
        if not _ANSWER_HEAD.fullmatch(head) or head.count("\n") != 5 + self._is_chunked + len(lines):
            raise ValueError("an answer's status or header has characters that it may not have")
        self._head = head.encode("latin-1")
        return self.write

    def _is_sent(self, name: str, value: str, status: str) -> bool:
        """Whether the field is the application's to say. Notes the length, if it is that."""
        lower = name.lower()
        if lower == "content-length":
            if status[:3] == "204":
                return False
            self._left = int(value)
        elif lower in _HOP_BY_HOP:
            return False
        elif len(_ordinary) < _MOST_NAMES:
            _ordinary.add(name)
        return True

    def write(self, data: bytes) -> None:
        if self._omits_body:
            data = b""
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        elif data:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        self._send(data)

    def _send(self, data: bytes) -> None:
        if not self.has_begun:
            if self._head is None:
                raise AssertionError("No headers before the body")
            self.has_begun = True
            if len(data) <= JOINED_BYTES:
                data = self._head + data
            else:
                self._client.sendall(self._head)
        if data:
            # gevent's sendall asks for the size of the kernel's buffer first. Most answers are smaller than it.
            sent = self._client.send(data)
            if sent < len(data):
                self._client.sendall(memoryview(data)[sent:])

    def end(self) -> None:
        if self._is_chunked:
            self._send(b"0\r\n\r\n")
        elif not self.has_begun:
            self._send(b"")
        if self._left and not self._omits_body:
            self.closes = True  # less came than the head says: the client waits for it until the connection ends

    def run(self, application: Callable[..., Any], environ: dict[str, Any]) -> None:
        parts = cast(Iterable[bytes], application(environ, self.start))
        try:
            for part in parts:
                if part or not self._is_chunked:
                    self.write(part)
            self.end()
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()


def _http_date() -> str:
    global _date  # noqa: PLW0603
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]
