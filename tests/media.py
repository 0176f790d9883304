"""Small files of the kinds that clients send inside requests, made by hand."""

from __future__ import annotations

import base64
import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10\x03\x01\x11\0\x02\x11\0\x03\x11\0"


def png(width: int = 16, height: int = 16, more: bytes = b"") -> bytes:
    return PNG + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + b"\0\0\0\0" + more


def wav(seconds: int, *, rate: int = 8_000, bits: int = 16, codec: int = 1, claims: int | None = None) -> bytes:
    """Silence; ``claims`` is the size of its data as its head says it."""
    frame = bits // 8
    data = b"\0" * (seconds * rate * frame)
    size = len(data) if claims is None else claims
    head = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, codec, 1, rate, rate * frame, frame, bits, b"data", size)
    return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVE" + head + data


def mp3(size: int) -> bytes:
    return (b"\xff\xfb\x90\0" + b"\0" * 413) * (size // 417)


def pdf(pages: int, *, packed: bool = False, kids: bytes | None = None, more: bytes = b"") -> bytes:
    """``packed``: its pages are in a compressed object stream, as most writers do today."""
    numbers = range(3, 3 + pages)
    kids = kids if kids is not None else b" ".join(b"%d 0 R" % number for number in numbers)
    tree = b"<</Type/Pages/Kids[" + kids + b"]/Count %d>>" % pages
    leaves = [b"<</Type /Page /Parent 2 0 R/MediaBox[0 0 9 9]>>" for _ in numbers]
    head = b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n" + more
    if not packed:
        objects = b"".join(b"%d 0 obj%sendobj\n" % (n, leaf) for n, leaf in zip(numbers, leaves, strict=True))
        return head + b"2 0 obj" + tree + b"endobj\n" + objects + b"trailer<</Root 1 0 R>>"
    stream = zlib.compress(b"\n".join([tree, *leaves]))
    dictionary = b"<</Type/ObjStm/N %d/First 9/Filter/FlateDecode/Length %d>>" % (pages + 1, len(stream))
    return head + b"9 0 obj" + dictionary + b"stream\r\n" + stream + b"\nendstream endobj\ntrailer<</Root 1 0 R>>"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{encoded(data)}"
