"""What a model is for, and the endpoint that serves it."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from routing.upstreams.price_map import chats_too, mode_of


class Kind(StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    MODERATION = "moderation"
    RERANK = "rerank"
    COMPLETION = "completion"
    IMAGE = "image"


#: litellm's modes.
_KINDS: Final = {
    "chat": Kind.CHAT,
    "responses": Kind.CHAT,
    "embedding": Kind.EMBEDDING,
    "audio_speech": Kind.SPEECH,
    "audio_transcription": Kind.TRANSCRIPTION,
    "moderation": Kind.MODERATION,
    "rerank": Kind.RERANK,
    "completion": Kind.COMPLETION,
    "image_generation": Kind.IMAGE,
    "image_edit": Kind.IMAGE,
}
#: Elsewhere litellm calls models that chat by this word, too.
_COMPLETE_ALONE: Final = frozenset({"openai", "azure"})
_MODELS_OF_ALL_KINDS: Final = frozenset({"gemini", "vertex_ai"})  # each of which answers a chat, with sound or of it
#: Whose answers are text that is billed by its tokens.
IN_WORDS: Final = frozenset({Kind.CHAT, Kind.COMPLETION})
_OF_SOUND: Final = frozenset({Kind.SPEECH, Kind.TRANSCRIPTION})
#: The paths under which a model of a kind is asked, that of OpenAI's format first.
PATHS: Final = {
    Kind.CHAT: ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1beta/models/{alias}:generateContent"),
    Kind.EMBEDDING: ("/v1/embeddings", "/v1beta/models/{alias}:embedContent"),
    Kind.COMPLETION: ("/v1/completions",),
    Kind.IMAGE: ("/v1/images/generations", "/v1/images/edits"),
    Kind.MODERATION: ("/v1/moderations",),
    Kind.RERANK: ("/v1/rerank",),
    Kind.SPEECH: ("/v1/audio/speech",),
    Kind.TRANSCRIPTION: ("/v1/audio/transcriptions", "/v1/audio/translations"),
}


@lru_cache(maxsize=8192)
def kind_of(litellm_provider: str, model: str) -> Kind | None:
    """None: litellm's map does not know the model, or the model is for several things, as Google's that speak are."""
    kind = _KINDS.get(mode_of(litellm_provider, model))
    if kind in _OF_SOUND and litellm_provider in _MODELS_OF_ALL_KINDS:
        return None
    if kind is Kind.COMPLETION and litellm_provider not in _COMPLETE_ALONE:
        return None
    if kind is Kind.IMAGE and chats_too(litellm_provider, model):
        return None
    return kind


def can_serve(model: Kind | None, asked: Kind) -> bool:
    """Whether a model of one kind can be sent a call of another: a chat model completes a text, too."""
    return model in (None, asked) or (asked is Kind.COMPLETION and model is Kind.CHAT)


def paths_of(model: Kind | None, alias: str) -> tuple[str, ...]:
    """All paths that serve an alias whose models are of this kind; of no known kind, all there are."""
    return tuple(
        path.replace("{alias}", alias) for asked, paths in PATHS.items() if can_serve(model, asked) for path in paths
    )
