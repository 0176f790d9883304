"""What the readers of all containers need."""

from __future__ import annotations

import time
from typing import Final

#: Frames, packets and boxes together. So many frames of MP3 are three hours; counting them takes a fifth of a second,
#: and so many blocks of a browser's recording, which last longer, a second.
MOST_STEPS: Final = 500_000
_STEPS_A_TURN: Final = 20_000


class Unreadable(ValueError):
    """Nobody can say how long the sound is. The text says why, as the end of a sentence about the file."""


class Steps:
    """Bounds the work for one file, and lets other requests of the process have their turn."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = 0

    def take(self, count: int = 1) -> None:
        before, self._taken = self._taken, self._taken + count
        if self._taken > MOST_STEPS:
            raise Unreadable("it has too many parts")
        if before // _STEPS_A_TURN != self._taken // _STEPS_A_TURN:
            time.sleep(0)  # under gevent, another greenlet's turn


def number(content: bytes, at: int, size: int, order: str = "big") -> int:
    """Raises Unreadable at the end of the file."""
    raw = content[at : at + size]
    if len(raw) < size:
        raise Unreadable("it ends early")
    return int.from_bytes(raw, "little" if order == "little" else "big")
