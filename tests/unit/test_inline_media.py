"""Bytes inside a request are what they are, whatever they are called."""

from __future__ import annotations

import struct
import zlib

import pytest

from routing.upstreams.inline_media import Kind, Unmeasurable, measured, measured_url
from tests.media import JPEG, PNG, data_url, encoded, mp3, pdf, png, wav

FLAC = b"fLaC\0\0\0\x22" + b"\0" * 60
WEBP = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (99).to_bytes(3, "little") + (9).to_bytes(3, "little")


@pytest.mark.parametrize(
    ("declared", "data", "kind", "amount"),
    [
        ("image/png", png(), Kind.PICTURE, 1),
        ("image/png", PNG, Kind.PICTURE, 1),  # cut off: nobody reads more than one picture in it
        ("image/jpeg", png(100, 100), Kind.PICTURE, 1),  # one picture for another: a common mistake, and harmless
        ("image/png", png(100, 1050), Kind.PICTURE, 11),
        ("image/gif", b"GIF89a" + struct.pack("<HH", 30, 10), Kind.PICTURE, 3),
        ("image/webp", WEBP, Kind.PICTURE, 10),
        ("image/jpeg", JPEG, Kind.PICTURE, 1),
        ("image/jpeg", b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\0\x10\0\x50\x03", Kind.PICTURE, 5),
        ("image/heic", b"\0\0\0\x18ftypheic" + b"\0" * 20, Kind.PICTURE, 1),
        ("text/plain", b"x" * 3_000, Kind.TEXT, 3_000),
        ("application/json", b"{}" * 300, Kind.TEXT, 600),
        ("audio/wav", wav(10), Kind.SOUND, 11),  # the head's bytes count as sound
        ("audio/wav", wav(10, claims=16), Kind.SOUND, 11),
        ("audio/x-wav", wav(1, rate=1, bits=8), Kind.SOUND, 45),
        ("audio/mpeg", mp3(10_425), Kind.SOUND, 11),
        ("audio/mp3", b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 10 + mp3(4_170), Kind.SOUND, 5),
        ("application/pdf", pdf(1), Kind.DOCUMENT, 1),
        ("application/pdf", pdf(120), Kind.DOCUMENT, 120),
        ("application/pdf", pdf(120, packed=True), Kind.DOCUMENT, 120),
    ],
)
def test_what_is_known_is_measured(declared: str, data: bytes, kind: Kind, amount: int) -> None:
    found = measured_url(data_url(declared, data))
    assert (found.kind, found.amount) == (kind, amount)


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        ("image/png", b"a text of any length"),
        ("image/png", pdf(1)),
        ("image/png", b"\0\0\0\x18ftypmp42"),
        ("video/mp4", b"\0\0\0\x18ftypmp42"),
        ("text/plain", png()),
        ("text/plain", pdf(3)),
        ("application/pdf", png()),
        ("audio/wav", FLAC),
        ("audio/flac", FLAC),
        ("audio/mpeg", FLAC),
        ("audio/mpeg", b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 10 + FLAC),
        ("audio/mpeg", b"\xff\xfb\x00\0" + b"\0" * 40),  # a rate that its head does not say
        ("audio/ogg", b"OggS" + b"\0" * 60),
        ("audio/wav", wav(1, codec=2)),
        ("audio/wav", wav(1)[:20]),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", b"PK\x03\x04"),
        ("application/pdf", b"%PDF-1.4 no pages"),
        ("application/pdf", pdf(3, more=b"7 0 obj<</Encrypt 8 0 R>>endobj")),
        ("application/pdf", pdf(3, kids=b"3 0 R 4 0 R 3 0 R")),  # a page that is there twice
        ("application/pdf", pdf(3).replace(b"/Kids[", b"/Kids 9 0 R[")),
        (
            "application/pdf",
            pdf(3, packed=True).replace(b"/Length", b"/Lenght").replace(b"stream\r\nx", b"stream\r\n_"),
        ),
    ],
)
def test_what_nobody_can_measure_is_refused(declared: str, data: bytes) -> None:
    with pytest.raises(Unmeasurable):
        measured_url(data_url(declared, data))


def test_names_in_a_pdf_are_read_however_they_are_written() -> None:
    hidden = pdf(9).replace(b"/Type /Page ", b"/#54ype%remark\n/P#61ge ").replace(b"/Count 9", b"/C#6funt 2")
    assert measured("application/pdf", encoded(hidden)).amount == 9


def test_a_count_that_is_higher_than_the_pages_is_believed() -> None:
    assert measured("application/pdf", encoded(pdf(2).replace(b"/Count 2", b"/Count 700"))).amount == 700


def test_an_object_stream_that_grows_without_end_is_given_up() -> None:
    bomb = zlib.compress(b"/Type/Page " * 10_000_000)
    data = b"%PDF-1.7\n9 0 obj<</Type/ObjStm>>stream\n" + bomb
    with pytest.raises(Unmeasurable, match="cannot be counted"):
        measured("application/pdf", encoded(data))


@pytest.mark.parametrize("url", ["https://x/a.png", "data:image/png,%89PNG", "data:image/png;base64,%iVBORw0KGgo", ""])
def test_what_is_not_base64_is_refused(url: str) -> None:
    with pytest.raises(Unmeasurable):
        measured_url(url)


def test_a_type_that_is_declared_goes_before_the_urls_own() -> None:
    with pytest.raises(Unmeasurable, match="video/mp4"):
        measured_url(data_url("image/png", png()), "video/mp4")
