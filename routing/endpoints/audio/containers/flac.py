"""FLAC: https://www.rfc-editor.org/rfc/rfc9639

A frame does not say how many bytes it has, so every place counts that begins as a frame and whose head has the right
checksum. Of ten million other bytes, one passes for such a head.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from routing.endpoints.audio.containers.reading import Steps, Unreadable, number

_RATES: Final = {1: 88200, 2: 176400, 3: 192000, 4: 8000, 5: 16000, 6: 22050, 7: 24000, 8: 32000, 9: 44100, 10: 48000,
                 11: 96000}  # fmt: skip
_STREAMINFO: Final = 34  # bytes


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF  # noqa: PLW2901
        table.append(value)
    return tuple(table)


_CRC_8: Final = _table()


def seconds(content: bytes, start: int) -> Fraction:
    """Of a file whose mark begins at ``start``."""
    at, rate, announced = start + 4, 0, 0
    steps = Steps()
    while True:
        steps.take()
        kind, size = content[at], number(content, at + 1, 3)
        if kind & 127 == 0 and size >= _STREAMINFO and not rate:
            packed = number(content, at + 14, 8)
            rate, announced = packed >> 44, packed & 0xFFFFFFFFF
        at += 4 + size
        if kind & 128:
            break
    if not rate:
        raise Unreadable("its head has no rate")
    counts: dict[int, int] = {}
    for mark in (b"\xff\xf8", b"\xff\xf9"):
        found = at - 1
        while (found := content.find(mark, found + 1)) >= 0:
            steps.take(4)  # a checksum takes its time
            head = _head(content, found, rate)
            if head is not None:
                counts[head[1]] = counts.get(head[1], 0) + head[0]
    counted = sum((Fraction(samples, its) for its, samples in counts.items()), Fraction(0))
    return max(counted, Fraction(announced, rate))


def _head(content: bytes, at: int, rate: int) -> tuple[int, int] | None:
    """How many samples a frame has that begins here, and its rate. None: none begins here."""
    third, fourth = content[at + 2 : at + 3], content[at + 3 : at + 4]
    if not third or not fourth or fourth[0] & 1:
        return None
    sized, rated = third[0] >> 4, third[0] & 15
    if sized == 0 or rated == 15 or fourth[0] >> 4 > 10:
        return None
    end = at + 5 + _further_bytes(content[at + 4 : at + 5])
    samples = 192 if sized == 1 else 576 << sized - 2 if sized < 6 else 256 << sized - 8 if sized > 7 else 0
    if sized in (6, 7):
        samples = int.from_bytes(content[end : end + sized - 5], "big") + 1
        end += sized - 5
    its = _RATES.get(rated, rate)
    if rated >= 12:
        size = 1 if rated == 12 else 2
        its = int.from_bytes(content[end : end + size], "big") * {12: 1000, 13: 1, 14: 10}[rated]
        end += size
    crc = 0
    for byte in content[at:end]:
        crc = _CRC_8[crc ^ byte]
    return (samples, its) if end < len(content) and crc == content[end] and its else None


def _further_bytes(first: bytes) -> int:
    """Of a number that is written as UTF-8 writes one."""
    value = first[0] if first else 0
    return next((count for count in range(7) if not value & 0x80 >> count), 7) - 1 if value & 0x80 else 0
