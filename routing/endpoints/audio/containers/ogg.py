"""Ogg with Opus or Vorbis: https://www.rfc-editor.org/rfc/rfc3533 and https://www.rfc-editor.org/rfc/rfc7845

Each page has the right checksum, or the file is not read: behind a wrong one, readers look for pages inside of it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from routing.endpoints.audio.containers import opus, vorbis
from routing.endpoints.audio.containers.reading import Steps, Unreadable, number

_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_UNKNOWN_POSITION: Final = 2**64 - 1


@dataclass(slots=True)
class _Stream:
    """A logical stream: ``packet_s`` is how long each of its packets can be, None for Opus, whose packets say it."""

    packet_s: Fraction | None
    rate: int
    is_in_packet: bool = False  # the last page ended in the middle of a packet
    packets: int = 0
    samples: int = 0  # of Opus
    position: int = 0

    @property
    def seconds(self) -> Fraction:
        counted = Fraction(self.samples, opus.RATE) if self.packet_s is None else self.packets * self.packet_s
        return max(counted, Fraction(self.position, self.rate))


def seconds(content: bytes) -> Fraction:
    steps, at = Steps(), 0
    running: dict[int, _Stream] = {}
    ended = Fraction(0)
    while at < len(content):
        if content[at : at + 4] != b"OggS":
            raise Unreadable("there is something between its pages")
        segments = content[at + 26]
        table = content[at + 27 : at + 27 + segments]
        body = at + 27 + segments
        end = body + sum(table)
        if end > len(content) or len(table) < segments:
            if content.find(b"OggS", at + 1) >= 0:
                raise Unreadable("a page of it is longer than what is left")
            break  # cut off in its last page, which nobody decodes
        _check(content, at, end)
        steps.take(1 + segments // 4)  # which are quickly counted
        serial, flags = number(content, at + 14, 4, "little"), content[at + 5]
        if flags & 2:
            if serial in running:
                ended += running.pop(serial).seconds
            running[serial] = _begun(content[body:end])
        stream = running.get(serial)
        if stream is None:
            raise Unreadable("it has a page of a stream that has not begun")
        position = number(content, at + 6, 8, "little")
        if position != _UNKNOWN_POSITION:
            stream.position = max(stream.position, position)
        _count(stream, content, body, table, is_continued=bool(flags & 1))
        at = end
    total = ended + sum((stream.seconds for stream in running.values()), Fraction(0))
    if not total:
        raise Unreadable("it has no sound")
    return total


def _begun(packet: bytes) -> _Stream:
    if packet[:8] == b"OpusHead":
        return _Stream(None, opus.RATE)
    if packet[:7] == b"\x01vorbis":
        return _Stream(vorbis.longest_packet_s(packet), number(packet, 12, 4, "little"))
    raise Unreadable("its sound is neither Opus nor Vorbis")


def _count(stream: _Stream, content: bytes, body: int, table: bytes, *, is_continued: bool) -> None:
    """Adds the packets that begin on this page."""
    at, is_begun = body, stream.is_in_packet and is_continued
    for segment in table:
        if not is_begun:
            stream.packets += 1
            if segment and stream.packet_s is None and content[at : at + 4] != b"Opus":  # which is a head or a tag
                stream.samples += opus.samples(content[at], content[at + 1] if segment > 1 else 0)
        is_begun = segment == 255
        at += segment
    stream.is_in_packet = is_begun


def _check(content: bytes, at: int, end: int) -> None:
    """The checksum of Ogg is that of zlib with its bits the other way round, and without its inversions."""
    page = (content[at : at + 22] + b"\0\0\0\0" + content[at + 26 : end]).translate(_REVERSED)
    found = ~zlib.crc32(page, 0xFFFFFFFF) & 0xFFFFFFFF
    if int(f"{found:032b}"[::-1], 2) != number(content, at + 22, 4, "little"):
        raise Unreadable("a page of it has a wrong checksum")
