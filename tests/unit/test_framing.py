"""Our reader of HTTP/1.1 answers: it agrees with Python's own client on valid ones, however they come in pieces, and
ends soon and small on all others."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import random
import time
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3.exceptions import DecodeError, HTTPError, InvalidHeader, ProtocolError

from routing.upstreams.http.framing import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    UNFOLDED_BYTES,
    Chunked,
    Decoder,
    Head,
    HeadReader,
    Sized,
    Unbounded,
    body_of,
    decoder_of,
)
from tests.clocks import within

NAMES = st.text("abcXYZ019-_!#", min_size=1, max_size=20).map(lambda name: f"x-{name}")
VALUES = st.text([chr(code) for code in (9, *range(32, 127), *range(160, 256))], max_size=40).map(
    lambda text: text.strip(" \t")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
CUTS = st.lists(st.integers(0, 600), max_size=12)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def read(parts: list[bytes]) -> tuple[Head, bytes, bool]:
    """The answer in these pieces, after which the connection ends: head, body, and whether another may follow."""
    reader = HeadReader()
    left = iter(parts)
    for part in left:
        if (head := reader.take(part)) is not None:
            break
    else:
        raise ProtocolError("no head")
    body, decoder = body_of(head), decoder_of(head)
    content = []
    data = reader.surplus or next(left, b"")
    while not body.is_done:
        if data or body.is_broken:
            content.append(body.take(data))
        else:
            body.close()
        data = b"" if body.is_broken else next(left, b"")
    unfolded = b"".join(content)
    if decoder is not None:
        unfolded = decoder.take(unfolded)
    return head, unfolded, head.is_lasting and body.is_lasting


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def as_python_reads(data: bytes) -> tuple[int, dict[str, str], bytes]:
    answer = http.client.HTTPResponse(_Socket(data))  # type: ignore[arg-type]
    answer.begin()
    headers: dict[str, str] = {}
    for name, value in answer.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    # It looks for chunks where there is no body.
    return answer.status, headers, b"" if answer.status in (204, 304) else answer.read()


def chunked(parts: Iterable[bytes], extension: str, trailers: list[tuple[str, str]]) -> bytes:
    sent = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension.encode(), part) for part in parts if part)
    return sent + b"0\r\n" + b"".join(f"{n}: {v}\r\n".encode("latin-1") for n, v in trailers) + b"\r\n"


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A valid answer of any framing."""
    status = draw(st.sampled_from([200, 201, 204, 304, 400, 429, 503]))
    content = draw(st.lists(st.binary(max_size=60), max_size=5))
    fields = list(draw(FIELDS))
    body = b"".join(content)
    match draw(st.sampled_from(["sized", "chunked", "ends with the connection"])):
        case "chunked":
            extension = draw(st.sampled_from(["", ";a", ';a="b;c"', " ;name=value"]))
            sent = chunked(content, extension, draw(st.lists(st.tuples(NAMES, VALUES), max_size=3)))
            fields.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
        case "sized":
            sent = body
            fields.append(("Content-Length", str(len(body))))
        case _:
            sent = body
            fields.append(("Connection", "close"))
    draw(st.randoms(use_true_random=False)).shuffle(fields)
    head = f"HTTP/1.{draw(st.sampled_from('01'))} {status}{draw(st.sampled_from([' OK', '', ' ']))}\r\n"
    head += "".join(f"{name}:{draw(st.sampled_from([' ', '', '  ']))}{value}\r\n" for name, value in fields)
    if status in (204, 304):
        sent = b""
    return (head + "\r\n").encode("latin-1") + sent


@settings(max_examples=200, deadline=None)
@given(answer=answers(), cuts=CUTS, interim=st.booleans())
def test_a_valid_answer_is_what_pythons_own_client_reads_however_it_comes_in_pieces(
    answer: bytes, cuts: list[int], interim: bool
) -> None:
    status, headers, body = as_python_reads(answer)
    sent = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer if interim else answer
    head, content, _ = read(pieces(sent, cuts))
    assert (head.status, head.headers, content) == (status, headers, body)


BROKEN = st.sampled_from(
    b"\r|\n|\r\n|\0|:| |HTTP/1.1 200 OK\r\n|Content-Length: 5\r\n|ffffffffffffffff\r\n|Transfer-Encoding: chunked\r\n|"
    b"0\r\n\r\n|-1\r\n|5\r\nhello|\x80\xff|Content-Length: 7\r\n".split(b"|")
)


@settings(max_examples=300, deadline=None)
@given(
    answer=answers(),
    cuts=CUTS,
    noise=st.lists(st.tuples(st.integers(0, 400), BROKEN | st.binary(max_size=6)), max_size=4),
)
def test_whatever_comes_is_read_or_refused_and_never_waited_for_without_end(
    answer: bytes, cuts: list[int], noise: list[tuple[int, bytes]]
) -> None:
    for place, what in noise:
        answer = answer[:place] + what + answer[place:]
    assert outcome(pieces(answer, cuts)) == outcome([answer[i : i + 1] for i in range(len(answer))])


def outcome(parts: list[bytes]) -> tuple[Head, bytes] | None:
    try:
        return read(parts)[:2]
    except HTTPError:
        return None


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6", InvalidHeader),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6", InvalidHeader),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", InvalidHeader),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", InvalidHeader),
        ("HTTP/2 200", ProtocolError),
        ("HTTP/1.1 2000 OK", ProtocolError),
        ("HTTP/1.1 99 Low", ProtocolError),
        ("HTTP/1.1 OK", ProtocolError),
        ("\r\nHTTP/1.1 200 OK", ProtocolError),
        ("<html>", ProtocolError),
    ],
)
def test_a_head_that_two_readers_could_understand_in_two_ways_is_refused(head: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read([head.encode() + b"\r\n\r\nhello"])


@pytest.mark.parametrize(
    ("fields", "framing", "lasts"),
    [
        ("Content-Length: 5", Sized, True),
        ("Content-Length: 5\r\nContent-Length: 5", Sized, True),
        ("Content-Length: 5\r\nConnection: close", Sized, False),
        ("Content-Length : 5", Unbounded, False),
        ("Content-Length: +5", Unbounded, False),
        ("Content-Length: \uff15", Unbounded, False),
        ("Content-Length: 9\r\nTransfer-Encoding: chunked", Chunked, False),
        ("", Unbounded, False),
    ],
)
def test_the_framing_is_what_the_head_says(fields: str, framing: type, lasts: bool) -> None:
    head = HeadReader().take(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".replace("\r\n\r\n\r\n", "\r\n\r\n").encode())
    assert head is not None
    body = body_of(head)
    assert isinstance(body, framing)
    assert (head.is_lasting and body.is_lasting) is lasts


def test_what_comes_after_an_answer_ends_its_connection() -> None:
    for body in (b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"):
        assert read([b"HTTP/1.1 200 OK\r\n" + body])[1:] == (b"hi", True)
        assert read([b"HTTP/1.1 200 OK\r\n" + body + b"HTTP/1.1 200 OK\r\n"])[1:] == (b"hi", False)


@pytest.mark.parametrize(
    "after",
    [
        b"zz\r\n",
        b"\n2\r\n",
        b"hi",
        b"\r\n-2\r\n",
        b"\r\n0x2\r\n",
        b"\r\n 2\r\n",
        b"\r\n\r\n",
        b"\r\n" + b"1" * 16 + b"\r\n",
    ],
)
def test_chunks_that_came_whole_are_given_out_before_what_is_not_a_chunk_is_refused(after: bytes) -> None:
    body = Chunked()
    assert body.take(b"1\r\na\r\n2\r\nbc" + after) == b"abc"
    assert body.is_broken
    with pytest.raises(ProtocolError):
        body.take(b"")


# --- bounds -------------------------------------------------------------------------------------------------


def test_a_head_without_end_is_refused_at_its_bound_and_reading_it_byte_by_byte_takes_no_longer_than_its_length() -> (
    None
):
    reader = HeadReader()
    started = time.process_time()
    taken = 0
    with contextlib.suppress(ProtocolError):
        for taken in range(2 * MAX_HEAD_BYTES):
            reader.take(b"HTTP/1.1 200 OK\r\nX: "[taken : taken + 1] or b" ")
    assert taken == MAX_HEAD_BYTES
    assert within(time.process_time() - started, 2)


def test_interim_answers_count_for_the_bound_of_a_head() -> None:
    reader = HeadReader()
    for _ in range(MAX_HEAD_BYTES // 25):
        reader.take(b"HTTP/1.1 100 Continue\r\n\r\n")
    with pytest.raises(ProtocolError):
        reader.take(b"HTTP/1.1 100 Continue\r\n" * 2)


@pytest.mark.parametrize(
    "field",
    ["a" * 200_000, f"a: b{' ' * 200_000}c", ":" * 200_000, f"a{' ' * 200_000}:", "a:\r" * 60_000, "\r" * 200_000],
)
def test_no_field_takes_longer_to_read_than_its_length(field: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ProtocolError):
        HeadReader().take(f"HTTP/1.1 200 OK\r\nx: y\r\n{field}\r\n\r\n".encode())
    assert within(time.process_time() - started, 0.5)


def test_more_fields_than_the_bound_are_refused() -> None:
    with pytest.raises(ProtocolError):
        HeadReader().take(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (MAX_FIELDS + 1) + b"\r\n")


@pytest.mark.parametrize("begun", [b"", b"5\r\nhello\r\n0\r\n"])
def test_what_stands_between_chunks_and_after_them_is_bounded(begun: bytes) -> None:
    body = Chunked()
    assert body.take(begun) in (b"", b"hello")
    body.take(b"5;" if not begun else b"a: ")
    with contextlib.suppress(ProtocolError):
        for _ in range(2 * MAX_LINE_BYTES):
            body.take(b"x")
    assert body.is_broken
    assert len(body._begun) <= MAX_LINE_BYTES + 1


# --- codings ------------------------------------------------------------------------------------------------


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


@settings(max_examples=50, deadline=None)
@given(text=st.binary(max_size=200), cuts=CUTS, kind=st.sampled_from(["gzip", "members", "deflate", "raw"]))
@example(text=b"", cuts=[], kind="raw")
def test_a_compressed_body_is_what_was_compressed(text: bytes, cuts: list[int], kind: str) -> None:
    packed = {
        "gzip": gzipped(text) + b"\0\0",
        "members": gzipped(text[:50]) + gzipped(text[50:]),
        "deflate": zlib.compress(text),
        "raw": zlib.compress(text)[2:-4],
    }[kind]
    decoder = Decoder(is_gzip=kind in ("gzip", "members"))
    unfolded = b""
    for part in pieces(packed, cuts):
        unfolded += decoder.take(part)
        while decoder.has_more:
            unfolded += decoder.take(b"")
    assert unfolded == text


def test_a_bomb_unfolds_a_bounded_piece_at_a_time() -> None:
    decoder = Decoder(is_gzip=True)
    sizes = [len(decoder.take(gzipped(b"\0" * (20 * UNFOLDED_BYTES))))]
    while decoder.has_more:
        sizes.append(len(decoder.take(b"")))
    assert (max(sizes), sum(sizes)) == (UNFOLDED_BYTES, 20 * UNFOLDED_BYTES)


def test_what_is_not_compressed_as_it_says_is_refused() -> None:
    for is_gzip in (True, False):
        with pytest.raises(DecodeError):
            Decoder(is_gzip=is_gzip).take(b"{" + random.Random(1).randbytes(50))
