"""The book of refused requests: each of them is a row that an operator finds by its request id.

A request that is refused leaves its refusal here and goes on. A thread of the process, a greenlet under gevent, writes
what has come together in one statement a second, with a session of its own, so that no request waits for it and the
ledger's writer does not either. Without Postgres the rows wait.

A client that is refused may come back a thousand times a second. Of the same key, alias and code, the first
``EACH_AN_HOUR`` in an hour have their rows; the further ones are counted, a row a minute. So the table grows by what is
refused, not by how often, and no storm fills the memory.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import psycopg

from accounting import sql
from accounting.money import plain_usd
from accounting.postgres.pipeline import Connection
from accounting.postgres.session import connect
from accounting.tags import Tags
from accounting.text import storable

log = logging.getLogger("gateway.refusals")

KEPT_DAYS: Final = 30
EACH_AN_HOUR: Final = 200  # rows of the same key, alias and code
ROWS_AN_HOUR: Final = 5_000  # of one process, whatever is refused
WAITING_MAX: Final = 10_000  # rows that wait for Postgres
COUNTS_MAX: Final = 1_000  # different counts at a time; what is beyond is counted without its alias

WRITE_EVERY_S: Final = 1.0
RETRY_S: Final = 5.0  # Postgres was away
IDLE_S: Final = 30.0  # after that the session is closed
PRUNE_EVERY_S: Final = 3600.0
PRUNE_ROWS: Final = 5_000  # a statement

Row = dict[str, object]
Kind = tuple[str, str, str, str, str]  # what is counted together: key, alias, endpoint, code, budget


@dataclass(frozen=True, slots=True)
class Refused:
    """What the book keeps of a refused request. Empty: it has none, or nobody knows."""

    request_id: str
    code: str
    message: str = ""
    key: str = ""
    key_id: int | None = None
    alias: str = ""
    endpoint: str = ""
    end_user: str = ""
    tags: Tags = field(default_factory=dict)
    budget: str = ""
    limit_usd: Decimal | None = None
    spent_usd: Decimal | None = None
    held_usd: Decimal | None = None
    asked_usd: Decimal | None = None


class RefusalBook:
    """One process's refusals, on their way to the table. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._counts: dict[tuple[datetime, Kind], Row] = {}
        self._hour: datetime | None = None
        self._of_the_hour: dict[Kind, int] = {}
        self._rows_of_the_hour = 0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._prune_at = time.monotonic() + IDLE_S
        self._is_away = False  # whether Postgres is away, which the log says once

    # --- the requests' side ---------------------------------------------------------------------------------

    def note(self, refused: Refused, *, is_counted_only: bool = False) -> None:
        """Keep the refusal. Does not wait, and never fails a request."""
        now = datetime.now(UTC)
        row = _row(refused, now)
        kind: Kind = (str(row["key"]), str(row["alias"]), str(row["endpoint"]), str(row["code"]), str(row["budget"]))
        with self._lock:
            if is_counted_only or not self._has_a_row(kind, now):
                self._count(kind, row, now)
            else:
                self._rows.append(row)
        self._wake.set()
        if self._thread is None:
            self.start()

    def _has_a_row(self, kind: Kind, now: datetime) -> bool:
        hour = now.replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self._hour, self._of_the_hour, self._rows_of_the_hour = hour, {}, 0
        seen = self._of_the_hour.get(kind, 0)
        if seen >= EACH_AN_HOUR or self._rows_of_the_hour >= ROWS_AN_HOUR or len(self._rows) >= WAITING_MAX:
            return False
        self._of_the_hour[kind] = seen + 1
        self._rows_of_the_hour += 1
        return True

    def _count(self, kind: Kind, row: Row, now: datetime) -> None:
        minute = now.replace(second=0, microsecond=0)
        if (minute, kind) not in self._counts and len(self._counts) >= COUNTS_MAX:
            kind = (kind[0], "", *kind[2:])
            row["alias"] = ""
        known = self._counts.get((minute, kind))
        row |= {"at": minute.isoformat(), "request_id": "", "end_user": "", "tags": {}}
        row["count"] = 1 if known is None else int(str(known["count"])) + 1
        self._counts[minute, kind] = row

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="refusals", daemon=True)
                self._thread.start()

    def stop(self, wait_s: float = 3.0) -> None:
        """Write what is left, then end. Waits at most ``wait_s``."""
        if self._thread is None:
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join(wait_s)

    # --- the thread's side ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stopping.is_set():
            is_woken = self._wake.wait(IDLE_S)
            self._wake.clear()
            if is_woken:
                self._stopping.wait(WRITE_EVERY_S)  # what comes meanwhile goes into the same statement
                if not self.write():
                    self._stopping.wait(RETRY_S)
                    self._wake.set()
            else:
                self._disconnect()
            if time.monotonic() >= self._prune_at and not self._stopping.is_set():
                self._prune_at = time.monotonic() + PRUNE_EVERY_S
                self.prune()
        self.write()
        self._disconnect()

    def write(self) -> bool:
        """Write what has come together. False: Postgres is away, and it waits."""
        with self._lock:
            rows, self._rows = self._rows, []
            counts, self._counts = self._counts, {}
        if not rows and not counts:
            return True
        try:
            self._insert([*rows, *counts.values()])
        except psycopg.Error as error:
            self._lost(error)
            with self._lock:
                self._rows[:0] = rows
                for place, row in counts.items():
                    later = self._counts.setdefault(place, row)
                    if later is not row:
                        later["count"] = int(str(later["count"])) + int(str(row["count"]))
            return False
        self._is_away = False
        return True

    def _insert(self, rows: list[Row]) -> None:
        try:
            self._session().execute(sql.load("insert_refusals"), {"rows": json.dumps(rows)})
        except (psycopg.DataError, psycopg.IntegrityError):
            if len(rows) > 1:  # one bad row must not take its neighbours with it
                for row in rows:
                    self._insert([row])
                return
            log.exception("a refused request is not on the books")

    def prune(self) -> None:
        """Delete what is older than ``KEPT_DAYS``. Any number may run at once."""
        values = {"days": KEPT_DAYS, "rows": PRUNE_ROWS}
        try:
            while self._session().execute(sql.load("delete_old_refusals"), values).rowcount >= PRUNE_ROWS:
                if self._stopping.wait(0.1):
                    return
        except psycopg.Error as error:
            self._lost(error)

    def _session(self) -> Connection:
        """Raises psycopg.Error."""
        if self._connection is None:
            connection = connect("gateway refusals", statement_timeout_s=5)
            connection.autocommit = True
            self._connection = connection
        return self._connection

    def _lost(self, error: psycopg.Error) -> None:
        self._disconnect()
        if not self._is_away:
            self._is_away = True
            log.warning("refused requests wait for Postgres: %s", type(error).__name__)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _row(refused: Refused, at: datetime) -> Row:
    """For insert_refusals.sql."""
    return {
        "at": at.isoformat(),
        "request_id": refused.request_id,
        "code": refused.code,
        "message": storable(refused.message, 500),
        "key": storable(refused.key, 100),
        "key_id": refused.key_id,
        "alias": storable(refused.alias, 100),
        "endpoint": refused.endpoint,
        "end_user": storable(refused.end_user, 200),
        "tags": dict(refused.tags),
        "budget": refused.budget,
        "limit_usd": _text(refused.limit_usd),
        "spent_usd": _text(refused.spent_usd),
        "held_usd": _text(refused.held_usd),
        "asked_usd": _text(refused.asked_usd),
        "count": 1,
    }


def _text(amount_usd: Decimal | None) -> str | None:
    return None if amount_usd is None else plain_usd(amount_usd)


_book = RefusalBook()
note = _book.note
start = _book.start
stop = _book.stop
