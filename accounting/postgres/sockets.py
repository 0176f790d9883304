"""Checks of sockets that bypass gevent: they ask the operating system and never wait.

gevent's own ``select`` and ``poll`` start two watchers and a timer for each look, 40 to 100 µs.
"""

from __future__ import annotations

import select
import sys
from functools import cache
from typing import Any


def poll() -> Any:
    """The operating system's own ``select.poll`` object, without gevent's patch."""
    return _unpatched()()


@cache
def _unpatched() -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("select", "poll") if monkey else select.poll


def has_ended(sock: Any) -> bool:
    """Whether the other side has ended an idle connection. ``sock`` is a socket or its number.

    Anything that can be read on an idle connection counts as its end. Postgres may send a notice, which is rare; then
    the session is replaced without need.
    """
    look = poll()
    look.register(sock, select.POLLIN)
    return bool(look.poll(0))
