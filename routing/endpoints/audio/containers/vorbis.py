"""How long a packet of Vorbis can be: https://xiph.org/vorbis/doc/Vorbis_I_spec.html#x1-620004.2.2"""

from __future__ import annotations

from fractions import Fraction

from routing.endpoints.audio.containers.reading import Unreadable, number


def longest_packet_s(head: bytes) -> Fraction:
    """By the identification header of the stream. A packet gives half of the longer kind of block at the most."""
    if head[:7] != b"\x01vorbis":
        raise Unreadable("its Vorbis has no head")
    rate, sizes = number(head, 12, 4, "little"), number(head, 28, 1)
    if not rate:
        raise Unreadable("its Vorbis has no rate")
    return Fraction(1 << max(sizes >> 4, sizes & 15), 2 * rate)
