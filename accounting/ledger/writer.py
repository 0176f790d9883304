"""One ledger writer a process: the queue between requests and Postgres, and the thread that drains it.

A budget's balance is one hot row, locked until its commit is flushed. With a transaction for each request, the whole
gateway could not serve more than one request a flush. So the writer commits an operation at once when it is alone, and
under load takes all that has queued up meanwhile into the next transaction.

The writer is a plain thread, which gevent's worker turns into a greenlet.

- **A dead process.** The writer's session holds a Postgres advisory lock named after its ``writer_id``. When the
  process dies, however it dies, Postgres releases the lock. Any other writer that finds the lock free expires the dead
  writer's holds (``accounting.ledger.expiry``).
- **Postgres is away.** Waiting and new holds are refused at once (``LedgerUnavailable``). Settlements are kept in
  memory and written when Postgres is back. If the process dies first, their holds expire to ``unknown``.
- **The thread is taken** by a request that computes, under gevent, while the writer holds locks. Postgres ends its
  session after ``STARVED_S``, so that other workers go on, and the transaction, of which nothing was committed, is run
  again.
- **Postgres refuses a settlement**, for a reason that may pass (a trigger, a broken index). The writer tries it again
  alone, ever more seldom, and gives it up in the end. Its hold then expires to ``unknown``, as a lost worker's does.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
from psycopg import pq

from accounting import facts, sql
from accounting.ledger.expiry import expire_dead
from accounting.ledger.operations import AnyOperation, Holding, Operation, Settling, ToppingUp, is_holding, is_settling
from accounting.ledger.records import Hold, HoldRequest, Settlement, TopUpRequest, Withdrawal
from accounting.ledger.transaction import run
from accounting.ledger.windows import Windows
from accounting.postgres import locks
from accounting.postgres.pipeline import Connection
from accounting.postgres.session import connect
from accounting.postgres.sockets import has_ended
from accounting.refusals import LedgerUnavailable

log = logging.getLogger("gateway.ledger")

MAX_BATCH = 256  # operations a transaction: bounds its time under the periods' locks
TICK_S = 1.0  # how often an idle writer looks for dead ones
HOLD_WAIT_S = 10.0  # a request that waited this long for its hold is refused; the hold, if written, is voided
SETTLE_WAIT_S = 10.0  # an answer waits at most this long for its posting, and then is delivered all the same
RECONNECT_S = 0.25  # between two attempts to reach Postgres; requests meanwhile are refused without trying
MAX_TRIES = 10  # how often a settlement that Postgres refuses is tried: some two minutes in all
#: How long Postgres keeps the locks of a transaction whose next statement does not come. Longer than any healthy thread
#: is busy with something else, and shorter than other workers' statements wait.
STARVED_S = 2
RETRY_S = 0.25  # from its first try to the second; each further wait is twice the one before

#: What Postgres says against an operation itself, whenever it is tried.
OPERATION_AT_FAULT = (psycopg.DataError, psycopg.IntegrityError)
#: The classes of SQLSTATE that are Postgres's own trouble, whatever the operation, and that pass: connection,
#: transaction state (a standby refuses to write), rollback, resources, locks, shutdown, cancelled statements, system.
POSTGRES_IN_TROUBLE = frozenset({"08", "25", "40", "53", "55", "57", "58"})


class Writer:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[AnyOperation | None] = queue.SimpleQueue()
        self._unwritten: deque[Settling] = deque()  # Postgres was away when these were to be written
        self._suspects: list[Settling] = []  # Postgres has refused these; they are never again written with others
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._windows = Windows()
        self._writer_id: int | None = None
        self._backend_pid = 0  # of the session that holds, or held, our advisory lock
        self._proven = False  # whether the session has committed something
        self._retry_at = 0.0  # monotonic
        self._busy_since: float | None = None  # monotonic: while it waits for Postgres
        self._look_at = 0.0  # monotonic: when to look for dead writers next
        self._missing: dict[int, float] = {}  # monotonic: since when other writers' locks are free
        self._stop_at: float | None = None  # monotonic: when to end, even with settlements unwritten

    # --- the requests' side ---------------------------------------------------------------------------------

    def hold(self, request: HoldRequest) -> Hold:
        """Admit a request. Raises a Refusal; then nothing was written."""
        return self._submit(Operation(request))

    def top_up(self, request: TopUpRequest) -> Hold:
        """Hold more for a running request. Raises a Refusal; ``accounting.ledger.top_up`` says what it then holds."""
        return self._submit(Operation(request))

    def settle(self, settlement: Settlement) -> bool:
        """Post or void. Returns whether that is durable now. When Postgres is away, it is kept and written later."""
        operation: Settling = Operation(settlement)
        self._put(operation)
        operation.done.wait(SETTLE_WAIT_S)
        return operation.outcome is not None and not isinstance(operation.outcome, Exception)

    def busy_s(self) -> float:
        """``accounting.ledger.busy_s``"""
        busy_since = self._busy_since
        return 0.0 if busy_since is None else time.monotonic() - busy_since

    def _submit(self, operation: Holding | ToppingUp) -> Hold:
        if self.busy_s() > HOLD_WAIT_S:
            raise LedgerUnavailable("Postgres does not answer")  # others have waited for it already
        self._put(operation)
        if not operation.done.wait(HOLD_WAIT_S) and operation.give_up():
            # The writer leaves the operation out. If it has written the hold already, it voids it.
            raise LedgerUnavailable("the ledger did not answer in time")
        if isinstance(operation.outcome, Exception):
            raise operation.outcome
        assert operation.outcome is not None
        return operation.outcome

    def _put(self, operation: AnyOperation) -> None:
        if self._thread is None:
            self.start()
        self._queue.put(operation)

    def start(self) -> None:
        """Begin to work before the first request, so that an idle gateway too finds dead writers' holds."""
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
                self._thread.start()

    def stop(self, wait_s: float = 10.0) -> None:
        """Write what is queued, then end. Waits at most ``wait_s``. Called when the worker drains."""
        if self._thread is None:
            return
        self._stop_at = time.monotonic() + wait_s
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
            # Let the requests that were just answered run before budget rows are locked again. Otherwise they would run
            # while the locks are held, and the writers of other processes would wait for them.
            time.sleep(0)
        self._retry_suspects()
        if time.monotonic() >= self._look_at and self._reachable():
            self._look_at = time.monotonic() + TICK_S
            self._expire_dead()
        if self._stop_at is None or not self._queue.empty():
            return False
        return not self._unwritten or time.monotonic() >= self._stop_at

    def _take(self) -> list[AnyOperation]:
        operations: list[AnyOperation] = []
        if self._unwritten and time.monotonic() >= self._retry_at:
            while self._unwritten and len(operations) < MAX_BATCH:
                operations.append(self._unwritten.popleft())
        try:
            wait_s = RECONNECT_S if self._unwritten or self._suspects or self._connection is None else TICK_S
            while len(operations) < MAX_BATCH:
                operation = self._queue.get_nowait() if operations else self._queue.get(timeout=wait_s)
                if operation is None:
                    break
                operations.append(operation)
        except queue.Empty:
            pass
        return operations

    def _commit(self, operations: Sequence[AnyOperation]) -> None:
        operations = [operation for operation in operations if not operation.given_up]
        if not operations:
            return
        self._busy_since = time.monotonic()
        try:
            if not self._reachable():
                self._put_off(operations, perhaps_written=False)
                return
            assert self._connection is not None
            assert self._writer_id is not None
            try:
                decisions = run(self._connection, operations, self._windows, self._writer_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, no settlement may be lost for it
                self._recover(operations, error)
                return
        finally:
            self._busy_since = None
        self._proven = True
        for decision in decisions:
            outcome, asked = decision.outcome, decision.operation.payload
            # A larger hold is left as it is: its request goes on, and its settlement gives back what is too much.
            if not decision.hand_over() and isinstance(outcome, Hold) and isinstance(asked, HoldRequest):
                self._unwritten.append(Settling(Withdrawal(outcome.entry_id)))

    def _recover(self, operations: Sequence[AnyOperation], error: Exception) -> None:
        """The transaction failed: find out for whom, and lose nothing."""
        if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
            # Postgres had our locks and waited for our next packet, with which the commit would have come.
            log.warning("ledger session ended, as this worker's thread was taken: the transaction is run again")
            self._disconnect()
            self._commit(operations)
            return
        deadlock = isinstance(error, psycopg.errors.DeadlockDetected)
        if not self._rolled_back() or not (deadlock or _refuses_operation(error)):
            self._lost(error)
            if not self._proven:  # Postgres lets us in but refuses to write, so do not hammer it
                self._retry_at = time.monotonic() + RECONNECT_S
            self._put_off(operations, perhaps_written=True)
        elif len(operations) > 1:
            # One bad row must not fail its neighbours.
            for operation in operations:
                self._commit([operation])
        elif deadlock:
            self._put_off(operations, perhaps_written=False)
        else:
            self._refused(operations[0], error)

    def _refused(self, operation: AnyOperation, error: Exception) -> None:
        """Postgres is there and refuses this one operation, alone."""
        for_good = not isinstance(error, psycopg.Error) or isinstance(error, OPERATION_AT_FAULT)
        if not is_settling(operation):
            log.error("ledger operation failed", exc_info=error)
            operation.finish(error if for_good else LedgerUnavailable("Postgres refuses it"))
            return
        operation.tries += 1
        entry, cost_usd = str(operation.payload.entry_id), _owed_usd(operation.payload)
        if not for_good and operation.tries < MAX_TRIES and self._stop_at is None:
            if operation.tries == 1:
                facts.settlement_put_off(facts.Unsettled(entry, cost_usd), error)
            operation.retry_at = time.monotonic() + RETRY_S * 2 ** (operation.tries - 1)
            self._suspects.append(operation)
            return
        facts.settlement_given_up(facts.SettlementGivenUp(entry, cost_usd, operation.tries), error)
        operation.finish(error)

    def _retry_suspects(self) -> None:
        now = time.monotonic()
        due = [operation for operation in self._suspects if operation.retry_at <= now or self._stop_at is not None]
        if not due:
            return
        self._suspects = [operation for operation in self._suspects if operation not in due]
        for operation in due:
            self._commit([operation])

    def _rolled_back(self) -> bool:
        assert self._connection is not None
        try:
            self._connection.rollback()
        except psycopg.Error:
            return False
        return not self._connection.closed

    def _put_off(self, operations: Sequence[AnyOperation], *, perhaps_written: bool) -> None:
        """Postgres is away. Settlements wait for it; holds and top-ups are refused. When it is not known whether the
        lost transaction had committed, its holds are withdrawn before anything else is written."""
        for operation in operations:
            if is_settling(operation):
                self._unwritten.append(operation)
            else:
                if perhaps_written and is_holding(operation):
                    self._unwritten.append(Settling(Withdrawal(operation.payload.entry_id)))
                operation.finish(LedgerUnavailable("Postgres cannot be reached"))

    # --- Postgres -------------------------------------------------------------------------------------------

    def _reachable(self) -> bool:
        """Whether there is a session. Makes one when it is time to try, or when Postgres has ended the last one since
        it was used: a request that comes after a restart of Postgres must not be refused for it."""
        if self._connection is not None:
            if not self._connection.closed and not has_ended(self._connection.pgconn.socket):
                return True
            log.warning("ledger session ended, to be replaced")
            self._disconnect()
        if time.monotonic() < self._retry_at:
            return False
        try:
            self._connect()
        except psycopg.Error as error:
            self._lost(error)
            self._retry_at = time.monotonic() + RECONNECT_S
            return False
        return True

    def _connect(self) -> None:
        connection = connect("gateway ledger writer", statement_timeout_s=8)
        self._connection, self._proven = connection, False
        # A commit must wait for the flush, whatever the server's default is.
        connection.execute("SET synchronous_commit = on")
        # Budgets are locked for all workers while we decide. A request that takes our thread must not keep them locked.
        connection.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", (f"{STARVED_S}s",))
        connection.commit()
        self._take_lock(connection)
        self._backend_pid = connection.info.backend_pid

    def _take_lock(self, connection: Connection) -> None:
        """Take the advisory lock of our writer_id, which is drawn at the first time."""
        while self._writer_id is None:
            writer_id = int(_one(connection, "SELECT nextval('accounting_writer_id')"))
            # Another writer has the number only when the database was restored to a time before that one drew it.
            if _one(connection, "SELECT pg_try_advisory_lock(%s, %s)", locks.WRITER, writer_id):
                self._writer_id = writer_id
                connection.commit()
                return
        # A reconnect keeps the number, so that running requests' holds stay ours. Our old session may not know yet that
        # its client is gone. Once it has ended, and released the lock, nothing that it was told can commit any more.
        connection.execute(sql.load("end_session"), {"pid": self._backend_pid, "writer_id": self._writer_id})
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (locks.WRITER, self._writer_id))
        connection.commit()

    def _lost(self, error: Exception) -> None:
        facts.ledger_unavailable(error)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.pgconn.status == pq.ConnStatus.OK:
            connection.close()

    def _expire_dead(self) -> None:
        assert self._connection is not None
        try:
            for expired in expire_dead(self._connection, own_writer_id=self._writer_id, missing=self._missing):
                facts.hold_expired(facts.HoldExpired(expired.request_id, str(expired.entry_id), expired.hold_usd))
        except psycopg.Error as error:
            facts.expiry_failed(error)
            self._disconnect()
            self._look_at = 0.0  # be back before the neighbours miss us


def _refuses_operation(error: Exception) -> bool:
    """Whether the error is about what was to be written, not about a Postgres that cannot write at all."""
    if not isinstance(error, psycopg.Error) or isinstance(error, OPERATION_AT_FAULT):
        return True
    return error.sqlstate is not None and error.sqlstate[:2] not in POSTGRES_IN_TROUBLE


def _owed_usd(payload: Settlement | Withdrawal) -> Decimal | None:
    """What is not on the books while the settlement is not written; None when it has no price."""
    return Decimal(0) if isinstance(payload, Withdrawal) else payload.cost_usd


def _one(connection: Connection, query: LiteralString, *parameters: object) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]
