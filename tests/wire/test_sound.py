"""Sound from a provider, as it comes over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from routing.upstreams import sound
from tests.wire.upstream_calls import Raw, call


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (b"audio/x-odd; rate=24000", "audio/x-odd; rate=24000"),
        (b"audio/mpeg\rX-A: b", "audio/mpeg"),
        (b"audio/mpeg\x01", "audio/mpeg"),
        (b"audio/\xe9", "audio/mpeg"),
    ],
)
def test_a_type_that_no_header_may_have_is_not_handed_on(said: bytes, known: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: " + said + b"\r\nContent-Length: 5\r\n\r\n"
    with Raw(head, b"sound") as server:
        request = call(server.url, {"model": "m", "input": "hi"})
        chunks: list[Any] = list(sound.speak(server.url, {}, request))
    assert [(each["content"].content_type, each["content"].data) for each in chunks] == [(known, b"sound")]
