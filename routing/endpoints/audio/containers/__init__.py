"""How long the sound in a file can last at the most, from its own frames and packets.

A provider bills what it decodes, or what the file's head says. Heads may lie, so the frames are counted and the larger
of the two is taken. What cannot be counted is :class:`Unreadable`. Nothing is decoded: a file of 25 MB takes a
fraction of a second. The kind of a file is what its first bytes are, whatever its name says.
"""

from __future__ import annotations

from fractions import Fraction

from routing.endpoints.audio.containers import flac, matroska, mp3, mp4, ogg, wav
from routing.endpoints.audio.containers.reading import Unreadable

__all__ = ["Unreadable", "seconds_of"]


def seconds_of(content: bytes) -> Fraction:
    """Raises Unreadable."""
    try:
        return _seconds(content)
    except (IndexError, ValueError, OverflowError, ZeroDivisionError) as error:  # it ends where it says that it goes on
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("it ends early, or contradicts itself") from None


def _seconds(content: bytes) -> Fraction:
    begins = content[:12]
    if begins[:4] in (b"RIFF", b"RF64", b"BW64") and begins[8:] == b"WAVE":
        return wav.seconds(content)
    if begins[:4] == b"OggS":
        return ogg.seconds(content)
    if begins[:4] == b"\x1a\x45\xdf\xa3":
        return matroska.seconds(content)
    if begins[4:8] == b"ftyp":
        return mp4.seconds(content)
    start = mp3.after_tags(content)
    if content[start : start + 4] == b"fLaC":
        return flac.seconds(content, start)
    if mp3.is_frame(content, start):
        return mp3.seconds(content, start)
    raise Unreadable("it is none of flac, m4a, mp3, mp4, ogg, wav and webm")
