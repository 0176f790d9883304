"""A session with Postgres that belongs to a thread of the gateway, not to a request, for as long as the thread runs."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
from django.db import connections

from accounting import sql
from accounting.postgres import sockets
from accounting.postgres.pipeline import Connection

POOLER_ROUNDS = 4


def connect(application_name: str, *, statement_timeout_s: int) -> Connection:
    """A session beside Django's, which notices when Postgres vanishes. Raises psycopg.Error."""
    parameters = connections["default"].get_connection_params()
    for name in (
        "cursor_factory",
        "context",
        "client_encoding",
        "prepare_threshold",
        "server_side_binding",
    ):
        parameters.pop(name, None)
    connection = _connection_class().connect(
        **{
            "connect_timeout": 3,
            "tcp_user_timeout": 5000,
            # A host that vanished while we wait for its answer sends nothing, not even an error.
            "keepalives_idle": 3,
            "keepalives_interval": 1,
            "keepalives_count": 3,
            **parameters,
            "application_name": application_name,
        },
        prepare_threshold=None,  # else psycopg would deallocate pipeline.py's prepared statements after a rollback
    )
    try:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        prepare(connection, connections["default"].settings_dict.get("SCHEMA", ""))
        # A frozen Postgres must not freeze the gateway.
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{statement_timeout_s}s",))
        # All statements that are prepared here find their rows by key, so they are planned once, for any size. A plan
        # made while a table was empty would read all of the table until Postgres next counts its rows, and planning
        # each time takes 0.1 ms.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute("SET enable_seqscan = off")
        # Before version 18, a plan that reads a whole table all the same (of one row) then seems to cost 10^10, and
        # Postgres would compile it each time: a second for a statement of three milliseconds.
        connection.execute("SET jit = off")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: Any, schema: str) -> None:
    """Give a new session the gateway's settings. ``schema`` is empty unless DATABASE_URL names one."""
    connection.execute(sql.load("prepare_session"), {"schema": schema})


def is_shared() -> bool:
    """Whether two of our sessions are the same session of Postgres: a pooler hands it on after each transaction.

    The ledger's locks, settings and prepared statements belong to a session. The first session asks for its server
    process while a transaction of the second keeps one. A pooler that draws at random may give the same one by chance,
    so there are several rounds. Raises psycopg.Error.
    """
    with (
        closing(connect("gateway-start", statement_timeout_s=10)) as first,
        closing(connect("gateway-start", statement_timeout_s=10)) as second,
    ):
        for _ in range(POOLER_ROUNDS):
            before = _server_process(first)
            first.commit()
            other = _server_process(second)
            if other == before or _server_process(first) != before:
                return True
            second.commit()
            first.commit()
    return False


def _server_process(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def _connection_class() -> type[Connection]:
    """psycopg's own class; under gevent, a class that waits as gevent's own sockets do.

    psycopg cooperates with gevent through the patched ``select``, which makes and starts two watchers and a timer for
    each look at the socket: 0.1 ms, several times a transaction. Also, gevent serves greenlets in the order in which
    they become ready. The ledger holds row locks while it waits, so its socket is watched at the highest priority.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("select"):
        return psycopg.Connection
    return _GeventConnection


class _GeventConnection(psycopg.Connection[tuple[Any, ...]]):
    def wait(self, gen: Any, interval: float = 0.0, timeout: float | None = None) -> Any:
        """Run psycopg's generator to its end. It yields what it waits for, and we send it what is ready."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(self._ready(wanted))
        except StopIteration as end:
            return end.value

    def _ready(self, wanted: int) -> int:
        """Waits until reading (1) or writing (2) is possible, and returns which."""
        poll = self._poll_for(wanted)
        while not (found := poll(0)):  # usually the answer has arrived, or there is room to write
            hub = _gevent_hub()
            watcher = hub.loop.io(self.pgconn.socket, wanted, priority=hub.loop.MAXPRI)
            try:
                hub.wait(watcher)
            finally:
                watcher.close()
        events = found[0][1]
        gone = events & ~(select.POLLIN | select.POLLOUT)  # closed or broken, and reading will raise the error
        return (1 if events & select.POLLIN or gone else 0) | (2 if events & select.POLLOUT else 0)

    def _poll_for(self, wanted: int) -> Callable[[int], list[tuple[int, int]]]:
        polls: dict[int, Any] = self.__dict__.setdefault("_polls", {})
        if wanted not in polls:
            poll = sockets.poll()
            poll.register(self.pgconn.socket, (wanted & 1 and select.POLLIN) | (wanted & 2 and select.POLLOUT))
            polls[wanted] = poll.poll
        look: Callable[[int], list[tuple[int, int]]] = polls[wanted]
        return look


def _gevent_hub() -> Any:
    from gevent import get_hub

    return get_hub()
