"""The budgets of an alias or a provider decide for its own steps, and count what these cost."""

from __future__ import annotations

from decimal import Decimal

import psycopg
import pytest
from django.db import connection

from accounting.budgets import applicable, load_rules
from accounting.ledger.corrections import adjust, resolve
from accounting.ledger.expiry import expire_dead
from accounting.ledger.records import Hold, TopUpRequest
from accounting.models import Budget
from accounting.refusals import BudgetExceeded, BudgetInFlight
from tests.ledger.conftest import Book

NOTHING = Decimal(0)
ONE, TWO = ("sonnet", "anthropic"), ("gpt", "openai")


def budget(scope: str, value: str, limit: str = "1", **fields: str) -> Budget:
    return Budget.objects.create(name=value, scope=scope, scope_value=value, limit_usd=Decimal(limit), **fields)


def hold(book: Book, amount: str, step: tuple[str, str] = ONE) -> Hold:
    """Of a request that asks for the alias ``sonnet`` and is admitted for the step."""
    alias, provider = step
    rules = applicable(load_rules(), key_id=None, alias=alias, provider=provider, end_user="", tags={})
    return book.hold(amount, alias="sonnet", step_alias=alias, provider=provider, budgets=rules)


def go_on(book: Book, held: Hold, more: str, step_usd: str, step: tuple[str, str] = TWO) -> Hold:
    """More money for an attempt at another step."""
    alias, provider = step
    rules = applicable(load_rules(), key_id=None, alias=alias, provider=provider, end_user="", tags={})
    further = tuple(r for r in rules if r.is_of_steps and r.id not in {c.rule.id for c in held.charges})
    return book.writer.top_up(TopUpRequest(held, Decimal(more), further, alias, provider, Decimal(step_usd)))


def settle(book: Book, held: Hold, *costs: tuple[tuple[str, str], str]) -> None:
    attempts = [
        book.attempt(cost, alias=alias, provider=provider, outcome="answered" if at == len(costs) else "interrupted")
        for at, ((alias, provider), cost) in enumerate(costs, 1)
    ]
    assert book.writer.settle(book.settlement(held, *attempts))


@pytest.mark.parametrize(("scope", "names"), [("alias", ("sonnet", "gpt")), ("provider", ("anthropic", "openai"))])
def test_each_step_is_charged_to_its_own_budget(book: Book, scope: str, names: tuple[str, str]) -> None:
    for name in names:
        budget(scope, name)
    held = go_on(book, hold(book, "0.5"), "0.25", "0.75")
    assert [book.balance(name)[1] for name in names] == [Decimal("0.5"), Decimal("0.75")]
    settle(book, held, (ONE, "0.1"), (TWO, "0.6"))
    assert [book.balance(name) for name in names] == [(Decimal("0.1"), NOTHING), (Decimal("0.6"), NOTHING)]


@pytest.mark.parametrize(("scope", "names"), [("alias", ("sonnet", "gpt")), ("provider", ("anthropic", "openai"))])
def test_a_full_budget_of_one_step_does_not_refuse_another(book: Book, scope: str, names: tuple[str, str]) -> None:
    budget(scope, names[0], "0.5")
    held = hold(book, "0.5")
    with pytest.raises(BudgetInFlight):
        hold(book, "0.1")
    other = hold(book, "0.4", TWO)  # of the same alias that was asked for, at a step of another one
    held = go_on(book, held, "0.75", "0.75")
    settle(book, held, (ONE, "0"), (TWO, "0.6"))
    settle(book, other, (TWO, "0.3"))
    assert book.balance(names[0]) == (NOTHING, NOTHING)


def test_a_request_that_comes_back_to_a_step_holds_there_what_it_needs_there(book: Book) -> None:
    budget("provider", "anthropic", "1")
    held = go_on(book, hold(book, "0.2"), "0.8", "0.8")
    with pytest.raises(BudgetInFlight):
        go_on(book, held, "0", "1.1", ONE)
    held = go_on(book, held, "0", "0.9", ONE)
    assert book.balance("anthropic") == (NOTHING, Decimal("0.9"))
    settle(book, held, (ONE, "0.1"), (TWO, "0"), (ONE, "0.8"))
    assert book.balance("anthropic") == (Decimal("0.9"), NOTHING)


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_what_costs_nothing_has_room_in_a_budget_that_is_overrun(book: Book, mode: str) -> None:
    book.budget("1", mode=mode)
    book.post(book.hold("1"), "2.5")
    with pytest.raises(BudgetExceeded):
        book.hold("0.000000000001")
    free = book.hold("0")
    assert book.balance() == (Decimal("2.5"), NOTHING)
    settle(book, free, (ONE, "0"))
    with pytest.raises(BudgetExceeded):  # nobody knows what it costs, which is not nothing
        book.hold("0.1")


def test_a_free_further_step_does_not_ask_for_room(book: Book) -> None:
    book.budget("1", mode="soft")
    held = book.hold("0.5")
    book.post(book.hold("0.5"), "2")
    grown = book.writer.top_up(TopUpRequest(held, Decimal(0), (), *TWO, Decimal(0)))
    assert grown.hold_usd == Decimal("0.5")


@pytest.mark.parametrize("scope", ["alias", "provider"])
def test_a_budget_made_late_counts_the_steps_that_were_its_own(book: Book, scope: str) -> None:
    names = ("sonnet", "gpt") if scope == "alias" else ("anthropic", "openai")
    settle(book, hold(book, "0.5"), (ONE, "0.1"), (TWO, "0.3"))
    settle(book, hold(book, "0.5", TWO), (TWO, "0.2"))
    running = hold(book, "0.05", TWO)
    for name in names:
        budget(scope, name, "10")
    settle(book, hold(book, "0.01"), (ONE, "0.01"))  # opens both windows
    settle(book, hold(book, "0.01", TWO), (TWO, "0.01"))
    assert [book.balance(name) for name in names] == [
        (Decimal("0.11"), NOTHING), (Decimal("0.51"), Decimal("0.05"))
    ]  # fmt: skip
    settle(book, running, (TWO, "0"))


@pytest.mark.parametrize("scope", ["alias", "provider"])
def test_a_lost_worker_s_request_is_charged_to_the_step_that_it_was_admitted_for(book: Book, scope: str) -> None:
    names = ("sonnet", "gpt") if scope == "alias" else ("anthropic", "openai")
    for name in names:
        budget(scope, name)
    held = hold(book, "0.5", TWO)
    book.lose_writer()
    with psycopg.connect(**connection.get_connection_params()) as session:
        expire_dead(session)
    assert [book.balance(name)[0] for name in names] == [NOTHING, Decimal("0.5")]
    resolve(held.entry_id, cost_usd=Decimal("0.2"), author="ann", reason="the bill")
    adjust(held.entry_id, amount_usd=Decimal("0.1"), author="ann", reason="the bill was wrong")
    assert [book.balance(name)[0] for name in names] == [NOTHING, Decimal("0.3")]


def test_requests_of_the_version_before_keep_counting_for_the_alias_that_was_asked_for(book: Book) -> None:
    settle(book, hold(book, "0.5"), (ONE, "0.1"), (TWO, "0.3"))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounting_ledgerentry DISABLE TRIGGER accounting_entry_guard")
        cursor.execute("UPDATE accounting_ledgerentry SET step_alias = ''")
        cursor.execute("ALTER TABLE accounting_ledgerentry ENABLE TRIGGER accounting_entry_guard")
    budget("alias", "sonnet", "10")
    settle(book, hold(book, "0.01"), (ONE, "0.01"))
    assert book.balance("sonnet") == (Decimal("0.41"), NOTHING)


def test_a_wildcard_s_budget_counts_the_steps_of_its_names(book: Book) -> None:
    budget("alias", "house/*")
    settle(book, hold(book, "0.5", ("house/a", "openai")), (("house/a", "openai"), "0.1"), (("gpt", "openai"), "0.2"))
    assert book.balance("house/*") == (Decimal("0.1"), NOTHING)
