"""WebM and Matroska with Opus, Vorbis or AAC: https://www.rfc-editor.org/rfc/rfc9559

Browsers record so, without a duration in the head and with clusters of unknown size. What counts is the larger of what
the head says, of when the last block begins, and of what the frames come to.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from routing.endpoints.audio.containers import aac, opus, vorbis
from routing.endpoints.audio.containers.reading import Steps, Unreadable, number


class _Id:
    """Of the elements that are read. The first seven hold others."""

    SEGMENT, INFO, TRACKS, CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
    GROUP, ENTRY, AUDIO = 0xA0, 0xAE, 0xE1
    SCALE, DURATION, TIME = 0x2AD7B1, 0x4489, 0xE7
    BLOCK, SIMPLE_BLOCK, BLOCK_DURATION = 0xA1, 0xA3, 0x9B
    NUMBER, TYPE, CODEC, PRIVATE, FREQUENCY, DEFAULT_DURATION = 0xD7, 0x83, 0x86, 0x63A2, 0xB5, 0x23E383
    ENCODINGS = 0x6D80  # frames that are compressed, or without their first bytes


_OPENED: Final = frozenset({_Id.SEGMENT, _Id.INFO, _Id.TRACKS, _Id.CLUSTER, _Id.GROUP, _Id.ENTRY, _Id.AUDIO})
_READ: Final = frozenset(
    {_Id.SCALE, _Id.DURATION, _Id.TIME, _Id.BLOCK_DURATION, _Id.NUMBER, _Id.TYPE, _Id.CODEC, _Id.PRIVATE}
    | {_Id.FREQUENCY, _Id.DEFAULT_DURATION, _Id.ENCODINGS}
)
_NUMBERS: Final = _READ - {_Id.CODEC, _Id.PRIVATE, _Id.ENCODINGS}
#: At which depth these stand, so that one of them ends what has no size.
_OUTER: Final = {_Id.SEGMENT: 1, _Id.INFO: 2, _Id.TRACKS: 2, _Id.CLUSTER: 2}
#: What a recording that was cut off does not fill.
_CUT: Final = frozenset({_Id.SEGMENT, _Id.CLUSTER, _Id.GROUP})
_OF_BLOCKS: Final = frozenset({_Id.CLUSTER, _Id.GROUP})
_CLUSTER: Final = _Id.CLUSTER.to_bytes(4, "big")
_VOID, _ADDITIONS = 0xEC, 0x75A1
#: Positions, sizes, references, priorities, checksums, what is cut off; nothing, and what is beside a picture.
_BESIDE_BLOCKS: Final = frozenset({0xA7, 0xAB, 0xFB, 0xFA, 0xBF, 0x75A2, _VOID, _ADDITIONS})
_LARGE: Final = frozenset({_VOID, _ADDITIONS})
_BILLION: Final = 1_000_000_000
_SOUND: Final = 2


@dataclass(slots=True)
class _Track:
    number: int = 0
    type: int = 0
    codec: str = ""
    private: bytes = b""
    frequency: float = 8000.0
    default_ns: int = 0
    is_encoded: bool = False
    frames: int = 0
    samples: int = 0  # of Opus
    end: int = 0  # units of the scale

    def seconds(self, scale_ns: int) -> Fraction:
        timed = Fraction(self.end * scale_ns, _BILLION)
        if self.codec == "A_OPUS":
            return max(timed, Fraction(self.samples, opus.RATE))
        return max(timed, self.frames * self._frame_s())

    def _frame_s(self) -> Fraction:
        if self.codec == "A_VORBIS":
            return vorbis.longest_packet_s(_first_of_three(self.private))
        if self.codec.startswith("A_AAC"):
            return max(aac.longest_frame_s(self.private, int(self.frequency)), Fraction(self.default_ns, _BILLION))
        raise Unreadable("its sound is none of Opus, Vorbis and AAC")


@dataclass(slots=True)
class _File:
    scale_ns: int = 1_000_000
    duration: float = 0.0
    tracks: list[_Track] = field(default_factory=list)
    cluster: int = 0  # when the cluster in hand begins
    last: list[_Track] = field(default_factory=list)  # of the block before
    last_at: int = 0

    @property
    def entry(self) -> _Track:
        if not self.tracks:
            raise Unreadable("its head contradicts itself")
        return self.tracks[-1]


def seconds(content: bytes) -> Fraction:
    file, steps = _File(), Steps()
    _read(content, file, steps)
    sounds = [track for track in file.tracks if track.type == _SOUND]
    if not sounds:
        raise Unreadable("it has no track of sound")
    if not any(track.frames for track in sounds):
        raise Unreadable("it has no sound")
    if any(track.is_encoded for track in sounds):
        raise Unreadable("its frames are packed")
    said = Fraction(file.duration) * file.scale_ns / _BILLION
    return max(said, *(track.seconds(file.scale_ns) for track in sounds))


def _vint(content: bytes, at: int, *, marked: bool) -> tuple[int, int, bool]:
    """A number of its own length: its value, where it ends, and whether all its bits are set, which is `unknown`."""
    first = content[at]
    size = 9 - first.bit_length()
    if size > 8:
        raise Unreadable("it has a number of no size")
    raw = number(content, at, size)
    value = raw if marked else raw & (1 << 7 * size) - 1
    return value, at + size, value == (1 << 7 * size) - 1


def _read(content: bytes, file: _File, steps: Steps) -> None:
    """The elements in their order. What does not fit into its parent is not read: others look for the next cluster
    then, wherever it is."""
    at, size_of_file = 0, len(content)
    parents = [(0, size_of_file)]  # the elements that hold the one in hand, and where each ends
    while at < size_of_file:
        steps.take()
        element, at, _ = _vint(content, at, marked=True)
        size, at, is_unknown = _vint(content, at, marked=False)
        while at > parents[-1][1] or (element in _OUTER and len(parents) > _OUTER[element]):
            parents.pop()
            if not parents:
                raise Unreadable("its parts do not fit into each other")
        end = parents[-1][1] if is_unknown else at + size
        if element in _OPENED:
            if end > parents[-1][1] and element not in _CUT:
                raise Unreadable("its parts do not fit into each other")
            if element == _Id.ENTRY:
                file.tracks.append(_Track())
            parents.append((element, min(end, parents[-1][1])))
            continue
        is_block = element in (_Id.BLOCK, _Id.SIMPLE_BLOCK)
        is_cut = is_block and end > size_of_file == parents[-1][1] and content.find(_CLUSTER, at) < 0
        if is_unknown or (end > parents[-1][1] and not is_cut):
            raise Unreadable("its parts do not fit into each other")
        if is_block:
            _block(content, at, min(end, size_of_file), file, steps)
        elif element in _READ:
            if element in _NUMBERS and size > 8:
                raise Unreadable("it has a number of no size")
            _take(element, content[at:end], file)
        elif parents[-1][0] in _OF_BLOCKS and not (element in _BESIDE_BLOCKS and (size <= 8 or element in _LARGE)):
            raise Unreadable("there is something between its blocks")
        at = end


def _take(element: int, raw: bytes, file: _File) -> None:  # noqa: C901 - a case an element
    value = int.from_bytes(raw[:8], "big")
    match element:
        case _Id.SCALE:
            file.scale_ns = max(1, value)
        case _Id.DURATION:
            file.duration = max(file.duration, _float(raw))
        case _Id.TIME:
            file.cluster = value
        case _Id.BLOCK_DURATION:
            for track in file.last:
                track.end = max(track.end, file.last_at + value)
        case _Id.NUMBER:
            file.entry.number = value
        case _Id.TYPE:
            file.entry.type = value
        case _Id.CODEC:
            file.entry.codec = raw.rstrip(b"\0").decode("ascii", "replace")
        case _Id.PRIVATE:
            file.entry.private = raw
        case _Id.FREQUENCY:
            file.entry.frequency = max(1.0, _float(raw))
        case _Id.DEFAULT_DURATION:
            file.entry.default_ns = value
        case _Id.ENCODINGS:
            file.entry.is_encoded = True


def _float(raw: bytes) -> float:
    value: float = struct.unpack(">f" if len(raw) == 4 else ">d", raw)[0] if len(raw) in (4, 8) else 0.0
    if not 0 <= value < 2**60:
        raise Unreadable("its head has a number that is none")
    return value


def _block(content: bytes, at: int, end: int, file: _File, steps: Steps) -> None:
    which, at, _ = _vint(content, at, marked=False)
    time = int.from_bytes(content[at : at + 2], "big", signed=True)
    flags, at = content[at + 2], at + 3
    steps.take(max(0, len(file.tracks) - 1))  # each of which is looked at
    file.last = [track for track in file.tracks if track.number == which and track.type == _SOUND]
    file.last_at = max(0, file.cluster + time)
    if not file.last:
        return
    if len(file.last) > 1:
        raise Unreadable("two tracks of it have one number")
    frames = _frames(content, at, end, flags >> 1 & 3)
    steps.take(len(frames) - 1)
    for track in file.last:
        track.end = max(track.end, file.last_at)
        track.frames += len(frames)
        if track.codec == "A_OPUS":
            track.samples += sum(
                opus.samples(content[start], content[start + 1] if size > 1 else 0) for start, size in frames if size
            )


def _frames(content: bytes, at: int, end: int, lacing: int) -> list[tuple[int, int]]:
    """Where each frame of a block begins, and its size."""
    if not lacing:
        return [(at, end - at)]
    count, at = content[at] + 1, at + 1
    sizes: list[int] = []
    if lacing == 1:
        for _ in range(count - 1):
            size = 0
            while content[at] == 255:
                size, at = size + 255, at + 1
            sizes.append(size + content[at])
            at += 1
    elif lacing == 3:
        for place in range(count - 1):
            start = at
            value, at, _ = _vint(content, at, marked=False)
            if place:
                value += sizes[-1] - (1 << 7 * (at - start) - 1) + 1
            sizes.append(value)
    else:
        sizes = [(end - at) // count] * (count - 1)
    sizes.append(end - at - sum(sizes))
    if min(sizes) < 0:
        raise Unreadable("a block of it contradicts itself")
    starts = [at]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    return list(zip(starts, sizes, strict=True))


def _first_of_three(private: bytes) -> bytes:
    """The first of the headers that Matroska packs together: a count, two sizes in Xiph's lacing, and all three."""
    if private[:1] != b"\x02":
        raise Unreadable("its Vorbis has no head")
    at = 1
    for _ in range(2):
        while private[at] == 255:
            at += 1
        at += 1
    return private[at:]
