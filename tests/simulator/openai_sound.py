# ruff: noqa: E501 - the provider's own sentences are kept whole
"""OpenAI's speech, transcriptions and translations, as documented in its API reference.

The same text always has the same sound, and each sound is written down as what the behaviour says."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import wave
from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.prompt import Prompt, count, pieces
from tests.simulator.wire_format import Asked, Event, Failure, Raw, compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.model import Answer

TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
TEXTS = ("text", "srt", "vtt")
MOST_CHARACTERS = 4096
MOST_BYTES = 25 * 2**20
_SPEECH_TAKES = frozenset({"input", "model", "voice", "instructions", "response_format", "speed", "stream_format"})
_TAKES = frozenset({"file", "model", "prompt", "response_format", "temperature"})
_TRANSCRIPTION_TAKES = _TAKES | {
    "language", "stream", "timestamp_granularities[]", "include[]", "chunking_strategy", "known_speaker_names[]",
    "known_speaker_references[]",
}  # fmt: skip
_KINDS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")


def sound(text: str, kind: str = "mp3") -> bytes:
    """What is spoken: so many bytes a token that no two texts have the same."""
    return b"".join(_piece(token, kind) for token in pieces(text))


def _piece(token: str, kind: str) -> bytes:
    return hashlib.sha256(f"{kind}{token}".encode()).digest() * 20


def seconds_of(file: dict[str, Any]) -> float:
    """Only of a WAV; of all else it is a second and a half."""
    try:
        with wave.open(io.BytesIO(file["content"])) as read:
            return float(read.getnframes() / read.getframerate())
    except (wave.Error, EOFError):
        return 1.5


class Speech:
    """A `WireFormat`."""

    NAME = "speech"
    STREAM_TYPE = "audio/mpeg"
    headers = staticmethod(openai_format.headers)
    failure = staticmethod(openai_format.failure)
    not_json = staticmethod(openai_format.not_json)
    failure_event = staticmethod(openai_format.failure_event)

    def stream_type(self, prompt: Prompt) -> str:
        body = prompt.request or {}
        is_events = body.get("stream_format") == "sse"
        return openai_format.STREAM_TYPE if is_events else TYPES[body.get("response_format") or "mp3"]

    def refuse(self, asked: Asked) -> Failure | None:
        if refusal := openai_format.refuse_key(asked.headers):
            return refusal
        body = asked.body
        for name in ("model", "input", "voice"):
            if not body.get(name):
                return openai_format.invalid(
                    f"[{{'type': 'missing', 'loc': ('body', '{name}'), 'msg': 'Field required'}}]"
                )
        if len(body["input"]) > MOST_CHARACTERS:
            return openai_format.invalid(
                f"[{{'type': 'string_too_long', 'loc': ('body', 'input'), 'msg': 'String should have at most {MOST_CHARACTERS} characters'}}]"
            )
        if unknown := sorted(body.keys() - _SPEECH_TAKES):
            return openai_format.invalid(f"Unrecognized request argument supplied: {unknown[0]}")
        if body.get("response_format") not in (None, *TYPES):
            return openai_format.invalid("Invalid value for 'response_format'.", "response_format")
        if body.get("stream_format") == "sse" and body["model"].startswith("tts-1"):
            return openai_format.invalid(
                f"stream_format 'sse' is not supported for model '{body['model']}'", "stream_format"
            )
        return None

    def read(self, asked: Asked) -> Prompt:
        body = asked.body
        tokens = count(body["input"]) + count(body.get("instructions"))
        return Prompt(model=asked.model, streamed=True, input_tokens=tokens, user_text=body["input"], request=body)

    def whole(self, prompt: Prompt, answer: Answer) -> dict[str, Any]:
        raise AssertionError("speech is always streamed")

    def events(self, prompt: Prompt, answer: Answer) -> Iterator[Event]:
        body = prompt.request or {}
        kind = body.get("response_format") or "mp3"
        tokens = pieces(body["input"])
        if body.get("stream_format") != "sse":
            yield from (Event(_piece(token, kind), token=True) for token in tokens)
            return
        for token in tokens:
            audio = base64.b64encode(_piece(token, kind)).decode()
            yield Event(_data({"type": "speech.audio.delta", "audio": audio}), token=True)
        done: dict[str, Any] = {"type": "speech.audio.done"}
        if answer.usage is not None:
            made = 7 * len(tokens)
            done["usage"] = {
                "input_tokens": prompt.input_tokens,
                "output_tokens": made,
                "total_tokens": prompt.input_tokens + made,
            }
        yield Event(_data(done), last=True)


class Transcripts:
    """A `WireFormat`, of a form: its files are objects with a name, a type and the content."""

    STREAM_TYPE = openai_format.STREAM_TYPE
    headers = staticmethod(openai_format.headers)
    failure = staticmethod(openai_format.failure)
    not_json = staticmethod(openai_format.not_json)
    failure_event = staticmethod(openai_format.failure_event)

    def __init__(self, name: str, takes: frozenset[str]) -> None:
        self.NAME = name
        self._takes = takes

    def refuse(self, asked: Asked) -> Failure | None:
        if refusal := openai_format.refuse_key(asked.headers):
            return refusal
        body = asked.body
        file = body.get("file")
        if not isinstance(file, dict):
            return openai_format.invalid("[{'type': 'missing', 'loc': ('body', 'file'), 'msg': 'Field required'}]")
        if not body.get("model"):
            return openai_format.invalid("you must provide a model parameter")
        if len(file["content"]) > MOST_BYTES:
            return Failure(
                413,
                {
                    "error": {
                        "message": f"413: Maximum content size limit ({MOST_BYTES}) exceeded ({len(file['content'])} bytes read)",
                        "type": "server_error",
                        "param": None,
                        "code": None,
                    }
                },
            )
        if file["name"].rpartition(".")[2].lower() not in _KINDS:
            return openai_format.invalid(f"Unrecognized file format. Supported formats: {list(_KINDS)}", "file")
        if unknown := sorted(name for name in body if name not in self._takes):
            return openai_format.invalid(f"Unrecognized request argument supplied: {unknown[0]}")
        kind = body.get("response_format", "json")
        if body["model"].startswith("gpt-") and kind not in ("json", "text"):
            return openai_format.invalid(
                f"response_format '{kind}' is not compatible with model '{body['model']}'. Use 'json' or 'text' instead.",
                "response_format",
                "unsupported_value",
            )
        if "timestamp_granularities[]" in body and kind != "verbose_json":
            return openai_format.invalid(
                "timestamp_granularities is only supported with response_format verbose_json.",
                "timestamp_granularities",
            )
        return None

    def read(self, asked: Asked) -> Prompt:
        body = asked.body
        heard = math.ceil(seconds_of(body["file"]) * 10)
        is_live = body.get("stream") == "true" and not asked.model.startswith("whisper")
        return Prompt(
            model=asked.model,
            streamed=is_live,
            input_tokens=heard + count(body.get("prompt")),
            user_text="hello",
            request=body,
        )

    def whole(self, prompt: Prompt, answer: Answer) -> dict[str, Any] | Raw:
        body = prompt.request or {}
        kind, text = body.get("response_format", "json"), answer.choices[0].text
        if kind == "text":
            return Raw("text/plain; charset=utf-8", f"{text}\n".encode())
        if kind == "srt":
            return Raw("text/plain; charset=utf-8", f"1\n00:00:00,000 --> 00:00:01,500\n{text}\n\n".encode())
        if kind == "vtt":
            return Raw("text/plain; charset=utf-8", f"WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n{text}\n\n".encode())
        said: dict[str, Any] = {"text": text}
        if kind == "verbose_json":
            said = {
                "task": "transcribe" if self.NAME == "transcriptions" else "translate",
                "language": "english",
                "duration": seconds_of(body["file"]),
                **said,
                "segments": [],
            }
        if answer.usage is not None:
            said["usage"] = self._usage(prompt, answer)
        return said

    def _usage(self, prompt: Prompt, answer: Answer) -> dict[str, Any]:
        body = prompt.request or {}
        if not prompt.model.startswith("gpt-"):
            return {"type": "duration", "seconds": math.ceil(seconds_of(body["file"]))}
        written = count(answer.choices[0].text)
        return {
            "type": "tokens",
            "total_tokens": prompt.input_tokens + written,
            "input_tokens": prompt.input_tokens,
            "input_token_details": {
                "text_tokens": count(body.get("prompt")),
                "audio_tokens": prompt.input_tokens - count(body.get("prompt")),
            },
            "output_tokens": written,
        }

    def events(self, prompt: Prompt, answer: Answer) -> Iterator[Event]:
        for token in answer.choices[0].tokens:
            yield Event(_data({"type": "transcript.text.delta", "delta": token}), token=True)
        done: dict[str, Any] = {"type": "transcript.text.done", "text": answer.choices[0].text}
        if answer.usage is not None:
            done["usage"] = self._usage(prompt, answer)
        yield Event(_data(done), last=True)


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + compact(value) + b"\n\n"


SPEECH = Speech()
TRANSCRIPTIONS = Transcripts("transcriptions", _TRANSCRIPTION_TAKES)
TRANSLATIONS = Transcripts("translations", _TAKES)


def form(raw: bytes, content_type: str) -> dict[str, Any] | None:
    """A form as an object, by the plainest reading of RFC 7578. None: it is none."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    if not boundary or not raw.rstrip().endswith(b"--" + boundary + b"--"):
        return None
    found: dict[str, Any] = {}
    for part in (b"\r\n" + raw).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        heads = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        parameters = dict(p.split("=", 1) for p in heads["Content-Disposition"].split("; ")[1:])
        name = parameters["name"].strip('"')
        if "filename" in parameters:
            found[name] = {
                "name": parameters["filename"].strip('"'), "type": heads.get("Content-Type"), "content": content,
            }  # fmt: skip
        else:
            found[name] = content.decode()
    return found
