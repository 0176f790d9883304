"""What a model is for, and the endpoint that serves it."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from routing.upstreams.price_map import mode_of


class Kind(StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    MODERATION = "moderation"
    RERANK = "rerank"


#: litellm's modes. Models of the other modes (pictures) may chat as well, so nothing is said of them.
_KINDS: Final = {
    "chat": Kind.CHAT,
    "responses": Kind.CHAT,
    "embedding": Kind.EMBEDDING,
    "audio_speech": Kind.SPEECH,
    "audio_transcription": Kind.TRANSCRIPTION,
    "moderation": Kind.MODERATION,
    "rerank": Kind.RERANK,
}
_MODELS_OF_ALL_KINDS: Final = frozenset({"gemini", "vertex_ai"})  # each of which answers a chat, with sound or of it
_OF_SOUND: Final = frozenset({Kind.SPEECH, Kind.TRANSCRIPTION})
#: The paths under which a model of a kind is asked.
PATHS: Final = {
    Kind.CHAT: ("/v1/chat/completions",),
    Kind.EMBEDDING: ("/v1/embeddings",),
    Kind.SPEECH: ("/v1/audio/speech",),
    Kind.TRANSCRIPTION: ("/v1/audio/transcriptions", "/v1/audio/translations"),
}


@lru_cache(maxsize=8192)
def kind_of(litellm_provider: str, model: str) -> Kind | None:
    """None: litellm's map does not know the model, or the model is for several things, as Google's that speak are."""
    if litellm_provider in _MODELS_OF_ALL_KINDS:
        return None if (kind := _KINDS.get(mode_of(litellm_provider, model))) in _OF_SOUND else kind
    return _KINDS.get(mode_of(litellm_provider, model))
