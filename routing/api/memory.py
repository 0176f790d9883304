"""Memory that large bodies leave behind.

The C library keeps what is freed between two blocks that are in use, for whoever asks next. A body of 20 MB is read
into a hundred thousand small blocks, and a worker would stay as large as the largest bodies that it ever had.
"""

from __future__ import annotations

import ctypes
import sys
import threading

#: Long enough for a request to let go of its body, and one for all large requests that end meanwhile.
AFTER_S = 1.0

# glibc's. https://man7.org/linux/man-pages/man3/malloc_trim.3.html  Without it (musl, macOS) nothing is given back.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
_asked = threading.Lock()


def give_back_soon() -> None:
    """Return at once. Half a millisecond of work follows, and a few for tens of megabytes."""
    if _trim is not None and _asked.acquire(blocking=False):
        timer = threading.Timer(AFTER_S, _give_back)
        timer.daemon = True  # a stop does not wait for it
        timer.start()


def _give_back() -> None:
    _asked.release()  # first: who ends from now on may not be a part of this
    if _trim is not None:
        _trim(0)
