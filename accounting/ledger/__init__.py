"""The ledger's door: what a request, and the process that serves it, may ask of the books.

Money goes in two phases. ``hold`` writes a durable row and weighs the most that a request may cost in every budget that
applies, before any provider is called. ``settle`` replaces the hold by the true cost, or by nothing. Between the two,
``top_up`` holds more for a further attempt. The shapes are in ``accounting.ledger.records``, the refusals in
``accounting.refusals``.

Each process has one writer, which commits the operations of many requests in one transaction. All functions here may
be called from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from accounting.budgets import BudgetRule
from accounting.ledger import rehearsal
from accounting.ledger.records import Hold, HoldRequest, Settlement, TopUpRequest
from accounting.ledger.writer import Writer


class LedgerWriter(Protocol):
    """What stands behind the door: ``accounting.ledger.writer.Writer``, or what a benchmark puts in its place."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def hold(self, request: HoldRequest) -> Hold: ...
    def top_up(self, request: TopUpRequest) -> Hold: ...
    def settle(self, settlement: Settlement) -> bool: ...
    def busy_s(self) -> float: ...


_writers: dict[int, LedgerWriter] = {}  # by process id: a forked worker must not use its parent's queue and connection


def hold(request: HoldRequest) -> Hold:
    """Admit a request: hold ``hold_usd`` in every budget of ``budgets``, or in none of them.

    When it returns, the hold is durable, and every hard budget had room for it. It waits for the commit, at most
    ``writer.HOLD_WAIT_S``.

    Raises a Refusal, and then nothing is held: ConfigurationChanged (read the configuration anew and ask again),
    BudgetExceeded, BudgetInFlight, RequestExceedsBudget, RateLimited, Unpriced, or LedgerUnavailable. A value that
    Postgres cannot store raises psycopg.Error: that is a defect of the caller, and nothing is held either.
    """
    return _writer().hold(request)


def would_hold(request: HoldRequest) -> Hold:
    """What ``hold`` would return or raise now, by the same decision. Nothing is held, and nothing is written."""
    return rehearsal.would_hold(request)


def books(rules: Iterable[BudgetRule], key_id: int | None) -> rehearsal.Books:
    """How the budgets stand now, and what the key has used of its rate limits (None: it has no limits).

    Raises LedgerUnavailable."""
    return rehearsal.read(rules, key_id)


def top_up(request: TopUpRequest) -> Hold:
    """Hold ``more_usd`` for a running request, and the whole new hold in budgets that apply only now.

    Returns the new receipt, which replaces the old one. Promises the same as ``hold``.

    Raises a Refusal, and then the hold is as it was: one of the budgets' refusals, Unpriced, or HoldLost (the hold was
    expired or resolved meanwhile). Raises LedgerUnavailable too, and then nobody knows what became of the top-up. After
    either, the request must not begin the attempt that the top-up was for.
    """
    return _writer().top_up(request)


def settle(settlement: Settlement) -> bool:
    """Post what the request cost, or void its hold. An entry is settled once; a repetition changes nothing.

    Waits for the commit, at most ``writer.SETTLE_WAIT_S``, and returns whether the settlement is durable now. False:
    Postgres is away or slow, or refuses the row. The writer keeps the settlement in memory and tries again. Should the
    process die first, or the writer give up in the end, the hold expires to ``unknown``, charged at the hold.

    Raises nothing: an answer that was paid for is delivered whatever becomes of its bookkeeping.
    """
    return _writer().settle(settlement)


def busy_s() -> float:
    """For how long this process's writer has been at what it writes now; 0 when it has nothing to write.

    Milliseconds as a rule. Seconds mean that Postgres keeps it waiting.
    """
    writer = _writers.get(os.getpid())
    return writer.busy_s() if writer is not None else 0.0


def start(writer: LedgerWriter | None = None) -> None:
    """Start this process's writer before its first request, so that an idle gateway too finds dead writers' holds.

    A process that does not call this starts its writer with its first operation. ``writer`` takes the place of ours; a
    process has one writer, so it must come first. Raises RuntimeError when there is another already.
    """
    if writer is not None and _writers.setdefault(os.getpid(), writer) is not writer:
        raise RuntimeError("this process has a ledger writer already")
    _writer().start()


def stop() -> None:
    """Write what is queued, then end this process's writer. Waits for a Postgres that is away, but not for long."""
    writer = _writers.get(os.getpid())
    if writer is not None:
        writer.stop()


def _writer() -> LedgerWriter:
    pid = os.getpid()
    if pid not in _writers:
        # Two threads may race here; setdefault keeps one writer, and a writer that was not started costs nothing.
        _writers.setdefault(pid, Writer())
    return _writers[pid]
