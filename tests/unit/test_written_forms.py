"""A form that is written for a provider has the parts that it was given, whatever their names are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.api.parts import parse_form
from routing.upstreams.base import File
from routing.upstreams.http.forms import written

HOSTILE = [
    'a"; name="model',
    'a"\r\nContent-Disposition: form-data; name="model',
    "a\r\n\r\nother-model\r\n--",
    "a\nb",
    "a\rb",
    "mod\0el",
    "a\x0bb\x7f",
    "\ud800",
    "",
]


def heads(body: bytes, content_type: str) -> list[bytes]:
    """The lines between a boundary and an empty line."""
    mark = b"--" + content_type.partition("boundary=")[2].encode()
    return [line for part in body.split(mark)[1:-1] for line in part.partition(b"\r\n\r\n")[0].split(b"\r\n") if line]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_stays_within_its_quotation(name: str) -> None:
    body, content_type = written([(name, "v"), ("file", File(name, "audio/wav", b"sound")), ("model", "ours")])
    lines = heads(body, content_type)
    assert len(lines) == 4
    for line in lines:
        assert not any(byte < 32 or byte == 127 for byte in line)
        assert line.count(b'"') in (0, 2, 4)
    form = parse_form(body, content_type)
    assert form.fields["model"] == ("ours",)


@pytest.mark.parametrize(
    "given_type",
    [
        'audio/wav\nContent-Disposition: form-data; name="model"',
        "audio/wav\r\n\r\nother",
        "audio/wav\0",
        "audio/wav; name=x",
        "größe/wav",
        "",
        "audio",
    ],
)
def test_the_type_of_a_file_is_a_plain_one(given_type: str) -> None:
    body, content_type = written([("file", File("a.wav", given_type, b"sound"))])
    assert heads(body, content_type)[1] == b"Content-Type: application/octet-stream"


@settings(max_examples=50, deadline=None)
@given(text=st.text(), content=st.binary())
def test_what_is_sent_arrives_as_it_was(text: str, content: bytes) -> None:
    body, content_type = written([("prompt", text), ("file", File("a b.mp3", "audio/mpeg", content or b"x"))])
    form = parse_form(body, content_type)
    assert form.fields == {"prompt": (text,)}
    (file,) = form.files["file"]
    assert (file.name, file.content_type, file.content) == ("a b.mp3", "audio/mpeg", content or b"x")
