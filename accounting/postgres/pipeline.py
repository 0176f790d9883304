"""Sends statements to Postgres in one packet and reads their results in one: half of a ledger transaction.

psycopg's own pipeline writes each statement to the socket alone and runs it through a cursor. That takes fifty
microseconds and a wake-up of the server for each statement, and a request has fifteen. This module uses libpq's
pipeline through psycopg's wrapper, with statements that are prepared once a session. psycopg itself must not prepare
statements there (session.py). Values are loaded and errors are raised as psycopg does.

https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.waiting import Ready, Wait

from accounting import sql

Rows = list[tuple[Any, ...]]
Statement = tuple[
    str, Mapping[str, object]
]  # its name in accounting/sql; its values: text, or lists of numbers or of UUIDs' texts
Connection = psycopg.Connection[tuple[Any, ...]]

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_COMMIT = b"COMMIT"
_prepared: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()


def run(connection: Connection, statements: Sequence[Statement], *, commit: bool = False) -> list[Rows]:
    """The rows of each statement. Begins a transaction if none is open.

    Raises psycopg.Error; then the transaction is open and failed, or the connection is lost. Only in the latter case
    may ``commit`` have happened all the same.
    """
    known = _prepared.setdefault(connection, set())
    try:
        sent = _queue(connection.pgconn, statements, known, commit=commit)
        results = connection.wait(_exchange(connection.pgconn))
        connection.pgconn.exit_pipeline_mode()
    except BaseException:
        connection.close()  # results may still be on their way, so the connection cannot be used again
        raise
    loaded = Transformer(connection)
    rows: list[Rows] = []
    failed: pq.abc.PGresult | None = None
    for (what, name), result in zip(sent, results, strict=True):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            failed = result
        elif what == "prepare" and result.status == pq.ExecStatus.COMMAND_OK:
            known.add(name)  # a prepared statement stays for the session, also after a rollback
        elif what == "run" and failed is None:
            loaded.set_pgresult(result)
            rows.append(loaded.load_rows(0, result.ntuples, tuple))
    if failed is not None:
        raise error_from_result(failed, encoding="utf-8")
    return rows


def _queue(
    pgconn: pq.abc.PGconn, statements: Sequence[Statement], known: set[str], *, commit: bool
) -> list[tuple[str, str]]:
    """Put the statements in libpq's buffer. Returns which statement each result will belong to."""
    sent: list[tuple[str, str]] = []
    pgconn.enter_pipeline_mode()
    if pgconn.transaction_status == pq.TransactionStatus.IDLE:
        pgconn.send_query_params(_BEGIN, None)
        sent.append(("begin", ""))
    for name, values in statements:
        text, parameters = _compiled(name)
        if name not in known and ("prepare", name) not in sent:
            pgconn.send_prepare(name.encode(), text)
            sent.append(("prepare", name))
        pgconn.send_query_prepared(name.encode(), [_as_text(values[parameter]) for parameter in parameters])
        sent.append(("run", name))
    if commit:
        pgconn.send_query_params(_COMMIT, None)
        sent.append(("commit", ""))
    pgconn.pipeline_sync()
    return sent


def _exchange(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
    """Send what is queued and collect the results. Reads while it sends, so that neither side waits for the other."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    results: list[pq.abc.PGresult] = []
    while True:
        while pgconn.is_busy():
            yield Wait.R
            try:
                pgconn.consume_input()
            except psycopg.OperationalError as error:
                raise _lost(results) from error
        result = pgconn.get_result()
        if result is None:  # the results of a statement are complete
            if pgconn.status == pq.ConnStatus.BAD:
                raise _lost(results)
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)


def _lost(results: list[pq.abc.PGresult]) -> psycopg.Error:
    """Why the connection is lost: in Postgres's words if it had any."""
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            return error_from_result(result, encoding="utf-8")
    return psycopg.OperationalError("the connection is lost")


@cache
def _compiled(name: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with libpq's placeholders, and the names of its values in order."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", number, sql.load(name))
    return text.replace("%%", "%").encode(), tuple(names)


def _as_text(value: object) -> bytes:
    if isinstance(value, list):
        return b"{%s}" % ",".join(map(str, value)).encode()
    if isinstance(value, bytes):
        return value
    assert isinstance(value, str)
    return value.encode()
