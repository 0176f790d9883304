"""A hard budget under concurrency: threads, processes and gateways that all spend from the same dollar at once."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import psycopg

from accounting.models import LedgerEntry
from tests.clocks import eventually
from tests.e2e.launcher import ROOT
from tests.ledger.cluster import ALIAS, Answer, Cluster, ask, slow_and_various
from tests.ledger.conftest import Book
from tests.ledger.spender import environment

# Writes down every state of a balance, in the transaction that makes it.
LOG_TRANSITIONS = """
    CREATE TABLE balance_log (budget_id bigint, weight_usd numeric);
    CREATE FUNCTION log_balance() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO balance_log VALUES (NEW.budget_id, NEW.posted_usd + NEW.held_usd);
        RETURN NULL;
    END $$;
    CREATE TRIGGER log_balance AFTER UPDATE ON accounting_budgetperiod
        FOR EACH ROW EXECUTE FUNCTION log_balance();
"""
STOP_LOGGING = "DROP TRIGGER log_balance ON accounting_budgetperiod; DROP FUNCTION log_balance; DROP TABLE balance_log"
HEAVIEST = (
    "SELECT max(weight_usd), count(*) FROM balance_log JOIN accounting_budget b ON b.id = budget_id WHERE b.name = %s"
)
WEIGHT = "SELECT coalesce(max(posted_usd + held_usd), 0) FROM budget_status WHERE budget = %s"


class Watch:
    """Reads a budget again and again while others spend, and reads the log of its transitions."""

    def __init__(self, budget: str) -> None:
        self.budget = budget
        self.samples: list[Decimal] = []
        self.heaviest_usd = Decimal(0)
        self.transitions = 0


@contextlib.contextmanager
def watching(dsn: str, budget: str) -> Iterator[Watch]:
    watch, done = Watch(budget), threading.Event()

    def sample() -> None:
        with psycopg.connect(dsn, autocommit=True) as session:
            while not done.wait(0.002):
                row = session.execute(WEIGHT, [budget]).fetchone()
                assert row is not None
                watch.samples.append(row[0])

    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute(LOG_TRANSITIONS)
        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            yield watch
        finally:
            done.set()
            sampler.join()
            row = session.execute(HEAVIEST, [budget]).fetchone()
            assert row is not None
            watch.heaviest_usd, watch.transitions = row
            session.execute(STOP_LOGGING)


def spend_by_processes(book: Book, processes: int, holds: int) -> tuple[Watch, Counter[str]]:
    """So many processes with sixteen threads each share one dollar. Returns what was seen and how requests ended."""
    book.budget("1", period="total")
    variables = environment()
    outcomes: Counter[str] = Counter()
    with watching(variables["DATABASE_URL"], "global") as watch, contextlib.ExitStack() as stack:
        # Files, not pipes: a process whose log is not read would stop, and hold locks that others wait for.
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(processes)]
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.ledger.spender", str(holds // processes), f"process {number}"],
                cwd=ROOT, env=variables, stdout=log, stderr=subprocess.DEVNULL,
            )
            for number, log in enumerate(logs)
        ]  # fmt: skip
        for process, log in zip(running, logs, strict=True):
            assert process.wait(300) == 0
            log.seek(0)
            outcomes.update(json.loads(log.read().splitlines()[-1]))  # above it, its log
    return watch, outcomes


def assert_never_overspent(book: Book, watch: Watch, outcomes: Counter[str], holds: int) -> None:
    assert len(watch.samples) > 20
    assert max(watch.samples) <= 1
    assert watch.transitions > 20
    assert watch.heaviest_usd <= 1
    posted_usd, held_usd = book.balance()
    assert held_usd == 0
    assert Decimal("0.97") < posted_usd <= 1, "what remains is less than the largest hold"
    assert outcomes.pop("tried again") > 0, "requests got into each other's way"
    assert set(outcomes) <= {"posted", "voided", "BudgetExceeded"}
    assert outcomes["BudgetExceeded"] > 0
    assert sum(outcomes.values()) == holds
    states = Counter(LedgerEntry.objects.values_list("state", flat=True))
    assert states == {"posted": outcomes["posted"], "voided": outcomes["voided"]}


def test_processes_and_threads_never_overspend_a_dollar(book: Book) -> None:
    watch, outcomes = spend_by_processes(book, processes=3, holds=600)
    assert_never_overspent(book, watch, outcomes, holds=600)


def storm(cluster: Cluster, user: str, clients: int, budget_usd: str) -> tuple[Watch, list[Answer]]:
    """All clients at once. Each client tries until it is answered or the budget is spent."""
    cluster.sim.reset()
    cluster.sim.behave("openai", forever=slow_and_various())
    cluster.limit(user, budget_usd)
    answers: list[Answer] = []
    start = threading.Barrier(clients)

    def client(number: int) -> None:
        chance = random.Random(f"{user} {number}")
        tokens, attempt = chance.randint(5, 40), 0
        start.wait()
        while True:
            attempt += 1
            answer = ask(cluster.urls[(number + attempt) % 2], user, f"{user}-{number}-{attempt}", tokens, timeout_s=60)
            answers.append(answer)
            if answer.code != "budget_in_flight":
                return
            time.sleep(chance.uniform(0.3, 1))

    with watching(cluster.postgres.dsn(), user) as watch:
        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert eventually(lambda: cluster.held() == 0)
    return watch, answers


def assert_stormproof(cluster: Cluster, watch: Watch, answers: list[Answer], budget_usd: str) -> None:
    limit_usd = Decimal(budget_usd)
    assert len(watch.samples) > 20
    assert max(watch.samples) <= limit_usd
    assert watch.heaviest_usd <= limit_usd
    statuses = Counter((answer.status, answer.code) for answer in answers)
    assert set(statuses) <= {(200, ""), (429, "budget_in_flight"), (429, "budget_exceeded")}, statuses
    assert statuses[429, "budget_in_flight"] > 0
    assert statuses[429, "budget_exceeded"] > 0
    posted_usd, held_usd = cluster.balance(watch.budget)
    assert held_usd == 0
    # The largest hold is 40 output tokens at a tenth of a cent, and next to nothing for the input.
    assert limit_usd - Decimal("0.041") < posted_usd <= limit_usd
    paid = {answer.request_id: answer.cost_usd for answer in answers if answer.status == 200}
    assert sum(cost for cost in paid.values() if cost is not None) == posted_usd
    entries = cluster.entries(watch.budget)
    assert {request_id: [row[:2] for row in rows] for request_id, rows in entries.items()} == {
        request_id: [("posted", cost)] for request_id, cost in paid.items()
    }
    # Refused requests did not reach the provider.
    assert len(cluster.sim.requests) == len(paid)
    cluster.assert_reconciles()


def test_two_gateways_of_two_workers_never_overspend_a_dollar(cluster: Cluster) -> None:
    assert eventually(lambda: len(cluster.workers()) == 4)
    watch, answers = storm(cluster, "storm", clients=500, budget_usd="1")
    assert_stormproof(cluster, watch, answers, "1")
    assert {row[0] for row in cluster.execute("SELECT DISTINCT alias FROM ledger")} == {ALIAS}
