"""A form with files, and what it may consist of before anybody parses it."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from routing.api.parts import MOST_PARTS, parse_form
from routing.exceptions import InvalidRequest, RequestTooLarge
from tests.clocks import within

TYPE = "multipart/form-data; boundary=b"
MEGABYTE = 2**20


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def test_fields_and_files_come_as_they_were_sent() -> None:
    raw = (
        part("model", "größer".encode())
        + part("include[]", b"logprobs")
        + part("include[]", b"words")
        + part("image[]", b"\x89PNG\r\n--", '; filename="a b.png"\r\nContent-Type: image/png')
        + part("image[]", b"", '; filename="../../etc/b.png"')
        + b"--b--\r\n"
    )
    form = parse_form(raw, TYPE)
    assert form.fields == {"model": ("größer",), "include": ("logprobs", "words")}
    first, second = form.files["image"]
    assert (first.name, first.content_type, first.content) == ("a b.png", "image/png", b"\x89PNG\r\n--")
    assert (second.name, second.content) == ("b.png", b"")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=3000), times=st.integers(1, 700))
@example(content=b"\r\n--b", times=1)
@example(content=b"\r\n--boundar", times=100_000)
def test_a_file_comes_byte_for_byte(content: bytes, times: int) -> None:
    field = RequestField.from_tuples("file", ("a.wav", content * times, "audio/wav"))
    raw, content_type = encode_multipart_formdata([field, ("model", "m")], "a-boundary-that-is-not-in-it")
    form = parse_form(raw, content_type)
    assert form.files["file"][0].content == content * times
    assert form.fields == {"model": ("m",)}


@pytest.mark.parametrize(
    ("raw", "content_type", "says"),
    [
        (part("a", b"x"), TYPE, "ends early"),
        (b"", TYPE, "ends early"),
        (part("a", b"x") * (MOST_PARTS + 1) + b"--b--", TYPE, f"more than {MOST_PARTS} parts"),
        (b"--b\r\n" * 5_000_000 + b"--b--", TYPE, "more than"),
        (part("a", b"x") + b"--b--", "multipart/form-data", "no boundary"),
        (part("a", b"x") + b"--b--", "multipart/form-data; boundary=" + "b" * 300, "no boundary"),
        (part("a", b"x") + b"--b--", "multipart/form-data; boundary=b\x00c", "ends early"),
        (part("a", b"x", "; name*1*=b; name*=c") + b"--b--", TYPE, "cannot be read"),
        (part("a", b"x") + b"--b--", TYPE + "; boundary*1*=b; boundary*=c", "no boundary"),
        (part("a", b"x", "\r\nContent-Transfer-Encoding: base64") + b"--b--", TYPE, ""),
    ],
    ids=[
        "no end",
        "empty",
        "many parts",
        "all boundaries",
        "no boundary",
        "long boundary",
        "odd boundary",
        "odd names",
        "odd boundaries",
        "base64",
    ],
)
def test_what_is_no_form_is_refused_at_once(raw: bytes, content_type: str, says: str) -> None:
    began = time.monotonic()
    if says:
        with pytest.raises(InvalidRequest, match=says):
            parse_form(raw, content_type)
    else:
        parse_form(raw, content_type)
    assert within(time.monotonic() - began, 1)


def test_fields_are_small_and_files_may_be_large() -> None:
    file = part("file", b"x" * 25 * MEGABYTE, '; filename="a"')
    began = time.monotonic()
    assert len(parse_form(file + b"--b--", TYPE).files["file"][0].content) == 25 * MEGABYTE
    assert within(time.monotonic() - began, 1)
    with pytest.raises(RequestTooLarge):
        parse_form(part("prompt", b"x" * 2 * MEGABYTE) + b"--b--", TYPE)


def test_headers_of_a_part_are_small() -> None:
    with pytest.raises(InvalidRequest, match="header"):
        parse_form(part("model", b"m", "\r\nX-Long: " + "a" * 5000) + b"--b--", TYPE)


@pytest.mark.parametrize("more", ['\nContent-Disposition: form-data; name="model"', "\rX-A: b", "\x00", "\n\nx", "é"])
def test_the_type_of_a_file_is_no_further_header_for_whoever_gets_the_file(more: str) -> None:
    file = part("file", b"gpt-4o", f'; filename="a.wav"\r\nContent-Type: audio/wav{more}')
    with pytest.raises(InvalidRequest, match="Content-Type"):
        parse_form(file + b"--b--", TYPE)
