"""Prepares text from outside for the database."""

from __future__ import annotations


def storable(text: str, most_characters: int | None = None) -> str:
    """The text as Postgres can store it: no NUL, a ``?`` for each lone surrogate, cut to ``most_characters``.

    JSON allows all of these, so clients and providers can send them. No row may fail because of its words.
    """
    if not text:  # most of what is written has nothing to say
        return text
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")[:most_characters]
