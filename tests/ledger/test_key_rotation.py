"""A key's new secret, under operators who press at once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from accounting import keys
from accounting.models import ApiKey


@pytest.mark.django_db(transaction=True)
def test_of_rotations_at_once_one_is_made_and_no_secret_is_lost() -> None:
    key = ApiKey.objects.create(name="bot", **keys.fields_for("sk-of-the-bot"))
    made: list[str] = []
    refused: list[Exception] = []
    start = threading.Barrier(8)

    def rotate() -> None:
        start.wait()
        try:
            made.append(keys.rotate(key.pk, None, timedelta(hours=1)))
        except keys.RotatedMeanwhile as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    known = keys.load_keys()
    assert len(known) == 2
    for secret in (made[0], "sk-of-the-bot"):
        found = keys.find(known, secret)
        assert found is not None
        assert found.id == key.pk


@pytest.mark.django_db
def test_a_secret_of_today_comes_before_the_same_one_of_yesterday() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    for name, current, old in (("one", "sk-one", "sk-two"), ("two", "sk-two", "sk-one")):
        fields = {**keys.fields_for(current), "old_digest": keys.digest(old)}
        ApiKey.objects.create(name=name, old_valid_until=later, **fields)
    known = keys.load_keys()
    found = [keys.find(known, secret) for secret in ("sk-one", "sk-two")]
    assert [key and key.name for key in found] == ["one", "two"]
