"""Looks at sockets that go past gevent: they ask the operating system and never wait.

gevent's own ``select`` and ``poll`` start two watchers and a timer for each look, 40 to 100 µs.
"""

from __future__ import annotations

import select
import sys
from typing import Any


def poll() -> Any:
    """A ``select.poll`` object of the operating system's."""
    monkey = sys.modules.get("gevent.monkey")
    return (monkey.get_original("select", "poll") if monkey else select.poll)()


def has_ended(sock: Any) -> bool:
    """Whether the other side has ended a connection that is at rest: nothing but its end is to be read there. Postgres
    may send a notice, which is rare; then its session is replaced for nothing. ``sock``: a socket or its number."""
    look = poll()
    look.register(sock, select.POLLIN)
    return bool(look.poll(0))
