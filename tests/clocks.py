"""How tests bound real time: from above with slack, because two busy cores are slower than a quiet machine."""

from __future__ import annotations

import os

#: By how much a machine may be slower than the one on which the bounds were chosen. CI's is half as fast, and shared.
SLACK = 3.0 if os.environ.get("CI") else 1.5


def within(took_s: float, most_s: float, *, least_s: float = 0.0) -> bool:
    """Whether something took from ``least_s`` to ``most_s`` seconds, slack added to the upper bound alone: a busy
    machine is late, never early."""
    return least_s <= took_s <= most_s * SLACK
