"""Rate limits of a key: exact across threads and processes, because the admission counts them under a lock."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from accounting.ledger.records import Hold, new_entry_id
from accounting.ledger.writer import Writer
from accounting.models import KeyRate, LedgerEntry
from accounting.rates import RateLimits
from accounting.refusals import RateLimited
from tests.ledger.conftest import Book


def limited(**limits: int) -> dict[str, Any]:
    return {"key_id": 7, "limits": RateLimits(**limits), "ceiling_tokens": 100}


@pytest.fixture(autouse=True)
def _stay_within_a_minute(transactional_db: None) -> None:
    """These tests count within one minute of the database's clock, so they begin early in a minute."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(CASE WHEN s > 50 THEN 60.05 - s ELSE 0 END) FROM extract(second FROM now()) s")


def test_requests_a_minute_are_admitted_up_to_the_limit_exactly(book: Book) -> None:
    left = [book.hold("0", **limited(requests_per_minute=3)).rate for _ in range(3)]
    assert [rate and rate.status.requests_left for rate in left] == [2, 1, 0]
    with pytest.raises(RateLimited) as refused:
        book.hold("0", **limited(requests_per_minute=3))
    assert (refused.value.limit, refused.value.most, refused.value.used) == ("requests a minute", 3, 3)
    assert refused.value.retry_after_s is not None
    assert 1 <= refused.value.retry_after_s <= 60
    assert LedgerEntry.objects.count() == 3


def test_tokens_count_as_the_ceiling_and_then_as_what_they_were(book: Book) -> None:
    hold = book.hold("0", **limited(tokens_per_minute=250))
    book.hold("0", **limited(tokens_per_minute=250))
    with pytest.raises(RateLimited):
        book.hold("0", **limited(tokens_per_minute=250))
    book.post(hold, "0.1")  # 30 tokens instead of 100
    assert KeyRate.objects.get().tokens == 130
    book.hold("0", **limited(tokens_per_minute=250))
    assert LedgerEntry.objects.count() == 3


def test_requests_at_once_are_freed_as_they_settle(book: Book) -> None:
    first = book.hold("0", **limited(concurrent_requests=2))
    book.hold("0", **limited(concurrent_requests=2))
    with pytest.raises(RateLimited) as refused:
        book.hold("0", **limited(concurrent_requests=2))
    assert refused.value.retry_after_s == 1
    book.void(first)
    book.hold("0", **limited(concurrent_requests=2))
    assert LedgerEntry.objects.filter(state="held").count() == 2


def test_a_minute_that_is_over_is_forgotten(book: Book) -> None:
    book.hold("0", **limited(requests_per_minute=1))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounting_keyrate SET minute = minute - interval '1 minute'")
    book.hold("0", **limited(requests_per_minute=1))
    assert KeyRate.objects.get().requests == 1


def test_another_keys_requests_do_not_count(book: Book) -> None:
    book.hold("0", **limited(requests_per_minute=1))
    book.hold("0", **{**limited(requests_per_minute=1), "key_id": 8})
    assert KeyRate.objects.count() == 2


def test_the_limit_is_exact_with_many_threads_and_two_writers(book: Book) -> None:
    other = Book(Writer())
    outcomes: list[object] = []
    request = book.request("0", **limited(requests_per_minute=20, concurrent_requests=1000))

    def hold(of: Book) -> None:
        try:
            outcomes.append(of.writer.hold(replace(request, entry_id=new_entry_id())))
        except RateLimited as refusal:
            outcomes.append(refusal)

    threads = [threading.Thread(target=hold, args=((book, other)[n % 2],)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.writer.stop()
    assert Counter(isinstance(outcome, Hold) for outcome in outcomes) == {True: 20, False: 40}
    assert LedgerEntry.objects.count() == 20
