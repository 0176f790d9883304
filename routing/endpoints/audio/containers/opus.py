"""How long a packet of Opus is: https://www.rfc-editor.org/rfc/rfc6716#section-3.1"""

from __future__ import annotations

from typing import Final

RATE: Final = 48_000
LONGEST: Final = 5760  # samples of a packet: 120 ms
_SILK: Final = (480, 960, 1920, 2880)
_HYBRID: Final = (480, 960)
_CELT: Final = (120, 240, 480, 960)


def samples(first: int, second: int) -> int:
    """Of a packet that begins with these two bytes; the second is 0 when there is none."""
    mode = first >> 3
    frame = _SILK[mode & 3] if mode < 12 else _HYBRID[mode & 1] if mode < 16 else _CELT[mode & 3]
    code = first & 3
    count = 1 if code == 0 else 2 if code < 3 else second & 63
    return min(frame * count, LONGEST)
