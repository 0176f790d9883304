"""Reports of spend are exact at any moment, whoever rolls up, settles, corrects and resolves at once."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection

from accounting import sql
from accounting.ledger import corrections, rollup
from accounting.ledger.corrections import NotCorrectable
from accounting.ledger.expiry import expire_dead
from accounting.ledger.records import Hold
from accounting.ledger.writer import Writer
from accounting.models import LedgerEntry, SpendSum, UnrolledEntry
from accounting.postgres.pipeline import Connection
from accounting.postgres.session import connect
from accounting.reports import SpendRow, spend
from tests.ledger.conftest import Book
from tests.ledger.history import fill

VIEWS = ("spend_by_hour", "spend_by_day", "spend_by_alias", "spend_by_key", "spend_by_tag", "spend_by_provider")
#: The views as they were before there were sums: they add up the entries.
BEFORE = sql.load_frozen("0012_views")


def entries_added_up(view: str) -> str:
    bodies = {
        name: re.search(rf"CREATE VIEW {name} AS\n(.+?);\n", BEFORE, re.DOTALL)[1]  # type: ignore[index]
        for name in ("accounting_spend", view)
    }
    return f"WITH accounting_spend AS ({bodies['accounting_spend']}) SELECT * FROM ({bodies[view]}) v".replace(
        "%", "%%"
    )


@contextmanager
def session() -> Iterator[Connection]:
    with closing(connect("gateway test", statement_timeout_s=60)) as made:
        made.autocommit = True
        yield made


def begun(connection: Connection) -> None:
    connection.execute(sql.load("begin_rollup"))


def rolled(connection: Connection) -> None:
    """All that can be rolled up is."""
    begun(connection)
    while rollup.roll_up(connection, most=7).has_more:
        pass


def assert_exact(connection: Connection) -> None:
    """At one moment, each view says what its entries come to."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for view in VIEWS:
            said = connection.execute(f"SELECT * FROM {view}").fetchall()
            assert said == connection.execute(entries_added_up(view), {}).fetchall(), view


TAGS: list[dict[str, Any]] = [
    {},
    {"team": "a"},
    {"team": ["a", "b"], "env": "x"},
    {"session": "s" * 5000},
    {"env": ["x", "x"]},
]


class Traffic:
    """Random requests of one writer, and random corrections of whatever is on the books."""

    def __init__(self, book: Book, seed: int) -> None:
        self.book, self.chance = book, random.Random(seed)
        self.running: list[Hold] = []

    def step(self) -> None:
        kind = self.chance.choice(("hold", "hold", "settle", "settle", "adjust", "resolve", "late"))
        getattr(self, kind)()

    def hold(self) -> None:
        price = self.chance.choice((None, "1", "1"))
        self.running.append(
            self.book.hold(
                price,
                key=self.chance.choice(("bot", "crawler")),
                alias=self.chance.choice(("claude-sonnet", "gpt-4o")),
                end_user=self.chance.choice(("", "ann")),
                owner=self.chance.choice(("", "growth")),
                tags=self.chance.choice(TAGS),
            )
        )

    def settle(self) -> None:
        if not self.running:
            return
        hold = self.running.pop(self.chance.randrange(len(self.running)))
        cut = self.book.attempt(self.chance.choice(("0", "0.1", None)), outcome="interrupted")
        served = self.book.attempt(
            self.chance.choice(("0.25", "0.000000000001", None)), provider="openai", model="gpt-4o"
        )
        attempts = self.chance.choice(((), (cut,), (served,), (cut, served)))
        self.book.writer.settle(self.book.settlement(hold, *attempts))

    def some_entry(self, *states: str) -> UUID | None:
        found = LedgerEntry.objects.filter(state__in=states).values_list("pk", flat=True)
        return self.chance.choice(found) if found else None

    def adjust(self) -> None:
        entry = self.some_entry("posted", "voided")
        if entry is not None:
            amount = Decimal(self.chance.choice(("0.5", "-0.01", "0.000000000003")))
            with suppress(NotCorrectable):
                corrections.adjust(entry, amount_usd=amount, author="ann", reason="a wrong price")

    def resolve(self) -> None:
        entry = self.some_entry("unknown")
        if entry is not None:
            cost = Decimal(self.chance.choice(("0", "0.4")))
            with suppress(NotCorrectable):
                corrections.resolve(entry, cost_usd=cost, author="ann", reason="the bill says so")

    def late(self) -> None:
        """The holds expire, although their requests run on and settle later."""
        if self.chance.random() < 0.3:
            with session() as other:
                other.execute(  # in the order in which all lock entries
                    "UPDATE accounting_ledgerentry SET expires_at = now() - interval '1 s' WHERE id IN "
                    "(SELECT id FROM accounting_ledgerentry WHERE state = 'held' ORDER BY id FOR UPDATE)"
                )
                expire_dead(other)


@pytest.mark.parametrize("seed", range(3))
def test_in_a_random_history_the_views_are_what_the_entries_come_to_after_each_step(book: Book, seed: int) -> None:
    traffic, chance = Traffic(book, seed), random.Random(seed)
    with session() as roller:
        for number in range(80):
            traffic.step()
            if chance.random() < 0.4:
                begun(roller)
                rollup.roll_up(roller, most=chance.choice((1, 3, 1000)))
            if chance.random() < 0.05:
                rollup.rebuild(roller)
            if number % 4 == 3:
                assert_exact(roller)
        rolled(roller)
        assert_exact(roller)
        left = {
            entry.pk for entry in LedgerEntry.objects.exclude(state__in=("held", "unknown")).exclude(resolved_by="")
        }
        assert set(UnrolledEntry.objects.values_list("pk", flat=True)) == left, "the others are in the sums"


def test_they_are_exact_while_all_of_it_happens_at_once(book: Book) -> None:
    """Two processes roll up, others settle, adjust, resolve and expire; somebody begins the sums anew."""
    ends_at = time.monotonic() + 6
    failures: list[BaseException] = []

    def until_the_end(work: Any) -> None:
        try:
            while time.monotonic() < ends_at and not failures:
                work()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)
        finally:
            connection.close()

    def rebuild_at_times() -> None:
        time.sleep(1.5)
        rollup.rebuild(rebuilding)

    with session() as one, session() as two, session() as reader, session() as rebuilding:
        begun(one)
        writers = [Writer(), Writer()]
        traffics = [Traffic(Book(writer), seed) for seed, writer in enumerate(writers)]
        works = [
            *(traffic.step for traffic in traffics),
            lambda: rollup.roll_up(one, most=5),
            lambda: rollup.roll_up(two, most=50),
            lambda: assert_exact(reader),
            rebuild_at_times,
        ]
        threads = [threading.Thread(target=until_the_end, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.stop()
        assert failures == []
        rolled(one)
        assert_exact(one)
    assert LedgerEntry.objects.count() > 50
    assert SpendSum.objects.exists()


def test_an_entry_that_is_rolled_up_is_read_no_more(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("1", tags={"team": "a"}), "0.25")
    assert UnrolledEntry.objects.count() == 1
    with session() as roller:
        rolled(roller)
    assert UnrolledEntry.objects.count() == 0
    sums = SpendSum.objects.filter(dimension="alias").values_list("name", "requests", "cost_usd")
    assert list(sums) == [("claude-sonnet", 1, Decimal("0.25"))]


def test_an_adjustment_takes_its_entry_out_of_the_sums_until_it_is_rolled_up_again(book: Book) -> None:
    book.budget("10")
    hold = book.hold("1")
    book.post(hold, "0.25")
    with session() as roller:
        rolled(roller)
        corrections.adjust(hold.entry_id, amount_usd=Decimal("0.5"), author="ann", reason="a wrong price")
        assert list(UnrolledEntry.objects.values_list("pk", flat=True)) == [hold.entry_id]
        assert_exact(roller)
        rolled(roller)
        assert_exact(roller)
    assert list(SpendSum.objects.filter(dimension="key").values_list("requests", "cost_usd")) == [(1, Decimal("0.75"))]


def test_whoever_does_not_see_that_an_entry_is_rolled_up_cannot_adjust_it(book: Book) -> None:
    """With a snapshot of before, its adjustment would be in no sum."""
    book.budget("10")
    with session() as roller, session() as other:
        rolled(roller)  # nothing is left of the stretch that was never rolled up
        hold = book.hold("0.5")
        book.post(hold, "0.25")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert other.execute("SELECT count(*) FROM accounting_unrolledentry").fetchone() == (1,)
        rolled(roller)
        with pytest.raises(psycopg.errors.SerializationFailure):
            other.execute(
                "INSERT INTO accounting_adjustment (entry_id, amount_usd, reason, author, created_at)"
                " VALUES (%s, 0.1, 'late', 'ann', now())",
                [hold.entry_id],
            )
        other.execute("ROLLBACK")
        assert other.execute("SELECT count(*) FROM accounting_adjustment").fetchone() == (0,)
        assert_exact(roller)


def test_the_next_process_rolls_up_when_the_one_that_did_has_ended(book: Book) -> None:
    book.budget("10")
    one, two = rollup.Clerk(), rollup.Clerk()
    while one._turn() != rollup.EVERY_S:
        pass
    assert two._turn() == rollup.LOOK_S
    one._disconnect()
    book.post(book.hold("1"), "0.25")
    assert two._turn() == rollup.EVERY_S
    two._disconnect()
    assert UnrolledEntry.objects.count() == 0


def added_up(by: str, since: datetime | None, until: datetime | None, zone: str) -> list[SpendRow]:
    """The same from the entries, one by one."""
    group = {
        "day": "to_char(created_at AT TIME ZONE %(zone)s, 'YYYY-MM-DD')",
        "hour": "to_char(created_at AT TIME ZONE %(zone)s, 'YYYY-MM-DD HH24:00')",
        "key": "key",
        "provider": "provider",
        "user": "nullif(end_user, '')",
        "tag:team": "tags ->> 'team'",
    }[by]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {group} AS grouped, count(*), count(*) FILTER (WHERE http_status >= 400 OR state = 'unknown'),"
            " sum(input_tokens)::bigint, sum(output_tokens)::bigint, coalesce(sum(cost_usd), 0),"
            " count(*) FILTER (WHERE cost_usd IS NULL AND state = 'posted') FROM ledger"
            " WHERE created_at >= %(since)s AND created_at < %(until)s GROUP BY grouped ORDER BY grouped NULLS LAST",
            {"zone": zone, "since": since or "-infinity", "until": until or "infinity"},
        )
        return [SpendRow(*row) for row in cursor.fetchall()]


def test_a_report_of_any_time_in_any_zone_is_what_its_entries_come_to(book: Book) -> None:
    budget, chance = book.budget("1000", mode="soft"), random.Random(7)
    with session() as roller:
        fill(roller, 500, budget.pk)
        traffic = Traffic(book, 7)
        for _ in range(30):
            traffic.step()
        rollup.roll_up(roller, most=300)  # the rest of the year is read from the entries
        now = datetime.now(UTC)
        for number in range(40):
            ends = sorted(now - timedelta(seconds=chance.randrange(400 * 86400)) for _ in range(2))
            if number % 3 == 0:
                ends[1] = ends[0] + timedelta(seconds=chance.randrange(1, 200_000))
            since = None if number % 7 == 0 else ends[0]
            until = None if number % 5 == 0 else ends[1]
            by = chance.choice(("day", "hour", "key", "provider", "user", "tag:team"))
            zone = chance.choice(("UTC", "Europe/Berlin", "Asia/Kathmandu"))
            assert spend(by, since, until, zone) == added_up(by, since, until, zone), (by, since, until, zone)
            if number == 20:
                rolled(roller)
