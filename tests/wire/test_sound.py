"""Sound at a provider that answers otherwise than it was asked to."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from routing.upstreams import sound
from routing.upstreams.base import FailureKind, File, UpstreamError
from routing.upstreams.registry import upstream_for
from tests.simulator import Simulator
from tests.wire.upstream_calls import Raw, call, call_to


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_a_stream_of_a_format_that_is_text_has_the_whole_text(form: str) -> None:
    fields: dict[str, Any] = {"model": ("alias",), "response_format": (form,), "stream": ("true",)}
    with Simulator() as sim:
        request = call_to(sim, "openai", {**fields, "file": File("a.wav", "audio/wav", b"x", 1)}, model="whisper-1")
        whole = upstream_for("openai").write_down(request, "audio/transcriptions")
        stream = upstream_for("openai").write_down_live(request, "audio/transcriptions")
        events = [chunk["native"] for chunk in stream]
    text = whole.body["content"].data.decode()
    counted: dict[str, Any] = {}
    if form == "text":  # is asked for as JSON, which has a count and does not end with a new line
        text, counted = text.rstrip("\n"), {"usage": {"type": "duration", "seconds": 2}}
    assert events == [
        {"type": "transcript.text.delta", "delta": text},
        {"type": "transcript.text.done", "text": text, **counted},
    ]


def spoken(body: dict[str, Any]) -> list[Any]:
    """What is read of an answer in JSON, as Mistral sends its sound."""
    said = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said)
    with Simulator() as sim, Raw(head + said) as raw:
        request = call_to(sim, "openai", {"model": "alias", "input": "hello"}, model="tts-1")
        deployment = replace(request.deployment, base_url=f"http://{raw.host}/v1")
        return list(upstream_for("openai").speak(replace(request, deployment=deployment)))


@pytest.mark.parametrize("audio", ["größe", "a", "", None, 7])
def test_sound_that_is_no_base64_is_no_answer(audio: Any) -> None:
    with pytest.raises(UpstreamError) as refused:
        spoken({"audio_data": audio})
    assert (refused.value.kind, refused.value.consumed) == (FailureKind.MALFORMED, True)


def test_sound_in_base64_is_unpacked() -> None:
    (chunk,) = spoken({"audio_data": base64.b64encode(b"sound").decode()})
    assert chunk["content"].data == b"sound"


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
