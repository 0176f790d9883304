"""One ledger writer a process: the queue between requests and Postgres, and the thread that drains it.

A budget's balance is one hot row, locked until its commit is flushed, so a transaction a request would cap the whole
gateway at one request a flush. Alone, a request's operation is committed at once; under load the writer takes all
that has queued up meanwhile into the next transaction.

It runs as a plain thread, which gevent's worker turns into a greenlet. While it works:

- its session holds a Postgres advisory lock named after its ``writer_id``. When the process dies, however it dies,
  Postgres releases the lock, and any other writer that finds it free expires what the dead one left held;
- Postgres gone: waiting and new holds are refused at once (``LedgerUnavailable``); settlements are kept
  in memory and written when Postgres is back. Should the process die first, their holds expire to ``unknown``.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from typing import Any

import psycopg
from django.db import connections
from psycopg import pq

from accounting import sql
from accounting.batch import Abandoned, Connection, Operation, Windows, run
from accounting.ledger import Expired, Hold, HoldRequest, Settlement, TopUpRequest
from accounting.refusals import BudgetRefusal, LedgerUnavailable

log = logging.getLogger("gateway.ledger")

ADVISORY_LOCK_CLASS = 7233  # ours among the database's advisory locks; the second number is the writer_id
MAX_BATCH = 256  # operations a transaction: bounds its time under the periods' locks
TICK_S = 1.0  # how often an idle writer looks for dead ones
HOLD_WAIT_S = 10.0  # a request that waited this long for its hold is refused; the hold, if written, is voided
SETTLE_WAIT_S = 10.0  # an answer waits this long for its posting before it is delivered all the same
RECONNECT_S = 0.25  # between two attempts to reach Postgres; requests meanwhile are refused without trying


class Writer:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._unwritten: deque[Operation] = deque()  # settlements that Postgres was not there for
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._windows = Windows()
        self._writer_id: int | None = None
        self._retry_at = 0.0  # monotonic
        self._look_at = 0.0  # monotonic: when to look for dead writers next
        self._stopping = False

    # --- the requests' side ---------------------------------------------------------------------------------

    def hold(self, request: HoldRequest) -> Hold:
        """Admit a request. Raises a Refusal; then nothing was written."""
        outcome = self._submit(Operation(request), HOLD_WAIT_S)
        assert isinstance(outcome, Hold)
        return outcome

    def top_up(self, request: TopUpRequest) -> Hold:
        """Hold more for a running request. Raises a Refusal; then the hold is as it was."""
        outcome = self._submit(Operation(request), HOLD_WAIT_S)
        assert isinstance(outcome, Hold)
        return outcome

    def settle(self, settlement: Settlement) -> bool:
        """Post or void. Returns whether it is durable now; when Postgres is away it is kept and written later."""
        operation = Operation(settlement)
        self._put(operation)
        operation.done.wait(SETTLE_WAIT_S)
        return operation.outcome is not None and not isinstance(operation.outcome, Exception)

    def _submit(self, operation: Operation, wait_s: float) -> Any:
        self._put(operation)
        if not operation.done.wait(wait_s):
            operation.abandoned = True  # the writer voids it should it still be written
            raise LedgerUnavailable("the ledger did not answer in time")
        if isinstance(operation.outcome, Exception):
            raise operation.outcome
        return operation.outcome

    def _put(self, operation: Operation) -> None:
        if self._thread is None:
            with self._start_lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
                    self._thread.start()
        self._queue.put(operation)

    def start(self) -> None:
        """Begin to work before the first request, so that dead writers' holds are found in an idle gateway too."""
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
                self._thread.start()

    def stop(self, wait_s: float = 10.0) -> None:
        """Write what is queued, then end. Called when the worker drains."""
        if self._thread is None:
            return
        self._stopping = True
        self._queue.put(None)
        self._thread.join(wait_s)

    # --- the writer's side ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                if self._turn():
                    break
            except Exception:
                log.exception("ledger writer stumbled")
                self._disconnect()
                time.sleep(RECONNECT_S)
        self._disconnect()

    def _turn(self) -> bool:
        """Take what has queued up, write it, look after dead writers. Returns whether to end."""
        operations = self._take()
        if operations:
            self._commit(operations)
        if time.monotonic() >= self._look_at and self._reachable():
            self._look_at = time.monotonic() + TICK_S
            self._expire_dead()
        return self._stopping and self._queue.empty() and not (self._unwritten and self._reachable())

    def _take(self) -> list[Operation]:
        operations: list[Operation] = []
        if self._unwritten and time.monotonic() >= self._retry_at:
            while self._unwritten and len(operations) < MAX_BATCH:
                operations.append(self._unwritten.popleft())
        try:
            wait_s = RECONNECT_S if self._unwritten else TICK_S
            while len(operations) < MAX_BATCH:
                operation = self._queue.get_nowait() if operations else self._queue.get(timeout=wait_s)
                if operation is None:
                    break
                operations.append(operation)
        except queue.Empty:
            pass
        return operations

    def _commit(self, operations: list[Operation]) -> None:
        if not self._reachable():
            self._put_off(operations)
            return
        assert self._connection is not None
        assert self._writer_id is not None
        try:
            outcomes = run(self._connection, operations, self._windows, self._writer_id)
        except psycopg.OperationalError as error:
            if isinstance(error, psycopg.errors.DeadlockDetected):
                self._connection.rollback()
                self._one_by_one(operations)
                return
            log.error("ledger unavailable", extra={"error": type(error).__name__})  # noqa: TRY400  the kind says it; a traceback a second would drown it
            self._disconnect()
            self._put_off(operations)
        except Exception as error:
            if self._connection.closed:
                self._disconnect()
                self._put_off(operations)
                return
            self._connection.rollback()
            if len(operations) > 1:
                # One bad row must not fail its neighbours.
                self._one_by_one(operations)
            else:
                log.exception("ledger operation failed")
                operations[0].finish(error)
        else:
            for operation, outcome in outcomes:
                if operation.abandoned and isinstance(outcome, Hold):
                    self._unwritten.append(Operation(Abandoned(outcome.entry_id)))
                operation.finish(outcome)
                if isinstance(outcome, BudgetRefusal):
                    log.warning("budget refused a request", extra={"budget": outcome.budget})

    def _one_by_one(self, operations: list[Operation]) -> None:
        for operation in operations:
            self._commit([operation])

    def _put_off(self, operations: list[Operation]) -> None:
        """Postgres is away. Settlements wait for it. Holds are refused; whether the lost transaction had
        committed is not known, so they are voided, should they be there, before anything else is written."""
        for operation in operations:
            if isinstance(operation.payload, Settlement | Abandoned):
                self._unwritten.append(operation)
            else:
                if isinstance(operation.payload, HoldRequest):
                    self._unwritten.append(Operation(Abandoned(operation.payload.entry_id)))
                operation.finish(LedgerUnavailable("Postgres cannot be reached"))

    # --- Postgres -------------------------------------------------------------------------------------------

    def _reachable(self) -> bool:
        """Whether there is a session; makes one when it is time to try."""
        if self._connection is not None and not self._connection.closed:
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._connect()
        except psycopg.Error as error:
            self._disconnect()
            self._retry_at = time.monotonic() + RECONNECT_S
            log.error("ledger unavailable", extra={"error": type(error).__name__})  # noqa: TRY400  the kind says it; a traceback a second would drown it
            return False
        return True

    def _connect(self) -> None:
        parameters = connections["default"].get_connection_params()
        for name in (
            "cursor_factory",
            "context",
            "client_encoding",
            "prepare_threshold",
            "server_side_binding",
        ):
            parameters.pop(name, None)
        connection = psycopg.connect(
            **{
                "connect_timeout": 3,
                "tcp_user_timeout": 5000,
                "application_name": "gateway ledger writer",
                **parameters,
            },
            prepare_threshold=2,
        )
        self._connection = connection
        # A frozen Postgres must not freeze the gateway; commits wait for the flush whatever the server's default is.
        connection.execute("SET statement_timeout = '8s'")
        connection.execute("SET synchronous_commit = on")
        connection.execute("SET TIME ZONE 'UTC'")
        if self._writer_id is None:
            row = connection.execute("SELECT nextval('accounting_writer_id')").fetchone()
            assert row is not None
            self._writer_id = int(row[0])
        # The same number after a reconnect: running requests' holds stay ours.
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (ADVISORY_LOCK_CLASS, self._writer_id))
        connection.commit()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.pgconn.status == pq.ConnStatus.OK:
            connection.close()

    def _expire_dead(self) -> None:
        assert self._connection is not None
        try:
            for expired in expire_dead(self._connection, own_writer_id=self._writer_id):
                log.warning(
                    "hold expired to unknown",
                    extra={
                        "request_id": expired.request_id,
                        "entry": str(expired.entry_id),
                        "cost_usd": None if expired.hold_usd is None else str(expired.hold_usd),
                    },
                )
        except psycopg.Error as error:
            log.error("expiring holds failed", extra={"error": type(error).__name__})  # noqa: TRY400  the kind says it; a traceback a second would drown it
            self._disconnect()


def expire_dead(connection: Connection, *, own_writer_id: int | None = None) -> list[Expired]:
    """Resolve to ``unknown`` every hold whose writer is dead, or whose time is up. Any number may run at once."""
    writers = connection.execute(sql.load("held_writers")).fetchall()
    connection.commit()
    expired: list[Expired] = []
    for writer_id, overdue in writers:
        with connection.transaction():
            alive = writer_id == own_writer_id
            if not alive:
                row = connection.execute(
                    "SELECT pg_try_advisory_xact_lock(%s, %s)", (ADVISORY_LOCK_CLASS, writer_id)
                ).fetchone()
                alive = row is None or not row[0]
            if alive and not overdue:
                continue
            locked = connection.execute(
                sql.load("lock_held"), {"writer_id": writer_id, "writer_dead": not alive}
            ).fetchall()
            entry_ids = [row[0] for row in locked]
            if not entry_ids:
                continue
            charges = connection.execute(sql.load("entry_charges"), {"entry_ids": entry_ids}).fetchall()
            period_ids = sorted({charge[1] for charge in charges})
            connection.execute(sql.load("lock_periods"), {"period_ids": period_ids})
            rows = connection.execute(sql.load("expire_entries"), {"entry_ids": entry_ids}).fetchall()
            expired.extend(Expired(*row) for row in rows)
    return expired
