"""How tests bound real time and wait for other threads and processes. Both have slack for a busy machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

#: How much slower a machine may be than the machine on which the bounds were chosen. CI's is half as fast, and shared.
SLACK = 3.0 if os.environ.get("CI") else 1.5


def within(took_s: float, most_s: float, *, least_s: float = 0.0) -> bool:
    """Whether something took from ``least_s`` to ``most_s`` seconds.

    Only the upper bound gets slack, because a busy machine is late and never early.
    """
    return least_s <= took_s <= most_s * SLACK


def eventually(condition: Callable[[], object], within_s: float = 10) -> bool:
    """Whether the condition becomes true within that time. Checks it fifty times a second."""
    deadline = time.monotonic() + within_s * SLACK
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
