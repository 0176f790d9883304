"""What a model is for, and the endpoint that serves it."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

from routing.upstreams.price_map import chats_too, mode_of


class Kind(StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    TRANSCRIPTION = "transcription"
    MODERATION = "moderation"
    RERANK = "rerank"
    COMPLETION = "completion"
    IMAGE = "image"


#: litellm's modes. Models of the other modes (speech) may chat as well, so nothing is said of them.
_KINDS: Final = {
    "chat": Kind.CHAT,
    "responses": Kind.CHAT,
    "embedding": Kind.EMBEDDING,
    "audio_transcription": Kind.TRANSCRIPTION,
    "moderation": Kind.MODERATION,
    "rerank": Kind.RERANK,
    "completion": Kind.COMPLETION,
    "image_generation": Kind.IMAGE,
    "image_edit": Kind.IMAGE,
}
#: Elsewhere litellm calls models that chat by this word, too.
_COMPLETE_ALONE: Final = frozenset({"openai", "azure"})
#: The paths under which a model of a kind is asked.
PATHS: Final = {
    Kind.CHAT: ("/v1/chat/completions", "/v1/responses", "/v1/messages"),
    Kind.EMBEDDING: ("/v1/embeddings",),
    Kind.COMPLETION: ("/v1/completions",),
    Kind.IMAGE: ("/v1/images/generations",),
    Kind.MODERATION: ("/v1/moderations",),
    Kind.RERANK: ("/v1/rerank",),
}


@lru_cache(maxsize=8192)
def kind_of(litellm_provider: str, model: str) -> Kind | None:
    """None: litellm's map does not know the model, or the model is for several things."""
    kind = _KINDS.get(mode_of(litellm_provider, model))
    if kind is Kind.COMPLETION and litellm_provider not in _COMPLETE_ALONE:
        return None
    if kind is Kind.IMAGE and chats_too(litellm_provider, model):
        return None
    return kind


def can_serve(model: Kind | None, asked: Kind) -> bool:
    """Whether a model of one kind can be sent a call of another: a chat model completes a text, too."""
    return model in (None, asked) or (asked is Kind.COMPLETION and model is Kind.CHAT)
