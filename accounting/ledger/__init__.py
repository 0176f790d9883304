"""The ledger: hold, top up, settle, expire, resolve, adjust. The ONLY writer of entries and balances."""

from __future__ import annotations

import os
from typing import Any

from accounting.ledger.writer import Writer

_writers: dict[int, Any] = {}  # by process id: a forked worker must not use its parent's queue and connection


def of_this_process() -> Any:
    """This process's ledger writer, started at first use."""
    pid = os.getpid()
    if pid not in _writers:
        # Two threads may race here; setdefault keeps one, and an unstarted writer costs nothing.
        _writers.setdefault(pid, Writer())
    return _writers[pid]
