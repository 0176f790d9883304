"""Speech as bytes, or as server-sent events with the bytes in base64."""

from __future__ import annotations

from accounting.usage import Usage
from routing.endpoints.audio.events import SoundFrames
from routing.endpoints.audio.speech.request import SpeechCall
from routing.serving.bare import BareFrames
from routing.upstreams.base import Json
from routing.upstreams.sound import SPOKEN


def whole(call: SpeechCall, body: Json, alias: str, estimated: Usage | None) -> Json:
    raise AssertionError("speech is always streamed")


def frames(call: SpeechCall, alias: str) -> BareFrames | SoundFrames:
    return SoundFrames(SPOKEN) if call.wants_events else BareFrames()
