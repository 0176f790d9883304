"""The long forms of the ledger's tests, with the same assertions: `make torture`, a good half hour on two cores.

The environment may shorten it: TORTURE_ROUNDS (50), TORTURE_MINUTES (10), TORTURE_ROWS (1000000).
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path

from accounting import sql
from accounting.ledger import rollup
from tests.clocks import eventually
from tests.ledger.cluster import Cluster, Load, slow_and_various
from tests.ledger.conftest import Book
from tests.ledger.history import fill
from tests.ledger.test_concurrency import (
    assert_never_overspent,
    assert_stormproof,
    spend_by_processes,
    storm,
)
from tests.ledger.test_crash import assert_on_the_books_once, survive, violence
from tests.ledger.test_scale import BIG_TABLES, REPORTS, explain, hot_statements, request_ms, session
from tests.ledger.test_state_machine import explore

ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "50"))
MINUTES = float(os.environ.get("TORTURE_MINUTES", "10"))
ROWS = int(os.environ.get("TORTURE_ROWS", "1000000"))
PLANS = Path(os.environ.get("TORTURE_PLANS", "/tmp/ledger-plans.txt"))


def test_the_books_agree_with_a_model_in_hundreds_of_histories(transactional_db: None) -> None:
    explore(examples=10 * ROUNDS, steps=60, derandomize=False)


def test_many_processes_never_overspend_a_dollar(book: Book) -> None:
    watch, outcomes = spend_by_processes(book, processes=8, holds=8000)
    assert_never_overspent(book, watch, outcomes, holds=8000)


def test_storm_after_storm_never_overspends(cluster: Cluster) -> None:
    for number in range(max(1, ROUNDS // 10)):
        watch, answers = storm(cluster, f"storm-{number}", clients=500, budget_usd="1")
        assert_stormproof(cluster, watch, answers, "1")


def test_rounds_of_killing_lose_and_double_nothing(cluster: Cluster) -> None:
    seen: Counter[str] = Counter()
    for number in range(ROUNDS):
        # Each kind in turn, and at times two at once.
        kinds = violence(cluster)
        kills = [kinds[number % len(kinds)]] + ([random.choice(kinds)] if number % 3 == 2 else [])
        states = survive(cluster, kills)
        seen.update(states)
        print(f"round {number + 1}: {', '.join(kill.__name__ for kill in kills)}: {states}")  # noqa: T201
        assert len(cluster.workers()) == 4
    assert seen["posted"] > 100 * ROUNDS // 10
    assert seen["unknown"] > 0, "no worker died in the midst of a request: this proved nothing"


def test_a_soak_leaks_neither_memory_nor_holds(cluster: Cluster) -> None:
    cluster.sim.reset()
    cluster.sim.behave("openai", forever=slow_and_various())
    cluster.limit("soak", "1000000")
    load = Load(cluster, clients=16, user="soak")
    samples: list[int] = []
    held: list[int] = []
    began = time.monotonic()
    while time.monotonic() - began < MINUTES * 60:
        time.sleep(2)
        samples.append(sum(worker.memory_info().rss for worker in cluster.workers()))
        held.append(cluster.held() or 0)
    answers = load.stop()
    assert eventually(lambda: cluster.held() == 0)
    assert {(answer.status, answer.code) for answer in answers} == {(200, "")}
    # There are never more holds than clients, so no queue of settlements grows behind the answers.
    assert max(held) <= 16
    # The first quarter warms up caches. After it, memory does not grow.
    quarter = max(1, len(samples) // 4)
    early, late = statistics.median(samples[quarter : 2 * quarter]), statistics.median(samples[-quarter:])
    print(f"{len(answers)} requests, {early / 2**20:.0f} MiB early, {late / 2**20:.0f} MiB late")  # noqa: T201
    assert late < early * 1.05 + 4 * 2**20
    # Compared only with what clients were told, because the simulator's log is too short.
    cluster.sim.reset()
    assert_on_the_books_once(cluster, "soak", answers)


def test_a_million_entries_cost_a_request_nothing(book: Book) -> None:
    budget = book.budget("1000000")
    request_ms(book, 50)
    empty_ms = request_ms(book, 500)
    with session() as filling:
        fill(filling, ROWS, budget.pk)
        while rollup.roll_up(filling, most=5000).has_more:
            pass
        filling.execute("ANALYZE accounting_spendsum, accounting_unrolledentry")
        filling.commit()
    book.assert_reconciles()
    request_ms(book, 50)
    full_ms = request_ms(book, 500)
    lines = [
        f"hold + settle: {empty_ms:.2f} ms empty, {full_ms:.2f} ms with {ROWS} entries, x {full_ms / empty_ms:.2f}"
    ]
    times: dict[str, float] = {}
    for report in REPORTS:
        began = time.perf_counter()
        book.rows(report)
        times[report] = time.perf_counter() - began
        lines.append(f"{times[report] * 1000:8.1f} ms  {report}")
    with session() as explaining:
        plans = {name: explain(explaining, sql.load(name), values) for name, values in hot_statements(book).items()}
        plans.update({report: explain(explaining, report, {}) for report in REPORTS[:8]})
    PLANS.write_text("\n".join(lines) + "\n\n" + "\n\n".join(f"### {name}\n{plan}" for name, plan in plans.items()))
    print("\n".join(lines))  # noqa: T201
    assert full_ms < empty_ms * 2, "the same, but for the noise of a busy machine"
    assert {
        report: seconds for report, seconds in times.items() if seconds >= 0.3 * (4 if "FROM ledger" in report else 1)
    } == {}
    assert [name for name, plan in plans.items() if name not in REPORTS and BIG_TABLES.search(plan)] == []
