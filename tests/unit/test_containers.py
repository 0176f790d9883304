"""No file sounds longer than we say, whatever its head says of it. The sounds in tests/sounds are ffmpeg's work."""

from __future__ import annotations

import contextlib
import struct
import time
import zlib
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.endpoints.audio.containers import Unreadable, seconds_of
from tests.clocks import within

SOUNDS = Path(__file__).parents[1] / "sounds"
#: What ffmpeg decodes of each, and how long it says that the file is; in seconds.
DECODED = {
    "pcm.wav": (0.75, 0.75),
    "mulaw.wav": (0.75, 0.75),
    "adpcm.wav": (0.765375, 0.765),
    "constant.mp3": (0.75, 0.75),
    "variable.mp3": (0.749977, 0.75),
    "tone.flac": (0.75, 0.75),
    "opus.ogg": (0.7535, 0.763),
    "long-packets.ogg": (0.7565, 0.763),
    "vorbis.ogg": (0.768, 0.752),
    "opus.webm": (0.75, 0.764),
    "live.webm": (0.75, 0),
    "vorbis.webm": (0.752, 0.88),
    "aac.mkv": (0.768, 0.814),
    "aac.m4a": (0.768, 0.75),
    "fragments.mp4": (0.832, 0.814),
    "alac.m4a": (0.75, 0.75),
    "mp3.mp4": (0.758938, 0.75),
}
MEGABYTE = 2**20
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def sound(name: str) -> bytes:
    return (SOUNDS / name).read_bytes()


@pytest.mark.parametrize("name", DECODED)
def test_a_sound_is_as_long_as_its_frames_are(name: str) -> None:
    found = float(seconds_of(sound(name)))
    assert max(DECODED[name]) - 0.001 <= found <= 2 * max(DECODED[name]) + 0.2


def test_every_sound_is_looked_at() -> None:
    assert {each.name for each in SOUNDS.iterdir()} == set(DECODED)


def changed(name: str, at: int, value: bytes) -> bytes:
    raw = bytearray(sound(name))
    raw[at : at + len(value)] = value
    return bytes(raw)


def after(name: str, mark: bytes, offset: int = 0) -> int:
    return sound(name).index(mark) + len(mark) + offset


def with_checksums(pages: bytes) -> bytes:
    raw, at = bytearray(pages), 0
    while at < len(raw):
        end = at + 27 + raw[at + 26] + sum(raw[at + 27 : at + 27 + raw[at + 26]])
        raw[at + 22 : at + 26] = b"\0\0\0\0"
        found = ~zlib.crc32(bytes(raw[at:end]).translate(REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
        raw[at + 22 : at + 26] = int(f"{found:032b}"[::-1], 2).to_bytes(4, "little")
        at = end
    return bytes(raw)


def with_positions(name: str, position: int) -> bytes:
    raw, at = bytearray(sound(name)), -1
    while (at := raw.find(b"OggS", at + 1)) >= 0:
        raw[at + 6 : at + 14] = position.to_bytes(8, "little")
    return with_checksums(bytes(raw))


SHORTER = {
    "a wav of no data": changed("pcm.wav", after("pcm.wav", b"data"), b"\0\0\0\0"),
    "a wav of endless data": changed("pcm.wav", after("pcm.wav", b"data"), b"\xff\xff\xff\xff"),
    "a wav with a high byte rate": changed("pcm.wav", 28, b"\xff\xff\xff\x7f"),
    "a wav with large blocks": changed("pcm.wav", 32, b"\xff\x7f"),
    "an mp3 of one frame": changed("variable.mp3", after("variable.mp3", b"Info", 4), b"\0\0\0\1"),
    "a flac of one sample": changed("tone.flac", 21, bytes([sound("tone.flac")[21] & 0xF0]) + b"\0\0\0\1"),
    "an ogg that stands still": with_positions("opus.ogg", 1),
    "a vorbis that stands still": with_positions("vorbis.ogg", 1),
    "a webm of no duration": changed("opus.webm", after("opus.webm", b"\x44\x89\x88"), b"\0" * 8),
    "a webm with fast clocks": changed("opus.webm", after("opus.webm", b"\x2a\xd7\xb1\x83"), b"\0\0\1"),
    "an m4a of no duration": changed("aac.m4a", after("aac.m4a", b"mdhd", 16), b"\0\0\0\1"),
    "an m4a film of no duration": changed("aac.m4a", after("aac.m4a", b"mvhd", 16), b"\0\0\0\1"),
    "an m4a with fast clocks": changed("aac.m4a", after("aac.m4a", b"mdhd", 12), b"\xff\xff\xff\xff"),
    "an m4a with short frames": changed("aac.m4a", after("aac.m4a", b"stts", 12), b"\0\0\0\1"),
    "an m4a of a high rate": changed("aac.m4a", after("aac.m4a", b"mp4a", 24), b"\xbb\x80\0\0"),
    "an m4a of one frame": changed("aac.m4a", after("aac.m4a", b"stsz", 8), b"\0\0\0\1"),
}


@pytest.mark.parametrize("what", SHORTER)
def test_a_head_that_says_less_shortens_no_sound(what: str) -> None:
    assert seconds_of(SHORTER[what]) >= Fraction("0.749")


LONGER = {
    "mp3": changed("variable.mp3", after("variable.mp3", b"Info", 4), b"\0\0\x40\0"),
    "flac": changed("tone.flac", 22, b"\x0f\0\0\0"),
    "ogg": with_positions("opus.ogg", 48_000 * 3600),
    "webm": changed("opus.webm", after("opus.webm", b"\x44\x89\x88"), struct.pack(">d", 3_600_000.0)),
    "m4a": changed("aac.m4a", after("aac.m4a", b"mdhd", 16), b"\7\0\0\0"),
    "edits": changed("aac.m4a", after("aac.m4a", b"elst", 8), b"\7\0\0\0"),
}


@pytest.mark.parametrize("kind", LONGER)
def test_a_head_that_says_more_is_believed(kind: str) -> None:
    """A provider may bill by it."""
    assert seconds_of(LONGER[kind]) > 60


def test_what_is_no_frame_counts_as_the_thinnest_sound() -> None:
    mp3 = sound("constant.mp3")
    assert seconds_of(mp3 + b"\0" * 60_000) >= seconds_of(mp3) + 60
    assert seconds_of(mp3 * 3) >= 3 * Fraction("0.75")


def test_pages_with_a_wrong_checksum_are_not_read() -> None:
    """Behind such a page, readers look for others inside of it."""
    with pytest.raises(Unreadable, match="checksum"):
        seconds_of(changed("opus.ogg", 30, b"x"))


@pytest.mark.parametrize(
    "raw",
    [b"", b"RIFF", b"hello, this is text", b"OggS" + b"\0" * 100, b"fLaC", b"\x1a\x45\xdf\xa3",
     b"\0\0\0\x10ftypM4A \0\0\0\0",
     b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"\xff\xfb", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"MZ" + b"\xff\xfb\x90\x00" * 100],
)  # fmt: skip
def test_what_is_no_sound_is_not_read(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        seconds_of(raw)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(DECODED)),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4),
)
def test_no_file_is_anything_but_read_or_not(name: str, cut: float, changes: list[tuple[float, bytes]]) -> None:
    raw = bytearray(sound(name))
    for where, value in changes:
        at = int(where**3 * len(raw))  # most in the head
        raw[at : at + len(value)] = value
    with contextlib.suppress(Unreadable):
        assert seconds_of(bytes(raw[: int(cut**0.2 * len(raw))])) >= 0


def box(name: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + name + body


HOSTILE = {
    "boxes": b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * MEGABYTE,
    "nested boxes": b"\0\0\0\x08ftyp" + b"".join(
        (8 * (100_000 - depth)).to_bytes(4, "big") + b"moov" for depth in range(100_000)
    ),
    "tags": b"ID3\4\0\0\0\0\0\0" * MEGABYTE,
    "false frames": sound("constant.mp3") + b"\xff" * 8 * MEGABYTE,
    "false heads": sound("tone.flac") + b"\xff\xf8\xc4\x08" * 2 * MEGABYTE,
    "chunks": b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * MEGABYTE,
    "blocks": sound("opus.webm") + b"\xa3\x80" * 4 * MEGABYTE,
    "a table without an end": changed("aac.m4a", after("aac.m4a", b"stts", 4), b"\xff\xff\xff\xff"),
    "blocks of one of many tracks": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x16\x54\xae\x6b"
    + (2**28 | 400_000).to_bytes(4, "big") + b"\xae\x80" * 200_000
    + b"\x1f\x43\xb6\x75\xff" + b"\xa3\x84\x81\0\0\0" * 200_000,
    "frames of many tracks of one number": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x16\x54\xae\x6b"
    + (2**28 | 16_000 * 16).to_bytes(4, "big") + b"\xae\x8e\xd7\x81\x01\x83\x81\x02\x86\x86A_OPUS" * 16_000
    + b"\x1f\x43\xb6\x75\xff" + (b"\xa3\x41\x05\x81\0\0\x04\xff" + b"\x0c" * 256) * 20,
    "fragments of one of many tracks": box(b"ftyp", b"M4A ") + box(b"moov", box(b"trak", b"") * 200_000)
    + box(b"moof", box(b"traf", box(b"tfhd", b"\0" * 7 + b"\x63") * 200_000)),
    "descriptions longer than their box": box(b"ftyp", b"M4A ") + box(b"moov", box(
        b"trak",
        box(b"hdlr", b"\0" * 8 + b"soun")
        + box(b"stsd", b"\0\0\0\0\0\0\0\x01\x01\x80\0\0alac" + b"\0" * 20 + b"\x1f\x40\0\0\x1f\x40") * 100_000,
    )) + box(b"mdat", b"\0" * 20 * MEGABYTE),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_takes_little_time(what: str) -> None:
    began = time.thread_time()
    with pytest.raises(Unreadable):
        seconds_of(HOSTILE[what])
    assert within(time.thread_time() - began, 3)
