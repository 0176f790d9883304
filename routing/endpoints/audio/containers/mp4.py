"""MP4 and M4A with AAC, ALAC or MP3: ISO/IEC 14496-12

The larger counts of what a track's heads say and of what its frames come to, whole or in fragments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from routing.endpoints.audio.containers import aac
from routing.endpoints.audio.containers.reading import Steps, Unreadable, number

_CONTAINERS: Final = frozenset({b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"traf"})
_UNKNOWN: Final = (2**32 - 1, 2**64 - 1)
_MP3_FRAME_S: Final = Fraction(1152, 8000)


@dataclass(slots=True)
class _Track:
    id: int = 0
    is_sound: bool = False
    timescale: int = 0
    said: int = 0  # units of the timescale
    timed: int = 0  # likewise, by the table of times
    frames: int = 0
    edited: int = 0  # units of the film's timescale
    frame_s: Fraction = Fraction(0)
    default_duration: int = 0


@dataclass(slots=True)
class _Film:
    timescale: int = 0
    said: int = 0
    tracks: list[_Track] = field(default_factory=list)
    fragment: _Track | None = None
    fragment_duration: int = 0

    def track(self, number_: int, steps: Steps) -> _Track:
        steps.take(max(0, len(self.tracks) - 1))  # each of which may be looked at
        return next((track for track in self.tracks if track.id == number_), _Track())


def seconds(content: bytes) -> Fraction:
    film = _Film()
    _read(content, (0, len(content)), film, Steps())
    sounds = [track for track in film.tracks if track.is_sound]
    if not sounds or not film.timescale:
        raise Unreadable("it has no track of sound")
    return max(
        Fraction(film.said, film.timescale),
        *(
            max(
                Fraction(max(track.said, track.timed), track.timescale),
                track.frames * track.frame_s,
                Fraction(track.edited, film.timescale),
            )
            for track in sounds
        ),
    )


def _boxes(content: bytes, at: int, end: int, steps: Steps) -> Iterator[tuple[bytes, int, int]]:
    while at + 8 <= end:
        steps.take()
        size, name, body = number(content, at, 4), content[at + 4 : at + 8], at + 8
        if size == 1:
            size, body = number(content, at + 8, 8), at + 16
        elif size == 0:
            size = end - at
        if size < body - at:
            raise Unreadable("a box of it is smaller than its head")
        if at + size > end and name != b"mdat":
            raise Unreadable("it ends early")
        yield name, body, min(at + size, end)
        at += size


def _read(content: bytes, span: tuple[int, int], film: _Film, steps: Steps, depth: int = 0) -> None:
    if depth > 8:
        raise Unreadable("its boxes are nested too deep")
    for name, body, its_end in _boxes(content, *span, steps):
        if name == b"trak":
            film.tracks.append(_Track())
        if name in (b"moov", b"trak", b"moof") or name in _CONTAINERS:
            _read(content, (body, its_end), film, steps, depth + 1)
        elif name in (b"tfhd", b"trun", b"trex", b"mvhd", b"mehd"):
            _FILM[name](content, body, film, steps)
        elif film.tracks and name in _TRACK:
            _TRACK[name](content, body, film.tracks[-1], steps)


def _duration(content: bytes, body: int) -> tuple[int, int]:
    """The timescale and the duration, of `mvhd` and `mdhd`."""
    at, size = (body + 20, 8) if content[body] == 1 else (body + 12, 4)
    duration = number(content, at + 4, size)
    return number(content, at, 4), 0 if duration in _UNKNOWN else duration


def _mvhd(content: bytes, body: int, film: _Film, steps: Steps) -> None:
    film.timescale, said = _duration(content, body)
    film.said = max(film.said, said)


def _mehd(content: bytes, body: int, film: _Film, steps: Steps) -> None:
    film.said = max(film.said, number(content, body + 4, 8 if content[body] == 1 else 4))


def _trex(content: bytes, body: int, film: _Film, steps: Steps) -> None:
    film.track(number(content, body + 4, 4), steps).default_duration = number(content, body + 12, 4)


def _tfhd(content: bytes, body: int, film: _Film, steps: Steps) -> None:
    flags = number(content, body, 4)
    film.fragment = film.track(number(content, body + 4, 4), steps)
    at = body + 8 + (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    film.fragment_duration = number(content, at, 4) if flags & 8 else film.fragment.default_duration


def _trun(content: bytes, body: int, film: _Film, steps: Steps) -> None:
    track = film.fragment
    if track is None:
        raise Unreadable("it has a fragment without a head")
    flags, count = number(content, body, 4), number(content, body + 4, 4)
    track.frames += count
    if not flags & 0x100:
        track.timed += count * film.fragment_duration
        return
    steps.take(count)
    at = body + 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    each = 4 * sum(bool(flags & flag) for flag in (0x100, 0x200, 0x400, 0x800))
    track.timed += sum(number(content, at + place * each, 4) for place in range(count))


def _tkhd(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    track.id = number(content, body + (20 if content[body] == 1 else 12), 4)


def _hdlr(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    track.is_sound = track.is_sound or content[body + 8 : body + 12] == b"soun"


def _mdhd(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    track.timescale, track.said = _duration(content, body)


def _elst(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    """A list of edits may play a part of the sound many times."""
    count, size = number(content, body + 4, 4), 8 if content[body] == 1 else 4
    steps.take(count)
    each = 2 * size + 4
    track.edited += sum(number(content, body + 8 + place * each, size) for place in range(count))


def _stts(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    count = number(content, body + 4, 4)
    steps.take(count)
    entries = [(number(content, at, 4), number(content, at + 4, 4)) for at in range(body + 8, body + 8 + 8 * count, 8)]
    track.timed += sum(samples * delta for samples, delta in entries)
    track.frames = max(track.frames, sum(samples for samples, _ in entries))


def _stsz(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    track.frames = max(track.frames, number(content, body + 8, 4))


def _stsd(content: bytes, body: int, track: _Track, steps: Steps) -> None:
    """What the sound is written as. A track may have several descriptions; the longest frame counts."""
    if not track.is_sound:
        return
    count, at = number(content, body + 4, 4), body + 8
    for _ in range(min(count, 100)):
        size, name = number(content, at, 4), content[at + 4 : at + 8]
        rate = number(content, at + 32, 4) >> 16
        steps.take(size // 64)  # which are looked through
        entry = content[at : at + size]
        if name == b"mp4a":
            frame_s = _mp4a_frame_s(entry, rate)
        elif name == b"alac":
            cookie = entry.find(b"alac", 36)
            frame_s = Fraction(number(entry, cookie + 8, 4) if cookie > 0 else 4096, number(entry, cookie + 28, 4))
        else:
            raise Unreadable("its sound is none of AAC, ALAC and MP3")
        track.frame_s = max(track.frame_s, frame_s)
        at += size


def _mp4a_frame_s(entry: bytes, rate: int) -> Fraction:
    at = entry.find(b"esds", 36) + 8
    if at < 8:
        raise Unreadable("its sound is not described")
    kind, configuration = 0x40, b""
    while at + 2 <= len(entry):
        tag, at = entry[at], at + 1
        size = 0
        for _ in range(4):
            byte, at = entry[at], at + 1
            size = size << 7 | byte & 127
            if byte < 128:
                break
        if tag == 3:
            flags, at = entry[at + 2], at + 3
            at += (2 if flags & 0x80 else 0) + (entry[at] + 1 if flags & 0x40 else 0) + (2 if flags & 0x20 else 0)
        elif tag == 4:
            kind, at = entry[at], at + 13
        elif tag == 5:
            configuration = entry[at : at + size]
            break
        else:
            at += size
    if kind in (0x69, 0x6B):
        return _MP3_FRAME_S if not rate else Fraction(1152, rate)
    if kind not in (0x40, 0x66, 0x67, 0x68):
        raise Unreadable("its sound is none of AAC, ALAC and MP3")
    return aac.longest_frame_s(configuration, rate)


_FILM: Final = {b"mvhd": _mvhd, b"mehd": _mehd, b"trex": _trex, b"tfhd": _tfhd, b"trun": _trun}
_TRACK: Final = {b"tkhd": _tkhd, b"hdlr": _hdlr, b"mdhd": _mdhd, b"elst": _elst, b"stts": _stts, b"stsz": _stsz,
                 b"stsd": _stsd}  # fmt: skip
