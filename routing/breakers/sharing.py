"""Shares breakers between workers and replicas, through one thread a process and one small table (`models.Breaker`).

The thread (a greenlet under gevent) writes what its process has decided, and reads twice a second what all processes
have decided; likewise which keys have called a deployment and whose calls have failed (`models.BreakerUse`). It also
claims the probe of a half-open breaker for the request that asks for it. Only that request waits for the database, for
a second at most. Times are passed as seconds from now, so the machines' clocks may differ.

A claim is a lease, which the thread renews while the probe runs. When the process dies, another process can claim the
probe three seconds later. While Postgres is away, each process goes on alone. When Postgres is back, it writes what it
has decided meanwhile.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque

import psycopg

from accounting import facts
from accounting.postgres.pipeline import Connection
from accounting.postgres.session import connect
from routing.breakers import breaker, sql
from routing.breakers.breaker import Breakers, Name, News, Opened, Probe, Shared
from routing.breakers.clients import LATELY_S, Use

log = logging.getLogger("gateway.breaker")

POLL_S = 0.5
CLAIM_WAIT_S = 1.0  # after this wait for the probe, a request skips the deployment
LEASE_S = 3.0
RECONNECT_S = 1.0
FORGET_EVERY_S = 300.0


class _Claim:
    __slots__ = ("done", "name", "probe")

    def __init__(self, name: Name, probe: Probe) -> None:
        self.name, self.probe, self.done = name, probe, threading.Event()


class Sharing:
    """Shares one process's breakers with all others of its database."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._claims: deque[_Claim] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = None
        self._retry_at = 0.0  # monotonic
        self._is_away = False  # whether Postgres is away, which the log then says once
        self._is_stopping = False
        self._forget_at = time.monotonic() + FORGET_EVERY_S

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="breaker-sharing", daemon=True)
        self._breakers.ask_for, self._breakers.when_news = self._ask_for, self._wake.set
        self._thread.start()

    def stop(self, wait_s: float = 3.0) -> None:
        """Write the news that is left, then end."""
        if self._thread is None:
            return
        self._breakers.ask_for = self._breakers.when_news = None
        self._is_stopping = True
        self._wake.set()
        self._thread.join(wait_s)

    def _ask_for(self, name: Name, probe: Probe) -> None:
        """Runs in the request's thread. Returns when the probe is granted, refused, or the wait is over."""
        if self._connection is None:  # Postgres is away: each process probes for itself
            self._breakers.grant(name, probe, None)
            return
        claim = _Claim(name, probe)
        self._claims.append(claim)
        self._wake.set()
        claim.done.wait(CLAIM_WAIT_S)

    # --- the thread's side ----------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            is_last = self._is_stopping
            try:
                self._turn()
            except psycopg.Error as error:
                self._lost(error)
            except Exception:
                log.exception("breaker sharing stumbled")
                self._lost(None)
            if is_last:
                break
            self._wake.wait(POLL_S)
            self._wake.clear()
        if self._connection is not None:
            self._connection.close()

    def _turn(self) -> None:
        claims = [self._claims.popleft() for _ in range(len(self._claims))]
        try:
            connection = self._session()
            if connection is None:
                for claim in claims:
                    self._breakers.grant(claim.name, claim.probe, None)
                return
            for name, news in self._breakers.news():
                _write(connection, name, news)
                self._breakers.told(name, news)
            for claim in claims:
                self._claim(connection, claim)
            self._share_uses(connection)
            for name, generation in self._breakers.running_probes():
                connection.execute(
                    sql.load("renew_probe"),
                    {"provider": name[0], "model": name[1], "generation": generation, "lease_s": LEASE_S},
                )
            rows = connection.execute(sql.load("open_breakers")).fetchall()
            self._breakers.learn(
                Shared((provider, model), generation, open_s, probe_s)
                for provider, model, generation, open_s, probe_s in rows
            )
        finally:
            for claim in claims:
                claim.done.set()

    def _share_uses(self, connection: Connection) -> None:
        told = [
            {"provider": name[0], "model": name[1], "key_id": use.key, "used_s": use.used_s, "failed_s": use.failed_s}
            for name, use in self._breakers.uses()
        ]
        if told:
            connection.execute(sql.load("note_uses"), {"rows": json.dumps(told)})
        rows = connection.execute(sql.load("recent_uses"), {"lately_s": LATELY_S}).fetchall()
        self._breakers.learn_uses(
            ((provider, model), Use(key, used_s, failed_s)) for provider, model, key, used_s, failed_s in rows
        )
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY_S
            connection.execute(sql.load("forget_uses"))

    def _claim(self, connection: Connection, claim: _Claim) -> None:
        provider, model = claim.name
        row = connection.execute(
            sql.load("claim_probe"), {"provider": provider, "model": model, "lease_s": LEASE_S}
        ).fetchone()
        # If the request has given up meanwhile, nobody uses the claim, and its lease runs out.
        if row is not None:
            self._breakers.grant(claim.name, claim.probe, row[0])

    def _session(self) -> Connection | None:
        """The connection; None while Postgres is away. Tries to connect again after ``RECONNECT_S``."""
        if self._connection is None and time.monotonic() >= self._retry_at:
            connection = connect("gateway breakers", statement_timeout_s=2)
            connection.autocommit = True
            self._connection = connection
            if self._is_away:
                self._is_away = False
                facts.breakers_shared_again()
        return self._connection

    def _lost(self, error: psycopg.Error | None) -> None:
        connection, self._connection = self._connection, None
        self._retry_at = time.monotonic() + RECONNECT_S
        if connection is not None:
            connection.close()
        if not self._is_away:
            self._is_away = True
            facts.breakers_not_shared(type(error).__name__ if error else "stumbled")


def _write(connection: Connection, name: Name, news: News) -> None:
    deployment = {"provider": name[0], "model": name[1]}
    # The news may have waited for Postgres, so only the rest of the time counts.
    open_s = max(0.0, news.open_until - time.monotonic())
    if isinstance(news, Opened):
        connection.execute(
            sql.load("open_breaker"),
            {**deployment, "open_s": open_s, "failures": news.failures, "kind": news.kind.value},
        )
        return
    connection.execute(
        sql.load("end_probe"),
        {
            **deployment,
            "open_s": open_s,
            "state": "closed" if news.is_closed else "open",
            "kind": news.kind.value if news.kind is not None else None,
            "generation": news.generation,
        },
    )


_sharing = Sharing(breaker.breakers)
start = _sharing.start
stop = _sharing.stop
