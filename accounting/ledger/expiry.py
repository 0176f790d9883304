"""Holds whose writer died, or whose time is up: they become ``unknown``, charged at the hold."""

from __future__ import annotations

import time

from accounting import sql
from accounting.ledger.records import Expired
from accounting.ledger.rows import EntryCharge
from accounting.postgres import locks
from accounting.postgres.pipeline import Connection

DEAD_AFTER_S = 2.5  # a writer is dead when its lock is free for this long: a living one would have reconnected


def expire_dead(
    connection: Connection, *, own_writer_id: int | None = None, missing: dict[int, float] | None = None
) -> list[Expired]:
    """Resolve to ``unknown`` every hold whose writer is dead, or whose time is up. Any number may run at once.

    ``missing`` says since when (monotonic) which writers' locks are free. The caller keeps it from look to look, and a
    writer counts as dead after DEAD_AFTER_S, because it may be reconnecting. None: a free lock means dead at once.
    """
    writers = connection.execute(sql.load("held_writers")).fetchall()
    connection.commit()
    if missing is not None:
        for writer_id in missing.keys() - {row[0] for row in writers}:
            del missing[writer_id]
    expired: list[Expired] = []
    for writer_id, overdue in writers:
        with connection.transaction():
            alive = writer_id == own_writer_id
            if not alive:
                row = connection.execute(
                    "SELECT pg_try_advisory_xact_lock(%s, %s)", (locks.WRITER, writer_id)
                ).fetchone()
                alive = row is None or not row[0]
            if missing is not None:
                if alive:
                    missing.pop(writer_id, None)
                elif time.monotonic() - missing.setdefault(writer_id, time.monotonic()) < DEAD_AFTER_S:
                    continue
            if alive and not overdue:
                continue
            locked = connection.execute(
                sql.load("lock_held"), {"writer_id": writer_id, "writer_dead": not alive}
            ).fetchall()
            entry_ids = [row[0] for row in locked]
            if not entry_ids:
                continue
            found = connection.execute(sql.load("entry_charges"), {"entry_ids": entry_ids}).fetchall()
            period_ids = sorted({EntryCharge(*row).period_id for row in found})
            connection.execute(sql.load("lock_periods"), {"period_ids": period_ids})
            rows = connection.execute(sql.load("expire_entries"), {"entry_ids": entry_ids}).fetchall()
            expired.extend(Expired(*row) for row in rows)
    return expired
