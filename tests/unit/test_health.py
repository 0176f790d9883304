"""What a look at the gateway's health costs."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


@pytest.mark.django_db
def test_readiness_looks_at_the_migrations_now_and_then_not_for_each_that_asks() -> None:
    client = Client(headers={"Host": "localhost"})
    assert client.get("/health/ready").json() == {"status": "ready"}
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/health/ready").json() == {"status": "ready"}
    assert queries.captured_queries == []
