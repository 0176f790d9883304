"""Speech, transcriptions and translations as the official client asks for them: the answers, the chain, the books."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.clocks import eventually
from tests.e2e.gateway import Gateway, Route, http
from tests.prices import LONG_AGO, add_price
from tests.simulator import Behaviour, faults
from tests.simulator.openai_sound import sound

SOUNDS = Path(__file__).parents[1] / "sounds"
TEXT = "Hello there, this is a test of speech."
#: As litellm's price map has them, a million characters and tokens, and a second.
PRICES = {
    "tts-1": {"input_character": "15"},
    "gpt-4o-mini-tts": {"input": "0.6", "output": "10", "audio_output": "12"},
    "whisper-1": {"input_second": "0.0001"},
    "gpt-4o-transcribe": {"input": "2.5", "audio_input": "6", "output": "10"},
}
MILLION = Decimal(1_000_000)


@pytest.fixture
def loose_gateway(gateway: Gateway) -> Iterator[Gateway]:
    with gateway.no_hard_budget():
        yield gateway


def route_of(gateway: Gateway, model: str, *wires: str, **provider: Any) -> Route:
    route = gateway.route(*(wires or ("openai",)), model=model, cap=None, priced=False, **provider)
    with gateway.orm():
        for name in route.providers:
            add_price(name, model, LONG_AGO, **PRICES[model])
    return route


def speak(gateway: Gateway, route: Route, text: str = TEXT, **parameters: Any) -> Any:
    return gateway.client().audio.speech.create(model=route.alias, input=text, voice="alloy", **parameters)


def wav(seconds: float = 3) -> tuple[str, bytes, str]:
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * int(8000 * seconds))
    return "speech.wav", raw.getvalue(), "audio/wav"


def write_down(gateway: Gateway, route: Route, file: Any = None, **parameters: Any) -> Any:
    return gateway.client().audio.transcriptions.create(model=route.alias, file=file or wav(), **parameters)


# --- speech ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp3", "wav", "opus"])
def test_the_official_client_gets_the_sound_and_the_books_its_characters(gateway: Gateway, kind: Any) -> None:
    route = route_of(gateway, "tts-1")
    text = "Grüße an 李 Lei"
    answer = speak(gateway, route, text, response_format=kind)
    assert answer.content == sound(text, kind)
    types = {"mp3": "audio/mpeg", "wav": "audio/wav", "opus": "audio/opus"}
    assert answer.response.headers["content-type"] == types[kind]
    assert answer.response.headers["x-gateway-provider"] == route.providers[0]
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["quantities"]) == (
        "speech",
        "posted",
        {"input_character": f"{len(text)}"},
    )
    assert entry["cost_usd"] == entry["hold_usd"] == len(text) * Decimal(15) / MILLION


def test_sound_comes_while_it_is_made(gateway: Gateway) -> None:
    route = route_of(gateway, "tts-1")
    gateway.sim.behave(route.providers[0], Behaviour(token_s=0.2))
    streaming = gateway.client().audio.speech.with_streaming_response
    with streaming.create(model=route.alias, input=TEXT, voice="alloy") as answer:
        pieces = list(answer.iter_bytes(1))
        assert len(pieces) > 1
        assert b"".join(pieces) == sound(TEXT)
    gateway.wait_settled(route.alias)


def test_a_model_that_counts_tokens_is_asked_for_its_count(gateway: Gateway) -> None:
    """It tells the count in events alone, and the client gets bytes all the same."""
    route = route_of(gateway, "gpt-4o-mini-tts")
    answer = speak(gateway, route, instructions="Whisper.")
    assert answer.content == sound(TEXT)
    assert answer.response.headers["content-type"] == "audio/mpeg"
    (received,) = gateway.sim.requests_to(route.providers[0])
    assert received.body is not None
    assert received.body["stream_format"] == "sse"
    entry = gateway.entry(route.alias)
    assert (entry["usage_source"], entry["input_tokens"]) == ("provider", 9)
    assert entry["cost_usd"] == (9 * Decimal("0.6") + entry["output_tokens"] * Decimal(12)) / MILLION
    assert entry["hold_usd"] > 16_384 * Decimal(12) / MILLION > entry["cost_usd"] > 0


def test_a_client_may_ask_for_events(gateway: Gateway) -> None:
    route = route_of(gateway, "gpt-4o-mini-tts")
    body = {"model": route.alias, "input": TEXT, "voice": "alloy", "stream_format": "sse"}
    answer = gateway.post(json.dumps(body).encode(), path="/v1/audio/speech")
    assert answer.headers["content-type"] == "text/event-stream"
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert events[-1]["type"] == "speech.audio.done"
    entry = gateway.entry(route.alias)
    assert events[-1]["usage"]["output_tokens"] == entry["output_tokens"]
    assert Decimal(str(events[-1]["usage"]["cost_usd"])) == entry["cost_usd"]


def test_another_provider_speaks_when_the_first_cannot(gateway: Gateway) -> None:
    route = route_of(gateway, "tts-1", "openai", "openai")
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    assert speak(gateway, route).content == sound(TEXT)
    entry = gateway.entry(route.alias)
    assert (entry["provider"], entry["fallback"]) == (route.providers[1], True)


def test_a_provider_without_speech_is_passed_over(gateway: Gateway) -> None:
    route = route_of(gateway, "tts-1", "anthropic", "openai")
    assert speak(gateway, route).content == sound(TEXT)
    gateway.wait_settled(route.alias)
    first, second = gateway.attempts(route.alias)
    assert (first["outcome"], first["cost_usd"]) == ("capability", 0)
    assert second["outcome"] == "answered"


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
def test_half_a_sound_is_not_taken_for_all_of_it(gateway: Gateway, model: str) -> None:
    route = route_of(gateway, model)
    gateway.sim.behave(route.providers[0], Behaviour(cut_after=2, cut="close", token_s=0.05))
    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        speak(gateway, route)
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["error_code"], entry["state"]) == (200, "stream_interrupted", "posted")
    assert entry["usage_source"] == "estimated"
    assert 0 < entry["cost_usd"] <= entry["hold_usd"]
    assert not gateway.log_lines(levelname="ERROR")


def test_an_error_before_the_first_byte_keeps_its_status(gateway: Gateway) -> None:
    route = route_of(gateway, "tts-1", retries=0)
    gateway.sim.behave(route.providers[0], faults.rate_limited())
    with pytest.raises(openai.RateLimitError):
        speak(gateway, route)
    assert gateway.entry(route.alias)["state"] == "voided"


def test_a_client_that_leaves_pays_what_was_made(gateway: Gateway) -> None:
    route = route_of(gateway, "tts-1")
    gateway.sim.behave(route.providers[0], Behaviour(token_s=1))
    streaming = gateway.client().audio.speech.with_streaming_response
    with streaming.create(model=route.alias, input=TEXT, voice="alloy") as answer:
        next(answer.iter_bytes())
    entry = gateway.entry(route.alias)
    assert (entry["http_status"], entry["error_code"]) == (499, "client_closed")
    assert entry["cost_usd"] == len(TEXT) * Decimal(15) / MILLION
    (received,) = gateway.sim.requests_to(route.providers[0])
    assert eventually(lambda: gateway.sim.requests_to(route.providers[0])[0].closed_by_client_at is not None), received


def test_speech_beyond_a_hard_budget_is_refused(gateway: Gateway) -> None:
    route = route_of(gateway, "gpt-4o-mini-tts")
    gateway.budget(route, "0.1")
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError, match="could cost") as refused:
        speak(gateway, route)
    assert refused.value.code == "request_exceeds_budget"
    assert "max_tokens" not in refused.value.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": " "}, "input"),
        ({"input": ["a"]}, "input"),
        ({"input": "a" * 100_001}, "input"),
        ({"input": "a", "response_format": "mp4"}, "response_format"),
        ({"input": "a", "stream_format": "text"}, "stream_format"),
        ({"input": "a", "voice": 5}, "voice"),
        ({"input": "a", "speed": "fast"}, "speed"),
        ({"input": "a", "instructions": 5}, "instructions"),
        ({"input": "a", "choir_of_tomorrow": 5}, "choir_of_tomorrow"),  # nobody knows what it costs
    ],
)
def test_what_is_wrong_with_speech_is_named(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = route_of(gateway, "tts-1")
    with gateway.nothing_written():
        answer = gateway.post(json.dumps({"model": route.alias, **body}).encode(), path="/v1/audio/speech")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


# --- transcriptions and translations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json", "verbose_json", "text", "srt", "vtt"])
def test_a_transcript_comes_in_every_format_and_costs_its_seconds(gateway: Gateway, kind: Any) -> None:
    route = route_of(gateway, "whisper-1")
    gateway.sim.behave(route.providers[0], Behaviour(text="hello world"))
    more: dict[str, Any] = {"timestamp_granularities": ["word", "segment"]} if kind == "verbose_json" else {}
    answer = write_down(gateway, route, wav(2.5), response_format=kind, prompt="Names: Lei", language="en", **more)
    text = answer if isinstance(answer, str) else answer.text
    assert "hello world" in text
    if kind == "vtt":
        assert text.startswith("WEBVTT")
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["quantities"]["input_second"]) == ("transcriptions", "3")
    assert entry["usage_source"] == ("provider" if "json" in kind else "estimated")
    assert (entry["cost_usd"], entry["hold_usd"]) == (Decimal("0.0003"), Decimal("0.0004"))


def test_the_provider_gets_the_form_as_it_was_sent(gateway: Gateway) -> None:
    route = route_of(gateway, "whisper-1")
    file = wav()
    write_down(
        gateway, route, file, response_format="verbose_json", timestamp_granularities=["word", "segment"],
        temperature=0.5,
        extra_body={"user": "u-1", "metadata": {"team": "a"}},
    )  # fmt: skip
    (received,) = gateway.sim.requests_to(route.providers[0])
    assert received.body is not None
    assert received.body["file"] == {"name": file[0], "type": file[2], "content": file[1]}
    assert (received.body["model"], received.body["temperature"]) == ("whisper-1", "0.5")
    assert received.raw.count(b'name="timestamp_granularities[]"') == 2
    assert not {"user", "metadata[team]"} & received.body.keys()
    entry = gateway.entry(route.alias)
    assert (entry["end_user"], entry["tags"]) == ("u-1", {"team": "a"})


def test_tokens_of_sound_cost_their_own_rate(gateway: Gateway) -> None:
    route = route_of(gateway, "gpt-4o-transcribe")
    gateway.sim.behave(route.providers[0], Behaviour(text="hello world"))
    answer = write_down(gateway, route, prompt="Names: Lei")
    assert (answer.usage.type, answer.usage.input_tokens) == ("tokens", 32)
    entry = gateway.entry(route.alias)
    assert entry["cost_usd"] == (2 * Decimal("2.5") + 30 * Decimal(6) + 2 * Decimal(10)) / MILLION
    assert entry["hold_usd"] > entry["cost_usd"]


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
def test_a_transcript_may_be_streamed(gateway: Gateway, model: str) -> None:
    """Whisper does not stream: it ignores the wish, and the client gets events all the same."""
    route = route_of(gateway, model)
    gateway.sim.behave(route.providers[0], Behaviour(text="hello world again"))
    events = list(write_down(gateway, route, stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == "hello world again"
    entry = gateway.entry(route.alias)
    assert (entry["streamed"], entry["usage_source"]) == (True, "provider")
    assert events[-1].usage.cost_usd == float(entry["cost_usd"])


def test_a_broken_transcript_says_so(gateway: Gateway) -> None:
    route = route_of(gateway, "gpt-4o-transcribe")
    gateway.sim.behave(route.providers[0], Behaviour(text="hello world again", cut_after=1))
    with pytest.raises(openai.APIError, match="broke off"):
        list(write_down(gateway, route, stream=True))
    entry = gateway.entry(route.alias)
    assert entry["error_code"] == "stream_interrupted"
    assert entry["usage_source"] == "estimated"
    assert 0 < entry["cost_usd"] <= entry["hold_usd"]


def test_translations_are_asked_at_their_own_path(gateway: Gateway) -> None:
    route = route_of(gateway, "whisper-1", "openai", "openai")
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    gateway.sim.behave(route.providers[1], Behaviour(text="good morning"))
    answer = gateway.client().audio.translations.create(model=route.alias, file=wav())
    assert answer.text == "good morning"
    assert gateway.sim.requests_to(route.providers[1])[0].path.endswith("/audio/translations")
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["fallback"], entry["cost_usd"]) == ("translations", True, Decimal("0.0003"))


@pytest.mark.parametrize("name", ["constant.mp3", "tone.flac", "opus.ogg", "live.webm", "aac.m4a"])
def test_every_kind_of_file_is_held_for(gateway: Gateway, name: str) -> None:
    route = route_of(gateway, "whisper-1")
    write_down(gateway, route, (name, (SOUNDS / name).read_bytes()), response_format="text")
    entry = gateway.entry(route.alias)
    assert (entry["quantities"], entry["hold_usd"]) == ({"input_second": "1"}, Decimal("0.0002"))


def test_a_file_that_nobody_can_read_is_refused_under_a_hard_budget(gateway: Gateway) -> None:
    route = route_of(gateway, "whisper-1")
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError, match="how long its sound is") as refused:
        write_down(gateway, route, ("speech.wav", b"RIFF and nothing more"))
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", "file")


def test_the_same_file_passes_elsewhere(loose_gateway: Gateway) -> None:
    route = route_of(loose_gateway, "whisper-1")
    assert write_down(loose_gateway, route, ("speech.wav", b"RIFF and nothing more")).text
    assert loose_gateway.entry(route.alias)["state"] == "posted"


def test_chunks_are_unbounded_where_tokens_are_billed(gateway: Gateway) -> None:
    route, by_seconds = route_of(gateway, "gpt-4o-transcribe"), route_of(gateway, "whisper-1")
    with gateway.nothing_written(), pytest.raises(openai.BadRequestError) as refused:
        write_down(gateway, route, chunking_strategy="auto")
    assert (refused.value.code, refused.value.param) == ("unbounded_cost", "chunking_strategy")
    write_down(gateway, by_seconds, chunking_strategy="auto")
    gateway.wait_settled(by_seconds.alias)


def test_a_file_above_openais_limit_is_refused_as_too_large(gateway: Gateway) -> None:
    route = route_of(gateway, "whisper-1")
    with gateway.nothing_written(), pytest.raises(openai.APIStatusError, match="26214400") as refused:
        write_down(gateway, route, ("speech.mp3", b"\0" * (25 * 2**20 + 1)))
    assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")
    with gateway.nothing_written(), pytest.raises(openai.APIStatusError) as refused:
        write_down(gateway, route, ("speech.mp3", b"\0" * (33 * 2**20)))
    assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("files", "fields", "param"),
    [
        ({}, {}, "file"),
        ({"sound": wav()}, {}, "sound"),
        ({"file": ("a.wav", b"")}, {}, "file"),
        ({"file": wav()}, {"response_format": "mp3"}, "response_format"),
        ({"file": wav()}, {"stream": "perhaps"}, "stream"),
        ({"file": wav()}, {"choir_of_tomorrow": "1"}, "choir_of_tomorrow"),
    ],
)
def test_what_is_wrong_with_a_form_is_named(
    gateway: Gateway, files: dict[str, Any], fields: dict[str, str], param: str
) -> None:
    route = route_of(gateway, "whisper-1")
    with gateway.nothing_written():
        answer = http.post(
            f"{gateway.url}/v1/audio/transcriptions",
            files=files or {"other": (None, b"x")},
            data={"model": route.alias, **fields},
        )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_json_is_no_form(gateway: Gateway) -> None:
    with gateway.nothing_written():
        answer = gateway.post(b'{"model": "a"}', path="/v1/audio/transcriptions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_models_of_sound_are_asked_at_their_own_paths(gateway: Gateway) -> None:
    speech, transcription = route_of(gateway, "tts-1"), route_of(gateway, "whisper-1")
    with gateway.nothing_written():
        with pytest.raises(openai.BadRequestError, match="/v1/audio/speech"):
            write_down(gateway, speech)
        with pytest.raises(openai.BadRequestError, match="/v1/audio/transcriptions"):
            speak(gateway, transcription)


def test_azures_paths_name_the_deployment(gateway: Gateway) -> None:
    route = route_of(gateway, "whisper-1")
    client = openai.AzureOpenAI(azure_endpoint=gateway.url, api_key="dummy", api_version="2025-04-01-preview")
    assert client.audio.transcriptions.create(model=route.alias, file=wav()).text
    gateway.wait_settled(route.alias)
