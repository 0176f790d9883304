"""``POST /v1/audio/transcriptions`` and ``/v1/audio/translations``:
https://platform.openai.com/docs/api-reference/audio/createTranscription"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from routing.api.parts import read_form
from routing.endpoints.audio.transcriptions import rendering
from routing.endpoints.audio.transcriptions.request import TranscriptionCall, parse_transcription
from routing.endpoints.spending import route


def parse_of_transcriptions(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> TranscriptionCall:
    """Azure's clients name the model in the path: ``/openai/deployments/{alias}/audio/transcriptions``."""
    return parse_transcription(read_form(request), "transcriptions", path.get("alias"), deadline)


def parse_of_translations(request: HttpRequest, path: Mapping[str, str], deadline: float | None) -> TranscriptionCall:
    return parse_transcription(read_form(request), "translations", path.get("alias"), deadline)


transcriptions = route(parse_of_transcriptions, rendering)
translations = route(parse_of_translations, rendering)
