"""Rolls settled entries up into sums, so that reports need not add up the whole ledger (``accounting/sql/rollup.sql``).

Settlements do not wait for it and lock no sum: triggers note which entries are settled, and a thread of one process
rolls them up a moment later. Until then reports read those entries themselves, so they are exact at any moment. All
processes have the thread; the one whose session holds an advisory lock works, and another takes over when it ends.

Entries from before there was a rollup are rolled up by and by, with rests between, so that requests are not slower. In
the same way the thread reads the whole ledger once a day and proves it (``accounting.ledger.proof``).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import psycopg
from django.db import Error

from accounting import sql
from accounting.ledger import proof
from accounting.postgres import locks
from accounting.postgres.pipeline import Connection
from accounting.postgres.session import connect

log = logging.getLogger("gateway.rollup")

EVERY_S: Final = 2.0  # so many seconds of settled entries are read one by one by reports
ENTRIES: Final = 1000  # rolled up in one transaction; an adjustment waits while it runs
REST: Final = 3.0  # times as long as it worked, while there is more to do
PROVE_AFTER_S: Final = 600.0  # a start has proofs of its own
PROVE_LOOK_S: Final = 600.0  # how often it looks whether the whole ledger is to be proved again
LOOK_S: Final = 30.0  # how often the others look whether the one who works has ended


@dataclass(frozen=True, slots=True)
class RolledUp:
    entries: int
    has_more: bool


def roll_up(connection: Connection, most: int = ENTRIES) -> RolledUp:
    """Roll up at most so many entries that wait, and as many of the stretch that was never rolled up.

    Any number may run at once: one works, and the others have nothing to do. Raises psycopg.Error, and then nothing was
    rolled up.
    """
    with connection.transaction():
        locked = connection.execute(sql.load("lock_rollup")).fetchone()
        if locked is None:
            return RolledUp(0, has_more=False)
        from_at, until_at = locked
        # Whatever the planner thinks of a new table: all rows are found by key.
        connection.execute(
            "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
        )
        values = {"from_at": from_at, "until_at": until_at, "most": most}
        waiting = [row[0] for row in connection.execute(sql.load("waiting_entries"), values).fetchall()]
        stretch: list[tuple[UUID, bool]] = []
        if from_at < until_at:
            next_at = _next(connection, from_at, until_at, most)
            stretch = connection.execute(
                sql.load("stretch_entries"), {"from_at": from_at, "next_at": next_at}
            ).fetchall()
            from_at = next_at
        entry_ids = waiting + [entry_id for entry_id, stays in stretch if not stays]
        if entry_ids or stretch or from_at != locked[0]:
            connection.execute(
                sql.load("roll_up"),
                {
                    "entry_ids": entry_ids,
                    "staying_ids": [entry_id for entry_id, stays in stretch if stays],
                    "from_at": from_at,
                },
            )
    return RolledUp(len(entry_ids), has_more=len(waiting) >= most or locked[0] < until_at)


def _next(connection: Connection, from_at: datetime, until_at: datetime, most: int) -> datetime:
    row = connection.execute(sql.load("next_entries"), {"first_at": from_at, "most": most}).fetchone()
    return until_at if row is None else min(row[0], until_at)


def rebuild(connection: Connection) -> None:
    """Forget all sums. Reports read the entries until they are rolled up again."""
    with connection.transaction():
        connection.execute(sql.load("begin_rollup"))
        connection.execute("SELECT FROM accounting_rollup FOR UPDATE")
        connection.execute(sql.load("rebuild_rollup"))


class Clerk:
    """One process's thread."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._is_away = False  # whether Postgres is away, which the log says once
        self._proof: proof.Walk | None = None
        self._prove_at = time.monotonic() + PROVE_AFTER_S

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="rollup", daemon=True)
        self._thread.start()

    def stop(self, wait_s: float = 3.0) -> None:
        """End. What is not rolled up waits for the next process."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(wait_s)

    def _work(self) -> None:
        rest_s = EVERY_S
        while not self._stopping.wait(rest_s):
            try:
                rest_s = self._turn()
                self._is_away = False
            except (psycopg.Error, Error) as error:
                self._disconnect()
                rest_s = LOOK_S
                if not self._is_away:
                    self._is_away = True
                    log.warning("entries are not rolled up at the moment: %s", type(error).__name__)
            except Exception:
                self._disconnect()
                rest_s = LOOK_S
                log.exception("the rollup stumbled")
        self._disconnect()

    def _turn(self) -> float:
        """Roll up some entries. Returns how long to rest."""
        connection = self._connection or self._lead()
        if connection is None:
            return LOOK_S
        began = time.monotonic()
        if roll_up(connection).has_more:
            return REST * (time.monotonic() - began)
        return proof.REST * (time.monotonic() - began) if self._prove() else EVERY_S

    def _prove(self) -> bool:
        """One piece of the daily proof, when it is time. False: there is nothing to prove."""
        if self._proof is None and time.monotonic() >= self._prove_at:
            self._prove_at = time.monotonic() + PROVE_LOOK_S
            self._proof = proof.walk() if proof.is_due() else None
        if self._proof is not None and not proof.step(self._proof):
            self._proof = None
        return self._proof is not None

    def _lead(self) -> Connection | None:
        """Our session when no other process works; else None."""
        connection = connect("gateway rollup", statement_timeout_s=60)
        connection.autocommit = True
        try:
            # What a crash of Postgres takes back, it takes back from the sums and from the list of those that wait.
            connection.execute("SET synchronous_commit = off")
            row = connection.execute("SELECT pg_try_advisory_lock(%s, 0)", (locks.ROLLUP,)).fetchone()
            if row is None or not row[0]:
                connection.close()
                return None
            connection.execute(sql.load("begin_rollup"))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


_clerk = Clerk()
start = _clerk.start
stop = _clerk.stop
