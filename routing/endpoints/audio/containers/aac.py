"""What the configuration of AAC says: ISO/IEC 14496-3, 1.6.2.1"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
FRAME: Final = 1024  # samples at the rate of the core, whatever a spectral replication makes of them


def longest_frame_s(configuration: bytes, rate: int) -> Fraction:
    """With the slowest of the rates that the configuration and the container's own head give."""
    bits = int.from_bytes(configuration[:8].ljust(8, b"\0"), "big")
    index = bits >> 55 & 15
    said = bits >> 31 & 0xFFFFFF if index == 15 else _RATES[index] if index < len(_RATES) else 0
    rates = [each for each in (rate, said if configuration else 0) if each > 0]
    return Fraction(FRAME, min(rates))
