"""``POST /v1/audio/speech``: https://platform.openai.com/docs/api-reference/audio/createSpeech"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.body import read_json
from routing.endpoints.audio.speech import rendering
from routing.endpoints.audio.speech.request import SpeechCall, parse_speech
from routing.endpoints.spending import route


def parse(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> SpeechCall:
    """Azure's clients name the model in the path: ``/openai/deployments/{alias}/audio/speech``."""
    return parse_speech(read_json(request), path.get("alias"), deadline)


speech = route(parse, rendering)
