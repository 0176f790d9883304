"""Transcripts as their provider wrote them, whole and as server-sent events."""

from __future__ import annotations

from accounting.usage import Usage
from routing.endpoints.audio.events import SoundFrames
from routing.endpoints.audio.transcriptions.request import TranscriptionCall
from routing.upstreams.base import Content, Json
from routing.upstreams.sound import WRITTEN_DOWN


def whole(call: TranscriptionCall, body: Json, alias: str, estimated: Usage | None) -> Json | Content:
    """An object, or the text of a format that is none. The object says the seconds when the provider gave no count."""
    content = body.get("content")
    if isinstance(content, Content):
        return content
    if estimated is not None and call.endpoint == "transcriptions":
        body["usage"] = {"type": "duration", "seconds": float(estimated.quantities["input_second"])}
    return body


def frames(call: TranscriptionCall, alias: str) -> SoundFrames:
    return SoundFrames(WRITTEN_DOWN, counts_seconds=True)
