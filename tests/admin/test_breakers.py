"""Breakers in the admin: what is open since when and why, and who closed it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from routing.models import Breaker
from tests.admin.conftest import Operator, grant, version

LIST = "routing/breaker/"


def breaker(model: str = "gpt-4o", **fields: Any) -> Breaker:
    now = timezone.now()
    values = {
        "state": "open", "since": now, "open_until": now + timedelta(seconds=30), "failures": 5,
        "last_kind": "server_error", "generation": 7, **fields,
    }  # fmt: skip
    return Breaker.objects.create(provider="openai", model=model, **values)


def close(operator: Operator, *breakers: Breaker) -> str:
    return operator.post(LIST, {"action": "close", "_selected_action": [str(row.pk) for row in breakers]})


def test_the_list_says_what_is_open_since_when_and_why(operator: Operator) -> None:
    breaker()
    page = operator.get(LIST)
    for said in ("openai", "gpt-4o", "server_error", ">5<"):
        assert said in page


@pytest.mark.parametrize(
    ("fields", "phase", "until"),
    [
        ({"state": "closed"}, "closed", None),
        ({"open_until": timezone.now() - timedelta(seconds=1)}, "half-open", "the next request probes"),
        (
            {"open_until": timezone.now() - timedelta(seconds=1), "probe_until": timezone.now() + timedelta(hours=1)},
            "probing",
            "a request probes it",
        ),
        (
            {"open_until": timezone.now() - timedelta(hours=1), "probe_until": timezone.now() - timedelta(seconds=1)},
            "half-open",
            "the next request probes",
        ),
    ],
)
def test_the_pages_show_a_breaker_s_phase_and_until_when(
    operator: Operator, fields: dict[str, Any], phase: str, until: str | None
) -> None:
    row = breaker(**fields)
    for page in (operator.get(LIST), operator.get(f"{LIST}{row.pk}/change/")):
        assert phase in page
        assert until is None or until in page


def test_a_breakers_page_has_no_button_that_looks_as_if_it_closed_it(operator: Operator) -> None:
    words = re.sub(r"<[^>]+>", " ", operator.get(f"{LIST}{breaker().pk}/change/"))
    assert "server_error" in words
    assert re.search(r"\bClose\b", words) is None


def test_closing_a_breaker_records_the_operator_and_makes_a_new_generation_but_no_new_configuration(
    operator: Operator,
) -> None:
    row, other = breaker(probe_until=timezone.now() + timedelta(seconds=3)), breaker("other")
    before = version()
    page = close(operator, row)
    assert "Closed 1 breaker(s); every worker knows within a second." in page
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.state, row.generation, row.probe_until, row.reset_by) == ("closed", 8, None, "olga")
    assert row.reset_at == row.since
    assert (other.state, other.generation, other.reset_by) == ("open", 7, "")
    logged = LogEntry.objects.get()
    assert (logged.user, logged.object_id, logged.change_message) == (operator.user, str(row.pk), "Closed.")
    assert version() == before
    assert "olga, " in operator.get(LIST)


def test_closing_a_closed_breaker_changes_nothing(operator: Operator) -> None:
    row = breaker(state="closed")
    assert "No selected breaker was open." in close(operator, row)
    row.refresh_from_db()
    assert (row.generation, row.reset_by) == (7, "")
    assert not LogEntry.objects.exists()


def test_an_operator_who_may_only_view_cannot_close(newcomer: Operator) -> None:
    row = breaker()
    grant(newcomer, "routing.view_breaker")
    assert "Close the selected breakers" not in newcomer.get(LIST)
    close(newcomer, row)
    row.refresh_from_db()
    assert (row.state, row.generation) == ("open", 7)
    assert not LogEntry.objects.exists()
    grant(newcomer, "routing.change_breaker")
    newcomer.client.force_login(type(newcomer.user).objects.get(pk=newcomer.user.pk))
    close(newcomer, row)
    row.refresh_from_db()
    assert (row.state, row.reset_by) == ("closed", "nils")


def test_staff_without_rights_do_not_see_breakers(newcomer: Operator) -> None:
    breaker()
    assert newcomer.client.get(f"/admin/{LIST}").status_code == 403


@pytest.mark.parametrize("page", ["add/", "{}/delete/"])
def test_nobody_can_add_or_delete_a_breaker(operator: Operator, page: str) -> None:
    row = breaker()
    assert operator.client.get(f"/admin/{LIST}{page.format(row.pk)}").status_code == 403
    operator.client.post(f"/admin/{LIST}{page.format(row.pk)}", {"post": "yes"})
    operator.client.post(f"/admin/{LIST}{row.pk}/change/", {"state": "closed"})
    row.refresh_from_db()
    assert (row.state, Breaker.objects.count()) == ("open", 1)
