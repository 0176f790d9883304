"""The short way of plain requests through the server: whatever it takes, gunicorn's own parser and response make the
same of it, and whatever it does not take comes to them whole."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest
from gunicorn.config import Config
from gunicorn.http import errors, wsgi
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway_project.plain_requests import PlainAnswer, PlainReader, PlainRequest, plain_environ
from gateway_project.worker import ClientParser

ADDRESS = ("192.0.2.7", 4711)
PROXY = ("127.0.0.1", 4712)  # one whose word gunicorn takes for the scheme
SERVER = ("127.0.0.1", 4000)
#: What belongs to one of the two ways, or cannot be compared.
NOT_COMPARED = ("wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket")


class Listener:
    def getsockname(self) -> tuple[str, int]:
        return SERVER


class Client:
    """The client's side of a connection, which keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.sent.append(bytes(data))

    def send(self, data: bytes) -> int:
        self.sent.append(bytes(data[:1000]))
        return min(len(data), 1000)


def configured() -> Config:
    cfg = Config()
    cfg.set("limit_request_line", 8190)
    cfg.set("limit_request_fields", 100)
    cfg.set("limit_request_field_size", 8190)
    cfg.set("forwarder_headers", "")
    return cfg


CFG = configured()
ENVIRON = plain_environ(CFG)


def conversation(pieces: Iterable[bytes], address: tuple[str, int] = ADDRESS, *, short: bool) -> list[Any]:
    """Every request of a connection as the application would get it, and how the connection ended."""
    assert ENVIRON is not None
    unreader = IterUnreader(pieces)
    client = Client()
    parser = ClientParser(CFG, [], address)
    parser.unreader = unreader
    plain: Any = PlainReader(CFG, ENVIRON, Listener(), client, address)  # type: ignore[arg-type]
    found: list[Any] = []
    while True:
        try:
            request = (plain.next(unreader) if short else None) or next(parser)
            if isinstance(request, PlainRequest):
                environ, closes = request.environ, request.closes
            else:
                _, environ = wsgi.create(request, client, address, SERVER, CFG)
                environ["wsgi.multithread"] = True
                closes = request.should_close()
            seen = {name: value for name, value in environ.items() if name not in NOT_COMPARED}
            found.append((seen, request.body.read()))
        except (StopIteration, errors.NoMoreData, errors.ParseException) as error:
            return [*found, type(error).__name__]
        if closes:
            return [*found, "closed"]


def is_taken(data: bytes, address: tuple[str, int] = ADDRESS) -> bool:
    assert ENVIRON is not None
    reader: Any = PlainReader(CFG, ENVIRON, Listener(), Client(), address)  # type: ignore[arg-type]
    return reader.next(IterUnreader([data])) is not None


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
BODY = b"Content-Length: 2\r\n\r\n{}"
#: Heads by which a server and a proxy in front of it may be made to see different requests, and other odd ones.
ODD = [
    POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    POST + b"Content-Length: 2, 2\r\n\r\n{}",
    POST + b"Content-Length: +2\r\n\r\n{}",
    POST + b"Content-Length: -2\r\n\r\n{}",
    POST + b"Content-Length: 0x2\r\n\r\n{}",
    POST + b"Content-Length: 2 2\r\n\r\n{}",
    POST + b"Content-Length: \xb2\r\n\r\n{}",
    POST + b"Content-Length:\r\n\r\n{}",
    POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    POST + b"Content-Length : 2\r\n\r\n{}",
    POST + b" Content-Length: 2\r\n\r\n{}",
    POST + b"Content_Length: 2\r\n\r\n{}",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n{}",
    POST + b"Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    POST + b"Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    POST + b"X-A: b\r\n c\r\n" + BODY,
    POST + b"X-A: b\r\n\tTransfer-Encoding: chunked\r\n" + BODY,
    POST + b"X-A: b\nX-B: c\r\n" + BODY,
    POST + b"X-A: b\rX-B: c\r\n" + BODY,
    POST + b"X-A: b\0c\r\n" + BODY,
    POST + b"X-A: b\x7fc\r\n" + BODY,
    POST + b"X-A: \xe9\x85\r\n" + BODY,
    POST + b"X\xe9: b\r\n" + BODY,
    POST + b"X A: b\r\n" + BODY,
    POST + b": b\r\n" + BODY,
    POST + b"no field\r\n" + BODY,
    POST + b"X-A:\r\nX-B:   \r\n" + BODY,
    POST + b"X.A: b\r\n" + BODY,
    POST + b"X-A: b\r\nX-a: c\r\n" + BODY,
    POST + b"Host: other\r\n" + BODY,
    POST + b"Content-Type: a\r\nContent-Type: b\r\n" + BODY,
    POST + b"Expect: 100-continue\r\n" + BODY,
    POST + b"Expect: the-worst\r\n" + BODY,
    POST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" + BODY,
    POST + b"Connection: close\r\n" + BODY + POST + BODY,
    POST + b"Connection: Keep-Alive\r\n" + BODY + POST + BODY,
    POST + b"Connection: close, x\r\n" + BODY + POST + BODY,
    POST + b"SCRIPT-NAME: /v1\r\nPATH-INFO: /admin\r\n" + BODY,
    POST + b"X-Forwarded-Proto: https\r\n" + BODY,
    POST + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n" + BODY,
    POST + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n" + BODY,
    POST + b"X-Long: " + b"x" * 8170 + b"\r\n" + BODY,
    POST + b"X-Long: " + b"x" * 8200 + b"\r\n" + BODY,
    POST + b"".join(b"X-%d: y\r\n" % number for number in range(90)) + BODY,
    POST + b"".join(b"X-%d: y\r\n" % number for number in range(120)) + BODY,
    POST + BODY + b"\r\n" + POST + BODY,
    POST + BODY + b"GARBAGE",
    POST + b"Content-Length: 10\r\n\r\n{}",
    POST + b"\r\n" + POST + BODY,
    POST[:-2],
    POST,
    b"POST /v1/x HTTP/1.1\r\n" + BODY,
    b"POST /v1/x HTTP/1.0\r\nHost: gateway\r\n" + BODY,
    b"POST /v1/x HTTP/1.1 \r\nHost: gateway\r\n" + BODY,
    b"POST  /v1/x HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST\t/v1/x HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /v1/x y HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST http://other/v1/x HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST //other/v1/x HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /v1//x;y=z?a=b?c#d HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /v1/x#y HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /v1/[x]:y@z?[a]=b&c HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /v1/%2e%2E/x%00%zz%E9?a=%20 HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /v1/\xc3\xa9 HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /" + b"x" * 4100 + b" HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST v1/x HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"POST * HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"post /v1/x HTTP/1.1\r\nHost: gateway\r\n" + BODY,
    b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\nGET /health HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"GET /admin/ HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"GET /%61dmin/ HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: gateway\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"GET / HTTP/1.1\nHost: gateway\n\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"",
]


@pytest.mark.parametrize("address", [ADDRESS, PROXY])
@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
def test_an_odd_request_is_the_same_with_the_short_way_as_without(data: bytes, address: tuple[str, int]) -> None:
    for pieces in (
        [data],
        [data[:30], data[30:]],
        [data[i : i + 1] for i in range(len(data))] if len(data) < 500 else [data],
    ):
        assert conversation(pieces, address, short=True) == conversation(pieces, address, short=False)


def test_the_short_way_takes_what_official_clients_send_and_leaves_what_must_be_judged() -> None:
    sent = (
        b"POST /v1/chat/completions?beta=true HTTP/1.1\r\nHost: 127.0.0.1:4000\r\nAccept-Encoding: gzip, deflate\r\n"
        b"Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        b"User-Agent: OpenAI/Python 1.99.0\r\nX-Stainless-Lang: python\r\nAuthorization: Bearer sk-x\r\n"
        b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert is_taken(sent)
    assert is_taken(sent, PROXY)
    assert is_taken(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    for framing in (
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Expect: 100-continue\r\n",
    ):
        assert not is_taken(POST + framing + b"\r\n{}")
    for page in (b"/admin/", b"/static/a.js", b"/%61dmin/", b"/static%2Fa.js"):
        assert not is_taken(b"GET " + page + b" HTTP/1.1\r\nHost: x\r\n\r\n")


FIELDS = (
    "X-A|Content-Type|Content-Length|Content-Length|Transfer-Encoding|Connection|Host|X-Forwarded-Proto|X_A|Expect|TE"
)
NAMES = st.sampled_from(FIELDS.split("|"))
VALUES = st.sampled_from(
    ["a", "2", "0", "close", "keep-alive", "chunked", "https", " x ", "", "\xe9", "a, b", "100-continue", "\t"]
) | st.text([chr(code) for code in (0, 9, 10, 13, *range(32, 40), 127, 160, 255)], max_size=4)
LINES = st.tuples(NAMES, st.sampled_from([": ", ":", " :"]), VALUES).map("".join)
TARGETS = st.sampled_from(["/v1/x", "/v1/x?a=b", "/", "//x", "*", "http://y/x", "/x%2fy", "/x#y", "/\xe9", "/a b"])
REQUESTS = st.builds(
    lambda method, target, version, lines, end, body: (
        f"{method} {target} HTTP/{version}{end}" + "".join(f"{line}{end}" for line in lines) + end + body
    ).encode("latin-1"),
    st.sampled_from(["POST", "GET", "POST", "PUT", "HEAD"]),
    TARGETS,
    st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0"]),
    st.lists(st.just("Host: x") | LINES, max_size=6),
    st.sampled_from(["\r\n", "\r\n", "\r\n", "\r\n", "\n"]),
    st.sampled_from(["", "{}", "2\r\n{}\r\n0\r\n\r\n"]),
)


@settings(max_examples=400, deadline=None)
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    proxied=st.booleans(),
)
@example(requests=[POST + BODY, POST + BODY], cuts=[], proxied=False)
def test_random_requests_are_the_same_with_the_short_way_as_without(
    requests: list[bytes], cuts: list[int], proxied: bool
) -> None:
    data = b"".join(requests)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    address = PROXY if proxied else ADDRESS
    assert conversation(pieces, address, short=True) == conversation(pieces, address, short=False)


# --- answers ------------------------------------------------------------------------------------------------


class Asked:
    method = "POST"
    version = (1, 1)
    headers: ClassVar[list[tuple[str, str]]] = []

    def should_close(self) -> bool:
        return False


def by_gunicorn(status: str, headers: list[tuple[str, str]], parts: list[bytes], *, closes: bool) -> bytes:
    client = Client()
    response = wsgi.Response(Asked(), client, CFG)
    if closes:
        response.force_close()
    response.start_response(status, headers)
    for part in parts:
        response.write(part)
    response.close()
    return b"".join(client.sent)


def by_the_short_way(status: str, headers: list[tuple[str, str]], parts: list[bytes], *, closes: bool) -> list[bytes]:
    client = Client()
    answer = PlainAnswer(client, closes=closes)  # type: ignore[arg-type]

    def application(environ: dict[str, Any], start: Any) -> list[bytes]:
        start(status, headers)
        return parts

    answer.run(application, {})
    return client.sent


def undated(sent: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]+", b"", sent)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["Content-Type", "x-a", "X-Request-Id", "connection", "Server", "Keep-Alive", "Vary"]),
        st.sampled_from(["a", "a b", "", "\xe9", "close"]),
    ),
    max_size=5,
)
PARTS = st.lists(st.binary(max_size=20) | st.just(b"x" * 3000), max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    status=st.sampled_from(["200 OK", "204 No Content", "304 Not Modified", "429 Too Many", "500"]),
    headers=HEADERS,
    parts=PARTS,
    sized=st.sampled_from([None, 0, 5, -5]),
    closes=st.booleans(),
)
def test_an_answer_is_the_same_by_the_short_way_as_by_gunicorn(
    status: str, headers: list[tuple[str, str]], parts: list[bytes], sized: int | None, closes: bool
) -> None:
    if sized is not None:  # also a length that is not the body's
        headers = [*headers, ("Content-Length", str(max(0, sum(map(len, parts)) + sized)))]
    ours = by_the_short_way(status, headers, parts, closes=closes)
    assert undated(b"".join(ours)) == undated(by_gunicorn(status, headers, parts, closes=closes))


def test_head_and_body_of_a_whole_answer_leave_in_one_send() -> None:
    sent = by_the_short_way("200 OK", [("Content-Length", "2")], [b"{}"], closes=False)
    assert len(sent) == 1
    assert sent[0].endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("part", [b"", b"{"])
def test_after_a_body_shorter_than_its_length_the_connection_ends(part: bytes) -> None:
    client = Client()
    answer = PlainAnswer(client, closes=False)  # type: ignore[arg-type]

    def application(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [part]

    answer.run(application, {})
    assert answer.closes


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\ny", "a\0", "\u20ac", "a\r\n\r\nb"])
@pytest.mark.parametrize("place", ["name", "value", "status"])
def test_no_answer_can_be_split_by_a_header(value: str, place: str) -> None:
    client = Client()
    answer = PlainAnswer(client, closes=False)  # type: ignore[arg-type]
    status = f"200 {value}" if place == "status" else "200 OK"
    header = (value, "a") if place == "name" else ("X-A", value if place == "value" else "a")
    with pytest.raises(ValueError, match="characters"):
        answer.start(status, [header])
    assert client.sent == []
