"""Refused requests on the books: each has its row, a storm becomes counts, and nobody waits for any of it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounting import refused_requests
from accounting.models import RefusedRequest
from accounting.refused_requests import COUNTS_MAX, EACH_AN_HOUR, KEPT_DAYS, RefusalBook, Refused
from tests.clocks import eventually, within

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Any:
    book = RefusalBook()
    monkeypatch.setattr(book, "start", lambda: None)  # the tests say themselves when it writes
    yield book
    book._disconnect()


def refused(request_id: str = "req-1", **fields: Any) -> Refused:
    values: dict[str, Any] = {"code": "budget_exceeded", "key": "bot", "key_id": 7, "alias": "gpt", "endpoint": "chat"}
    return Refused(request_id, **values | fields)


def rows(query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def test_a_refusal_is_a_row_with_all_that_is_known_of_it(book: RefusalBook) -> None:
    book.note(
        refused(
            end_user="ann\x00", tags={"team": "red"}, message="It is spent.", budget="global", limit_usd=Decimal(10),
            spent_usd=Decimal("9.999999999999"), held_usd=Decimal("1E-12"), asked_usd=Decimal("0.5"),
        )
    )  # fmt: skip
    assert rows("SELECT * FROM refusals") == []
    assert book.write()
    ((*found, at),) = rows(
        "SELECT request_id, key, alias, endpoint, end_user, tags::text, code, message, budget, limit_usd, spent_usd,"
        " held_usd, asked_usd, count, at FROM refusals"
    )
    assert found == [
        "req-1", "bot", "gpt", "chat", "ann", '{"team": "red"}', "budget_exceeded", "It is spent.", "global",
        Decimal(10), Decimal("9.999999999999"), Decimal("1E-12"), Decimal("0.5"), 1,
    ]  # fmt: skip
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_storm_becomes_a_count_a_minute_and_loses_nothing(book: RefusalBook) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: book.note(refused(f"req-{n}")), range(EACH_AN_HOUR + 300)))
    book.note(refused("other", alias="claude"))
    assert book.write()
    for n in range(5):
        book.note(refused(f"later-{n}"))
    assert book.write()
    assert rows("SELECT sum(count), count(request_id), count(DISTINCT request_id) FROM refusals") == [
        (EACH_AN_HOUR + 306, EACH_AN_HOUR + 1, EACH_AN_HOUR + 1)
    ]
    counts = rows(
        "SELECT key, alias, code, end_user, date_trunc('minute', at) = at, count FROM refusals WHERE request_id IS NULL"
    )
    assert 1 <= len(counts) <= 2  # two when a minute has ended meanwhile
    assert {row[:5] for row in counts} == {("bot", "gpt", "budget_exceeded", None, True)}


def test_processes_add_to_the_same_counts_and_do_not_wait_for_each_other(book: RefusalBook) -> None:
    books = [book, *(RefusalBook() for _ in range(3))]
    at_once = threading.Barrier(len(books))

    def write(mine: RefusalBook) -> bool:
        done = []
        for _ in range(20):
            for kind in range(10):
                mine._count(
                    ("", "", "", f"code-{kind}", ""), refused_requests._row(refused(code=f"code-{kind}"), noon), noon
                )
            at_once.wait(10)
            done.append(mine.write())
        mine._disconnect()
        return all(done)

    noon = datetime.now(UTC).replace(hour=12)
    with ThreadPoolExecutor(len(books)) as threads:
        assert all(threads.map(write, books))
    assert rows("SELECT count(*), min(count), max(count) FROM refusals") == [(10, 80, 80)]


def test_what_strangers_ask_is_counted_and_fills_no_memory(book: RefusalBook) -> None:
    for n in range(COUNTS_MAX * 2):
        book.note(Refused("", "model_not_found", alias=f"guess-{n}"), is_counted_only=True)
    assert len(book._counts) <= COUNTS_MAX + 2
    assert book.write()
    assert rows("SELECT sum(count), count(request_id) FROM refusals") == [(COUNTS_MAX * 2, 0)]


def test_refusals_wait_for_a_postgres_that_is_away(book: RefusalBook, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(EACH_AN_HOUR + 5):
        book.note(refused(f"req-{n}"))

    def away(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(refused_requests, "connect", away)
        assert not book.write()
        book.note(refused("meanwhile"))
        assert not book.write()
    assert book.write()
    assert rows("SELECT sum(count), count(request_id) FROM refusals") == [(EACH_AN_HOUR + 6, EACH_AN_HOUR)]


def test_a_row_that_postgres_cannot_take_takes_no_other_with_it(book: RefusalBook) -> None:
    book.note(refused("good"))
    book.note(refused("bad", asked_usd=Decimal(10) ** 12))
    assert book.write()
    assert rows("SELECT request_id FROM refusals") == [("good",)]


def test_old_refusals_are_forgotten(book: RefusalBook) -> None:
    for days in (KEPT_DAYS - 1, KEPT_DAYS + 1, KEPT_DAYS + 400):
        RefusedRequest.objects.create(at=datetime.now(UTC) - timedelta(days=days), request_id=f"{days}", code="x")
    book.prune()
    assert [row.request_id for row in RefusedRequest.objects.all()] == [f"{KEPT_DAYS - 1}"]


def test_its_thread_writes_by_itself_and_at_the_end_what_is_left() -> None:
    book = RefusalBook()
    book.note(refused("first"))
    assert eventually(lambda: rows("SELECT request_id FROM refusals") == [("first",)])
    book.note(refused("last"))
    began = time.monotonic()
    book.stop()
    assert within(time.monotonic() - began, 3)
    assert rows("SELECT request_id FROM refusals ORDER BY at") == [("first",), ("last",)]


def test_noting_costs_a_request_nothing_that_it_would_feel(book: RefusalBook) -> None:
    began = time.monotonic()
    for n in range(5_000):
        book.note(refused(f"req-{n}"))
    assert within(time.monotonic() - began, 1)
