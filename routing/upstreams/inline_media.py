"""What the bytes inside a request are, by their own first bytes and not by the name of their field: pictures, text,
sound of a known length, documents of a known number of pages.

Providers bill what they read. So whatever a client calls its data, it counts as what it is; where its declared type
and its bytes disagree, or nobody can tell how much a provider would read in it, it is :class:`Unmeasurable`. Only the
head of a picture or a sound is decoded, of a document all of it.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_HEAD_BYTES: Final = 48
_DATA_URL: Final = re.compile(r"data:([^;,\s]+)(?:;[^,;]*)*;base64,", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}")
#: Text that is not `text/…`.
_TEXT_TYPES: Final = frozenset(
    {
        "application/json",
        "application/xml",
        "application/javascript",
        "application/x-javascript",
        "application/x-python",
    }
)
#: The bytes of a second of the thinnest MP3: 8 kbit/s.
_MP3_BYTES_A_SECOND: Final = 1_000
#: Formats of a WAV file whose samples have a fixed size: PCM, floats, A-law, µ-law, and the extensible form of these.
_WAV_FIXED: Final = frozenset({1, 3, 6, 7, 0xFFFE})
_MAX_INFLATED_BYTES: Final = 16 * 1024 * 1024
_PIECE_BYTES: Final = 65_536
#: How often as long as wide a picture may be to count as any other.
MAX_ELONGATION: Final = 10


class Kind(StrEnum):
    PICTURE = "picture"
    TEXT = "text"
    SOUND = "sound"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Measured:
    """``amount`` is how often a picture is as long as it is wide, a text's bytes, a sound's seconds, a document's
    pages: never less than that."""

    kind: Kind
    media_type: str
    amount: int


class Unmeasurable(ValueError):
    """Nobody can tell how much a provider would read in it."""


def measured_url(url: str, declared: str | None = None) -> Measured:
    """What a data URL has in it. ``declared`` goes before the URL's own type. Raises Unmeasurable."""
    head = _DATA_URL.match(url)
    if head is None:
        raise Unmeasurable("it is not a data URL in base64")
    return measured(declared or head[1], url, head.end())


def measured(declared: str, encoded: str, start: int = 0) -> Measured:
    """What base64 text has in it, from a place in it on; ``declared`` is its media type. Raises Unmeasurable."""
    bytes_ = _Bytes(encoded, start)
    declared = declared.lower().strip()
    found = _found(bytes_)
    if declared.startswith("text/") or declared in _TEXT_TYPES:
        if found:
            raise Unmeasurable(f"it is called {declared[:40]} and is {found}")
        return Measured(Kind.TEXT, declared, bytes_.at_most)
    kind = found.partition("/")[0]
    if not found or (kind != declared.partition("/")[0]):
        raise Unmeasurable(f"it is called {declared[:40]} and is {found or 'of no known kind'}")
    if kind == "image":
        return Measured(Kind.PICTURE, found, _elongation(found, bytes_))
    if found == "audio/wav":
        return Measured(Kind.SOUND, found, _wav_seconds(bytes_))
    if found == "audio/mpeg":
        return Measured(Kind.SOUND, found, math.ceil(bytes_.at_most / _MP3_BYTES_A_SECOND))
    if found == "application/pdf" and declared == found:
        return Measured(Kind.DOCUMENT, found, _pages(bytes_.all()))
    raise Unmeasurable(f"the length of {found} is not in its head")


def picture_type(head: bytes) -> str | None:
    """The media type of a picture, by its first bytes; None: it is no picture that a model looks at."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
        return "image/heic"
    return None


class _Bytes:
    """Bytes in base64, decoded only where they are looked at."""

    def __init__(self, encoded: str, start: int) -> None:
        if not _BASE64.fullmatch(encoded[start : start + 64].rstrip()):
            raise Unmeasurable("it is not base64")
        self._encoded = encoded
        self._start = start
        self.at_most = (len(encoded) - start) * 3 // 4

    def at(self, place: int, size: int) -> bytes:
        """The bytes at a place; fewer at the end."""
        first = self._start + place // 3 * 4
        last = first + (size + place % 3 + 2) // 3 * 4
        text = self._encoded[first:last]
        if not text:
            return b""
        if not _BASE64.fullmatch(text):
            raise Unmeasurable("it is not base64")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4))[place % 3 :][:size]
        except binascii.Error:
            raise Unmeasurable("it is not base64") from None

    def all(self) -> bytes:
        try:
            return base64.b64decode(self._encoded[self._start :])
        except (binascii.Error, ValueError):
            raise Unmeasurable("it is not base64") from None


def _found(bytes_: _Bytes) -> str:
    """The media type that the first bytes have; empty when they are of no known kind."""
    head = bytes_.at(0, _HEAD_BYTES)
    picture = picture_type(head)
    if picture is not None:
        return picture
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[:4] == b"fLaC":
        return "audio/flac"
    if head[:4] == b"OggS":
        return "audio/ogg"
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm"
    if b"%PDF-" in head:
        return "application/pdf"
    if head.startswith(b"ID3"):
        tag = head[6:10]
        after = 10 + (tag[0] << 21 | tag[1] << 14 | tag[2] << 7 | tag[3]) if len(tag) == 4 else 0
        head = bytes_.at(after, 4)  # what a tag is put before may be of another kind
    if len(head) >= 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        layer, rate = head[1] >> 1 & 3, head[2] >> 4
        return "audio/mpeg" if layer and 0 < rate < 15 else "audio/aac"  # 0 is a rate of the file's own
    return "archive/zip" if head.startswith(b"PK") else ""


# --- pictures -------------------------------------------------------------------------------------------------------


def _elongation(media_type: str, bytes_: _Bytes) -> int:
    """How often the picture is as long as it is wide, rounded up. Google counts a long one by its tiles."""
    size = _SIZES[media_type](bytes_)
    if size is None or not all(size):
        return 1  # no decoder reads it, or (HEIC) its head does not say
    return math.ceil(max(size) / min(size))


def _png_size(bytes_: _Bytes) -> tuple[int, int] | None:
    head = bytes_.at(16, 8)
    return struct.unpack(">II", head) if len(head) == 8 else None


def _gif_size(bytes_: _Bytes) -> tuple[int, int] | None:
    head = bytes_.at(6, 4)
    return struct.unpack("<HH", head) if len(head) == 4 else None


def _webp_size(bytes_: _Bytes) -> tuple[int, int] | None:
    head = bytes_.at(12, 18)
    if len(head) < 18:
        return None
    if head[:4] == b"VP8X":
        return int.from_bytes(head[12:15], "little") + 1, int.from_bytes(head[15:18], "little") + 1
    if head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", head[14:18])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(bytes_: _Bytes) -> tuple[int, int] | None:
    place = 2
    for _ in range(200):  # segments
        head = bytes_.at(place, 9)
        if len(head) < 9 or head[0] != 0xFF:
            return None
        marker = head[1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack(">HH", head[5:9])
        place += 1 if marker == 0xFF else 2 + int.from_bytes(head[2:4], "big")
    return None


_SIZES: Final[dict[str, Callable[[_Bytes], tuple[int, int] | None]]] = {
    "image/png": _png_size,
    "image/gif": _gif_size,
    "image/webp": _webp_size,
    "image/jpeg": _jpeg_size,
    "image/heic": lambda _: None,
}


# --- sound ----------------------------------------------------------------------------------------------------------


def _wav_seconds(bytes_: _Bytes) -> int:
    """By the size of a second as the head says it, and by all the bytes that there are, whatever the head says."""
    place = 12
    for _ in range(50):  # chunks
        head = bytes_.at(place, 24)
        if len(head) < 24:
            break
        size = int.from_bytes(head[4:8], "little")
        if head[:4] == b"fmt ":
            codec, channels, rate, a_second, frame, bits = struct.unpack("<HHIIHH", head[8:24])
            thinnest: int = min(a_second, rate * frame, rate * channels * bits // 8)
            if codec not in _WAV_FIXED or not thinnest:
                break
            return math.ceil(bytes_.at_most / thinnest)
        place += 8 + size + size % 2
    raise Unmeasurable("the length of this audio/wav is not in its head")


# --- documents ------------------------------------------------------------------------------------------------------


def _name(name: str) -> bytes:
    """A PDF name, of which each letter may be written as a number (`/Page` is `/P#61ge`)."""
    return b"/" + b"".join(f"(?:{c}|#{ord(c):02x}|#{ord(c):02X})".encode() for c in name)


_SPACE: Final = rb"(?:[\s\0]|%[^\r\n]*[\r\n])*"
_END: Final = rb"(?=[\s\0/<>\[\]()%]|$)"
_PAGE: Final = re.compile(_name("Type") + _SPACE + _name("Page") + _END)
_COUNT: Final = re.compile(_name("Count") + _SPACE + rb"(\d{1,9})")
_KIDS: Final = re.compile(_name("Kids") + _SPACE + rb"(\[[^\]]*\]?)?")
_REFERENCE: Final = re.compile(rb"(\d+)\s+\d+\s+R")
_PACKED: Final = re.compile(_name("Type") + _SPACE + _name("ObjStm") + _END)
_ENCRYPTED: Final = re.compile(_name("Encrypt") + _SPACE + rb"(?:\d|<<)")
_STREAM: Final = re.compile(rb"\bstream\r?\n")


def _pages(document: bytes) -> int:
    """A PDF's pages: no fewer than any reader would find. Raises Unmeasurable when that is not certain."""
    if _ENCRYPTED.search(document):
        raise Unmeasurable("the pages of an encrypted PDF cannot be counted")
    texts = [document]
    left = _MAX_INFLATED_BYTES
    for found in _PACKED.finditer(document):
        inflated = _inflated(memoryview(document), found.start(), left)
        left -= len(inflated)
        texts.append(inflated)
    objects = counted = 0
    kids: list[bytes] = []
    for text in texts:
        objects += sum(1 for _ in _PAGE.finditer(text))
        counted = max([counted, *(int(found[1]) for found in _COUNT.finditer(text))])
        for found in _KIDS.finditer(text):
            if found[1] is None or not found[1].endswith(b"]"):
                raise _uncounted()
            kids.extend(reference[1] for reference in _REFERENCE.finditer(found[1]))
    # A page, or a branch of pages, that hangs in two places may be any number of pages.
    if not objects or len(set(kids)) != len(kids):
        raise _uncounted()
    return max(objects, counted)


def _inflated(document: memoryview, place: int, at_most: int) -> bytes:
    """The objects in the object stream whose dictionary is at this place."""
    start = _STREAM.search(document, place, place + 4_096)
    if start is None:
        raise _uncounted()
    inflater = zlib.decompressobj()
    inflated, place = b"", start.end()
    try:
        while not inflater.eof and place < len(document) and len(inflated) < at_most:
            piece = inflater.unconsumed_tail + document[place : place + _PIECE_BYTES]
            place += _PIECE_BYTES
            inflated += inflater.decompress(piece, at_most - len(inflated))
    except zlib.error:
        raise _uncounted() from None
    if not inflater.eof:
        raise _uncounted()
    return inflated


def _uncounted() -> Unmeasurable:
    return Unmeasurable("the pages of this PDF cannot be counted")
