"""MPEG audio, layers I to III: http://www.mp3-tech.org/programmer/frame_header.html

A file is a chain of frames, each of which says how long it is. Where the chain breaks, the bytes up to the next chain
count as the thinnest sound that there is.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from routing.endpoints.audio.containers.reading import Steps, Unreadable, number

_THINNEST_BYTES_A_SECOND: Final = 1000  # 8 kbit/s
_CHAIN: Final = 3  # so many frames one behind the other are no accident
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_V1: Final = {
    3: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_LOW: Final = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_V2: Final = {3: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256), 2: _LOW, 1: _LOW}


class _Frame(NamedTuple):
    size: int
    samples: int
    rate: int


@lru_cache(maxsize=4096)
def _frame(second: int, third: int) -> _Frame | None:
    """By the second and third byte of its head, the first being 255. None: no head is so."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    bits, rated = third >> 4, third >> 2 & 3
    if second < 0xE0 or version == 1 or layer == 0 or rated == 3 or bits in (0, 15):
        return None
    rate = _RATES[version][rated]
    bit_rate = (_V1 if version == 3 else _V2)[layer][bits - 1] * 1000
    padding = third >> 1 & 1
    if layer == 3:
        return _Frame((12 * bit_rate // rate + padding) * 4, 384, rate)
    samples = 576 if layer == 1 and version != 3 else 1152
    return _Frame(samples // 8 * bit_rate // rate + padding, samples, rate)


def _frame_at(content: bytes, at: int) -> _Frame | None:
    if at + 4 > len(content) or content[at] != 0xFF:
        return None
    return _frame(content[at + 1], content[at + 2])


def after_tags(content: bytes) -> int:
    """Where the file begins behind its ID3v2 tags: https://id3.org/id3v2.4.0-structure"""
    at, steps = 0, Steps()
    while content[at : at + 3] == b"ID3":
        steps.take()
        if any(byte > 127 for byte in content[at + 6 : at + 10]) or at + 10 > len(content):
            raise Unreadable("its tag has no size")
        size = 0
        for byte in content[at + 6 : at + 10]:
            size = size << 7 | byte
        at += 10 + size + (10 if content[at + 5] & 0x10 else 0)
    return at


def is_frame(content: bytes, at: int) -> bool:
    """Whether a chain of frames begins here, or what is left of the file is one frame."""
    for place in range(_CHAIN):
        frame = _frame_at(content, at)
        if frame is None:
            return place > 0 and at >= len(content) - 128  # the end of the file, or a tag of the old kind there
        at += frame.size
    return True


def seconds(content: bytes, start: int) -> Fraction:
    """Of a file whose first frame begins at ``start``."""
    counts: dict[int, int] = {}  # of samples, by rate
    steps, at, lost, end = Steps(), start, 0, len(content)
    while at < end:
        steps.take()
        frame = _frame_at(content, at)
        if frame is not None:
            counts[frame.rate] = counts.get(frame.rate, 0) + frame.samples
            at += frame.size
            continue
        found = _next_chain(content, at + 1, steps)
        lost += found - at
        at = found
    counted = sum((Fraction(samples, rate) for rate, samples in counts.items()), Fraction(0))
    return max(counted + Fraction(lost, _THINNEST_BYTES_A_SECOND), _announced(content, start))


def _next_chain(content: bytes, at: int, steps: Steps) -> int:
    """The end of the file, when there is no further chain."""
    while (at := content.find(b"\xff", at)) >= 0:
        steps.take()
        if is_frame(content, at):
            return at
        at += 1
    return len(content)


def _announced(content: bytes, start: int) -> Fraction:
    """What the tag of the first frame says: http://gabriel.mp3-tech.org/mp3infotag.html"""
    frame = _frame_at(content, start)
    assert frame is not None
    said = 0
    for name, offset, flagged in ((b"Xing", 8, True), (b"Info", 8, True), (b"VBRI", 14, False)):
        found = content.find(name, start, start + max(frame.size, 64))
        if found >= 0 and (not flagged or number(content, found + 4, 4) & 1):
            said = max(said, number(content, found + offset, 4))
    return Fraction(said * frame.samples, frame.rate)
