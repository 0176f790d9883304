"""What a model is for, and the endpoint that serves it."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from routing.upstreams.price_map import mode_of


class Kind(StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    TRANSCRIPTION = "transcription"
    MODERATION = "moderation"
    RERANK = "rerank"


#: litellm's modes. Models of the other modes (pictures, speech) may chat as well, so nothing is said of them.
_KINDS: Final = {
    "chat": Kind.CHAT,
    "responses": Kind.CHAT,
    "embedding": Kind.EMBEDDING,
    "audio_transcription": Kind.TRANSCRIPTION,
    "moderation": Kind.MODERATION,
    "rerank": Kind.RERANK,
}
#: The paths under which a model of a kind is asked.
PATHS: Final = {
    Kind.CHAT: ("/v1/chat/completions", "/v1/responses", "/v1/messages"),
    Kind.EMBEDDING: ("/v1/embeddings",),
}


@lru_cache(maxsize=8192)
def kind_of(litellm_provider: str, model: str) -> Kind | None:
    """None: litellm's map does not know the model, or the model is for several things."""
    return _KINDS.get(mode_of(litellm_provider, model))
