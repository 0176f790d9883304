"""The breakers of two processes on one Postgres, each with its thread: one follows what the other decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from accounting.models import ConfigurationVersion
from routing.breakers.breaker import Breakers
from routing.breakers.sharing import LEASE_S, Sharing
from routing.models import Breaker, BreakerUse
from routing.upstreams.base import FailureKind, UpstreamError
from tests.breakers.test_breaker import COOLDOWN_S, fail, from_another_thread, step
from tests.clocks import eventually, within

KNOWN_S = 1.0  # the time within which the other processes know


class Process:
    """The breakers of a worker."""

    def __init__(self) -> None:
        self.breakers = Breakers()
        self.sharing = Sharing(self.breakers)
        self.sharing.start()

    def opens(self, cooldown_s: float = COOLDOWN_S) -> None:
        fail(self.breakers, step(cooldown_s=cooldown_s), 3)

    def lets_through(self) -> bool:
        return self.breakers.lets_through(step())

    def passes_by(self) -> bool:
        return not self.lets_through()


@pytest.fixture
def processes(transactional_db: None) -> Iterator[tuple[Process, Process]]:
    both = Process(), Process()
    assert eventually(lambda: sessions() == 2)
    yield both
    for process in both:
        process.sharing.stop()
    assert eventually(lambda: sessions() == 0)


def sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gateway breakers'"
            " AND datname = current_database()"
        )
        count: int = cursor.fetchone()[0]
        return count


def give_the_probe_to(process: Process, *, opened_by: Process) -> None:
    opened_by.opens()
    time.sleep(COOLDOWN_S + KNOWN_S)  # both know that it is half-open now
    assert process.lets_through()


def state() -> Breaker:
    return Breaker.objects.get()


def test_a_breaker_that_one_process_opens_is_open_for_the_other(processes: tuple[Process, Process]) -> None:
    one, other = processes
    version = ConfigurationVersion.objects.get_or_create(id=1, defaults={"version": 1})[0].version
    assert other.lets_through()
    one.opens(cooldown_s=30)
    assert eventually(other.passes_by, KNOWN_S)
    row = state()
    assert (row.provider, row.model, row.state, row.failures, row.last_kind) == ("p", "m", "open", 3, "server_error")
    assert 28 < (row.open_until - timezone.now()).total_seconds() <= 30
    assert 29.9 < (row.open_until - row.since).total_seconds() <= 30
    assert ConfigurationVersion.objects.get().version == version  # so no worker reloads its configuration


def test_a_process_that_starts_later_knows_too(processes: tuple[Process, Process]) -> None:
    processes[0].opens(cooldown_s=30)
    assert eventually(Breaker.objects.exists, KNOWN_S)
    newcomer = Process()
    assert eventually(newcomer.passes_by, KNOWN_S)
    newcomer.sharing.stop()


def test_only_one_of_many_requests_in_all_processes_probes(processes: tuple[Process, Process]) -> None:
    processes[0].opens()
    assert eventually(Breaker.objects.exists, KNOWN_S)
    time.sleep(COOLDOWN_S + KNOWN_S)
    barrier = threading.Barrier(16)
    let_through: list[bool] = []

    def request(process: Process) -> None:
        barrier.wait()
        let_through.append(process.lets_through())
        barrier.wait()

    threads = [threading.Thread(target=request, args=(processes[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(let_through) == [False] * 15 + [True]
    # It stays the only probe for as long as it runs, also beyond its lease.
    until = time.monotonic() + LEASE_S + 0.5
    while time.monotonic() < until:
        assert not any(process.lets_through() for process in processes)
        time.sleep(0.05)


def test_a_probes_success_closes_it_for_all(processes: tuple[Process, Process]) -> None:
    one, other = processes
    give_the_probe_to(other, opened_by=one)
    assert not from_another_thread(other.lets_through)
    assert one.passes_by()
    other.breakers.succeeded(step())
    assert from_another_thread(other.lets_through)
    assert eventually(lambda: from_another_thread(one.lets_through), KNOWN_S)
    assert state().state == "closed"
    assert from_another_thread(one.lets_through)  # for every request, not only for a probe


def test_a_probes_failure_keeps_it_open_for_all(processes: tuple[Process, Process]) -> None:
    one, other = processes
    give_the_probe_to(other, opened_by=one)
    opened = state()
    fail(other.breakers, step(cooldown_s=30), 1, UpstreamError(FailureKind.TIMEOUT, "silent"))
    assert other.passes_by()
    assert eventually(lambda: state().last_kind == "timeout", KNOWN_S)
    row = state()
    assert (row.state, row.failures, row.since) == ("open", 4, opened.since)
    assert 28 < (row.open_until - timezone.now()).total_seconds() <= 30
    time.sleep(KNOWN_S)
    assert one.passes_by()


def test_a_probe_never_sent_is_offered_to_the_others_at_once(processes: tuple[Process, Process]) -> None:
    one, other = processes
    give_the_probe_to(other, opened_by=one)
    other.breakers.probe_ended(step())
    assert eventually(one.lets_through, KNOWN_S)


def test_the_probe_of_a_dead_process_is_claimed_by_another_soon(processes: tuple[Process, Process]) -> None:
    one, other = processes
    give_the_probe_to(other, opened_by=one)
    other.sharing.stop()
    died = time.monotonic()
    assert eventually(one.lets_through, LEASE_S + KNOWN_S)
    assert time.monotonic() - died > LEASE_S - KNOWN_S


def test_an_operator_closes_it_for_all_and_a_late_probe_does_not_reopen_it(processes: tuple[Process, Process]) -> None:
    one, other = processes
    give_the_probe_to(other, opened_by=one)
    Breaker.objects.update(state="closed", probe_until=None, generation=F("generation") + 1)
    fail(other.breakers, step())  # before it knows
    assert eventually(lambda: one.lets_through() and other.lets_through(), KNOWN_S)
    time.sleep(KNOWN_S)
    assert state().state == "closed"
    assert one.lets_through()
    assert other.lets_through()


def test_requests_under_an_open_breaker_make_no_query(processes: tuple[Process, Process]) -> None:
    one, _ = processes
    one.opens(cooldown_s=30)
    time.sleep(KNOWN_S)
    one.sharing.stop()  # nobody would answer
    started = time.monotonic()
    for _ in range(10_000):
        assert one.passes_by()
    assert within(time.monotonic() - started, 1)


def test_a_claim_waits_for_the_database_for_a_bounded_time(processes: tuple[Process, Process]) -> None:
    one, _ = processes
    one.opens()
    assert eventually(Breaker.objects.exists, KNOWN_S)
    time.sleep(COOLDOWN_S)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE routing_breakerstate")
        started = time.monotonic()
        assert one.passes_by()
        assert within(time.monotonic() - started, 1.5)
        cursor.execute("ROLLBACK")
    assert eventually(one.lets_through, LEASE_S + 2 * KNOWN_S)


def test_after_a_lost_session_the_process_reconnects_and_tells_its_news(processes: tuple[Process, Process]) -> None:
    one, other = processes
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gateway breakers'"
        )
    one.opens(cooldown_s=30)
    assert one.passes_by()
    assert eventually(other.passes_by, 3)
    assert eventually(lambda: sessions() == 2)


def test_deleting_a_row_closes_its_breaker(processes: tuple[Process, Process]) -> None:
    one, _ = processes
    one.opens(cooldown_s=30)
    assert eventually(Breaker.objects.exists, KNOWN_S)
    Breaker.objects.all().delete()
    assert eventually(one.lets_through, KNOWN_S)


def test_a_key_that_is_at_work_in_another_process_counts(processes: tuple[Process, Process]) -> None:
    one, other = processes
    one.breakers.succeeded(step(), 2)
    other.breakers.succeeded(step(), 1)
    assert eventually(lambda: BreakerUse.objects.count() == 2, KNOWN_S)
    time.sleep(KNOWN_S)
    fail(one.breakers, step(cooldown_s=30), 10, key=2)
    assert one.lets_through()
    fail(other.breakers, step(cooldown_s=30), key=1)  # once, which opens nothing by itself
    time.sleep(KNOWN_S)
    fail(one.breakers, step(cooldown_s=30), key=2)
    assert one.passes_by()
    assert eventually(other.passes_by, KNOWN_S)


def test_uses_that_nobody_reads_any_more_are_removed(processes: tuple[Process, Process]) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    for key in (1, 2):
        BreakerUse.objects.create(provider="p", model="m", key_id=key, used_at=long_ago)
    processes[0].breakers.succeeded(step(), 2)
    assert eventually(lambda: BreakerUse.objects.filter(used_at__gt=long_ago).exists(), KNOWN_S)
    processes[0].sharing._forget_at = 0.0
    assert eventually(lambda: list(BreakerUse.objects.values_list("key_id", flat=True)) == [2], KNOWN_S)
