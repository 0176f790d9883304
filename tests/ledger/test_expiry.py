"""Holds that are never settled, because their writer died or their request ran past its time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from django.db import connection

from accounting.ledger.expiry import expire_dead
from accounting.ledger.records import Expired, TopUpRequest
from accounting.ledger.writer import Writer
from accounting.models import Budget, LedgerEntry
from accounting.refusals import HoldLost
from tests.clocks import eventually
from tests.e2e.launcher import ROOT
from tests.ledger.conftest import Book
from tests.ledger.spender import environment

# A worker's whole life, until the test kills it.
HOLDER = """
import time, django
django.setup()
from accounting.ledger.writer import Writer
from tests.ledger.conftest import Book
Book(Writer()).hold("0.25", request_id="lost", provider="openai")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def other_process(book: Book) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a quarter of a dollar at openai, with its own writer."""
    book.budget("10", period="total")
    book.budget("1", name="openai", scope="provider", scope_value="openai", period="total")
    book.budget("1", name="anthropic", scope="provider", scope_value="anthropic", period="total")
    book.budget("1", name="soft", mode="soft", period="total")
    book.budget("1", name="alert", mode="alert", period="total")
    command = [sys.executable, "-c", HOLDER]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def expire_now() -> list[Expired]:
    """As `manage.py expire_holds` does."""
    with psycopg.connect(**connection.get_connection_params()) as session:
        return expire_dead(session)


def test_the_holds_of_a_killed_process_are_unknown_within_seconds_and_nobody_elses(
    book: Book, other_process: subprocess.Popen[str]
) -> None:
    ours = book.hold("0.1", request_id="ours")
    lost = LedgerEntry.objects.get(request_id="lost")
    other_process.kill()
    assert eventually(lambda: LedgerEntry.objects.get(pk=lost.pk).state == "unknown", within_s=5)
    lost.refresh_from_db()
    assert (lost.cost_usd, lost.error_code, lost.overrun) == (Decimal("0.25"), "worker_lost", False)
    assert lost.settled_at is not None
    assert LedgerEntry.objects.get(pk=ours.entry_id).state == "held"
    # It is charged at the hold in every budget that it counts in, also in budgets that held nothing.
    assert book.balance() == (Decimal("0.25"), Decimal("0.1"))
    assert [book.balance(name)[0] for name in ("openai", "soft", "alert", "anthropic")] == [
        Decimal("0.25"), Decimal("0.25"), Decimal("0.25"), 0,
    ]  # fmt: skip


def test_the_holds_of_a_living_process_are_left_alone(book: Book, other_process: subprocess.Popen[str]) -> None:
    assert expire_now() == []
    assert LedgerEntry.objects.get().state == "held"
    other_process.kill()
    other_process.wait()
    assert eventually(lambda: [found.request_id for found in expire_now()] == ["lost"])
    assert expire_now() == []
    assert book.balance() == (Decimal("0.25"), Decimal(0))


def test_many_that_expire_at_once_expire_once(book: Book) -> None:
    book.budget("10", period="total")
    dying = Book(Writer())
    for number in range(50):
        dying.hold("0.01", request_id=f"lost-{number}")
    dying.lose_writer()
    found: list[Expired] = []

    def expire() -> None:
        found.extend(expire_now())
        connection.close()

    threads = [threading.Thread(target=expire) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len({expired.entry_id for expired in found}) == 50
    assert book.balance() == (Decimal("0.5"), Decimal(0))


def test_a_hold_past_its_time_expires_though_its_writer_lives(book: Book) -> None:
    book.budget("1", period="total")
    late = book.hold("0.5", expires_after_s=0.1)
    in_time = book.hold("0.25", expires_after_s=60)
    assert eventually(lambda: LedgerEntry.objects.get(pk=late.entry_id).state == "unknown", within_s=5)
    assert LedgerEntry.objects.get(pk=in_time.entry_id).state == "held"
    assert book.balance() == (Decimal("0.5"), Decimal("0.25"))


def test_a_request_whose_hold_is_lost_gets_no_more_money(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("0.5", expires_after_s=0)
    time.sleep(0.01)
    expire_now()
    with pytest.raises(HoldLost):
        book.writer.top_up(TopUpRequest(hold, Decimal("0.1"), ()))
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    assert LedgerEntry.objects.get().hold_usd == Decimal("0.5")


@pytest.mark.parametrize(("cost", "overrun"), [("0.123456789012", False), ("0.75", True)])
def test_a_request_that_settles_after_all_is_charged_what_it_cost(book: Book, cost: str, overrun: bool) -> None:
    book.budget("10", period="total")
    book.budget("10", name="soft", mode="soft", period="total")
    hold = book.hold("0.5", expires_after_s=0)
    time.sleep(0.01)
    expire_now()
    assert book.balance() == book.balance("soft") == (Decimal("0.5"), Decimal(0))
    book.post(hold, cost)
    entry = LedgerEntry.objects.get()
    assert (entry.state, entry.cost_usd, entry.overrun, entry.error_code) == ("posted", Decimal(cost), overrun, "")
    assert book.balance() == book.balance("soft") == (Decimal(cost), Decimal(0))


def test_a_late_settlement_of_a_failed_request_voids_it(book: Book) -> None:
    book.budget("10", period="total")
    hold = book.hold("0.5", expires_after_s=0)
    time.sleep(0.01)
    expire_now()
    book.void(hold)
    assert LedgerEntry.objects.get().state == "voided"
    assert book.balance() == (Decimal(0), Decimal(0))


def test_a_budget_that_became_hard_meanwhile_is_charged_too(book: Book) -> None:
    book.budget("10", mode="soft", period="total")
    book.hold("0.5", expires_after_s=0)
    Budget.objects.update(mode="hard")
    time.sleep(0.01)
    assert len(expire_now()) <= 1  # the writer may have been faster
    assert eventually(lambda: book.balance() == (Decimal("0.5"), Decimal(0)))
