"""WAV: http://www-mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html

All bytes behind the head count as sound, since recorders that stream leave the sizes at 0 or at their maximum.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from routing.endpoints.audio.containers.reading import Steps, Unreadable, number

_PCM, _MS_ADPCM, _FLOAT, _A_LAW, _MU_LAW, _IMA_ADPCM, _EXTENSIBLE = 1, 2, 3, 6, 7, 0x11, 0xFFFE
#: The least bits of a sample in each channel that a decoder of the format takes.
_SAMPLED: Final = {_PCM: 8, _FLOAT: 16, _A_LAW: 8, _MU_LAW: 8}


def seconds(content: bytes) -> Fraction:
    steps, at = Steps(), 12
    while content[at : at + 4] != b"fmt ":
        steps.take()
        size = number(content, at + 4, 4, "little")
        at += 8 + size + size % 2
        if at >= len(content):
            raise Unreadable("its head does not say how its sound is written")
    head = at + 8
    form = number(content, head, 2, "little")
    channels, rate = number(content, head + 2, 2, "little"), number(content, head + 4, 4, "little")
    bytes_a_second = number(content, head + 8, 4, "little")
    block, bits = number(content, head + 12, 2, "little"), number(content, head + 14, 2, "little")
    if form == _EXTENSIBLE:
        form = number(content, head + 24, 2, "little")
    if not channels or not rate:
        raise Unreadable("its head has no channels, or no rate")
    rest = len(content) - head
    if form in _SAMPLED:
        sample = max(bits, _SAMPLED[form]) // 8 * channels
        frames = Fraction(rest, min(sample, block or sample))
    elif form in (_MS_ADPCM, _IMA_ADPCM) and block:
        frames = Fraction(rest, block) * (block * 2 // channels + 2)
    else:
        raise Unreadable("its sound is not PCM")
    by_rate = Fraction(rest, bytes_a_second) if bytes_a_second else Fraction(0)
    return max(frames / rate, by_rate)
