"""Anything that can happen to the books, in any order: Postgres and a plain Python model must agree at every step."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounting.ledger.corrections import NotCorrectable, adjust, resolve
from accounting.ledger.expiry import expire_dead
from accounting.ledger.records import AttemptRecord, Hold, TopUpRequest
from accounting.ledger.writer import Writer
from accounting.models import Budget
from accounting.refusals import HoldLost, Refusal
from tests.ledger.conftest import Book
from tests.ledger.model import Books, ModelBudget, ModelEntry, Place, Step

ALIASES = st.sampled_from(("claude-sonnet", "gpt-4o"))
PROVIDERS = st.sampled_from(("anthropic", "openai"))
USERS = st.sampled_from(("", "ann"))
MODES = st.sampled_from(("hard", "hard", "hard", "soft", "alert"))
PERIODS = st.sampled_from(("hour", "day", "week", "month", "total"))
ZONES = st.sampled_from(("UTC", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Kiritimati"))
# Round amounts meet a limit exactly. The others use all twelve places.
AMOUNTS = st.one_of(
    st.sampled_from([Decimal(text) for text in ("0.25", "0.5", "1", "0.000000000001")]),
    st.integers(1, 1_200_000_000_000).map(lambda n: Decimal(n).scaleb(-12)),
)
LIMITS = st.sampled_from([Decimal(text) for text in ("0", "0.5", "1", "3", "10")])
BUDGETS_MAX = 4
TABLES = ("charge", "adjustment", "attempt", "ledgerentry", "budgetperiod", "budget")


class Ledger(RuleBasedStateMachine):
    holds = Bundle("holds")

    @initialize()
    def empty_books(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE " + ", ".join(f"accounting_{table}" for table in TABLES))
        self.model = Books()
        self.receipts: dict[UUID, Hold] = {}
        self.written_by: dict[UUID, Writer] = {}
        self.ageings = 0
        self.book = Book(Writer())

    def teardown(self) -> None:
        if hasattr(self, "book"):
            self.book.writer.stop()

    # --- what operators configure -------------------------------------------------------------------------

    @precondition(lambda self: len(self.model.budgets) < BUDGETS_MAX)
    @rule(
        scope=st.sampled_from(("global", "alias", "user", "provider")), alias=ALIASES, provider=PROVIDERS,
        mode=MODES, limit=LIMITS, period=PERIODS, zone=ZONES,
    )  # fmt: skip
    def a_budget_is_made(
        self, *, scope: str, alias: str, provider: str, mode: str, limit: Decimal, period: str, zone: str
    ) -> None:
        value = {"global": "", "alias": alias, "user": "ann", "provider": provider}[scope]
        budget = Budget.objects.create(
            name=f"budget {len(self.model.budgets)}", scope=scope, scope_value=value, mode=mode, limit_usd=limit,
            period=period, time_zone=zone,
        )  # fmt: skip
        self.model.budgets[budget.pk] = ModelBudget(budget.pk, scope, value, mode, limit, period, zone)

    def _change(self, pick: int, **fields: Any) -> None:
        budget = list(self.model.budgets.values())[pick % len(self.model.budgets)]
        Budget.objects.filter(pk=budget.id).update(**fields)
        if "limit_usd" not in fields and any(getattr(budget, name) != value for name, value in fields.items()):
            self.model.budget_is_changed(budget, self.book.rows("SELECT now()")[0][0])
        for name, value in fields.items():
            setattr(budget, name, value)

    @precondition(lambda self: self.model.budgets)
    @rule(pick=st.integers(0, BUDGETS_MAX - 1), limit=LIMITS)
    def a_limit_is_changed(self, pick: int, limit: Decimal) -> None:
        self._change(pick, limit_usd=limit)

    @precondition(lambda self: self.model.budgets)
    @rule(pick=st.integers(0, BUDGETS_MAX - 1), mode=MODES)
    def a_mode_is_changed(self, pick: int, mode: str) -> None:
        self._change(pick, mode=mode)

    @precondition(lambda self: self.model.budgets)
    @rule(pick=st.integers(0, BUDGETS_MAX - 1), period=PERIODS, zone=ZONES)
    def a_period_is_changed(self, pick: int, period: str, zone: str) -> None:
        self._change(pick, period=period, time_zone=zone)

    @precondition(lambda self: self.model.budgets)
    @rule(pick=st.integers(0, BUDGETS_MAX - 1), enabled=st.booleans())
    def a_budget_is_switched(self, pick: int, enabled: bool) -> None:
        self._change(pick, enabled=enabled)

    # --- what requests do ---------------------------------------------------------------------------------

    @rule(target=holds, requests=st.lists(st.tuples(AMOUNTS, ALIASES, PROVIDERS, USERS), min_size=1, max_size=3))
    def requests_are_held(self, requests: list[tuple[Decimal, str, str, str]]) -> Any:
        admitted = [self._hold(*request) for request in requests]
        return multiple(*(entry_id for entry_id in admitted if entry_id is not None))

    def _hold(self, amount: Decimal, alias: str, provider: str, user: str) -> UUID | None:
        now = self.book.rows("SELECT now()")[0][0]
        request = self.book.request(str(amount), alias=alias, provider=provider, end_user=user)
        entry = ModelEntry((alias, provider), user, amount, now)
        refusal = self.model.hold(request.entry_id, entry, now)
        if refusal is not None:
            with pytest.raises(refusal) as refused:
                self.book.writer.hold(request)
            assert type(refused.value) is refusal
            return None
        hold = self.book.writer.hold(request)
        entry.created_at = hold.created_at
        self.receipts[hold.entry_id], self.written_by[hold.entry_id] = hold, self.book.writer
        # The promise: no admitted request brings a hard budget above its limit.
        limits = (
            "SELECT p.posted_usd + p.held_usd <= b.limit_usd FROM accounting_charge c"
            " JOIN accounting_budgetperiod p ON p.id = c.period_id JOIN accounting_budget b ON b.id = p.budget_id"
            " WHERE c.entry_id = %s AND b.mode = 'hard'"
        )
        assert all(within for (within,) in self.book.rows(limits, hold.entry_id))
        return hold.entry_id

    @rule(entry_id=holds, more=st.just(Decimal(0)) | AMOUNTS, share=st.floats(0, 1), alias=ALIASES, provider=PROVIDERS)
    def a_request_asks_for_more(
        self, *, entry_id: UUID, more: Decimal, share: float, alias: str, provider: str
    ) -> None:
        """The further step needs some of the new hold; the rest is for what the steps before have cost."""
        receipt, entry, place = self.receipts[entry_id], self.model.entries[entry_id], (alias, provider)
        known = {charge.rule.id for charge in receipt.charges}
        request = self.book.request("1", alias=alias, provider=provider, end_user=entry.user)
        further = tuple(rule for rule in request.budgets if rule.id not in known)
        step_usd = round((entry.hold_usd + more) * Decimal(share), 12)
        top_up = TopUpRequest(receipt, more, further, alias, provider, step_usd)
        if entry.state != "held":
            with pytest.raises(HoldLost):
                self.book.writer.top_up(top_up)
            # Its windows were opened all the same.
            self.model.top_up_windows(entry, place, known, self.book.rows("SELECT now()")[0][0])
            return
        refusal = self.model.top_up(
            entry_id, more, step_usd, place, known=known, now=self.book.rows("SELECT now()")[0][0]
        )
        if refusal is None:
            self.receipts[entry_id] = self.book.writer.top_up(top_up)
            assert self.receipts[entry_id].hold_usd == entry.hold_usd
        else:
            with pytest.raises(refusal) as refused:
                self.book.writer.top_up(top_up)
            assert refusal is Refusal or type(refused.value) is refusal

    @rule(entry_id=holds, first=st.none() | AMOUNTS, cost=AMOUNTS, fallback=st.tuples(ALIASES, PROVIDERS))
    def a_request_is_posted(self, entry_id: UUID, first: Decimal | None, cost: Decimal, fallback: Place) -> None:
        """Settle at the entry's step, or at another after a first attempt that cost something. It may be late."""
        place = self.model.entries[entry_id].place
        attempts = [Step(place, cost)] if first is None else [Step(place, first), Step(fallback, cost)]
        records = [self._attempt(a, outcome="interrupted") for a in attempts[:-1]]
        records.append(self._attempt(attempts[-1]))
        assert self.book.writer.settle(self.book.settlement(self.receipts[entry_id], *records))
        self.model.settle(entry_id, tuple(attempts), attempts[-1].place, "posted")

    def _attempt(self, step: Step, **fields: Any) -> AttemptRecord:
        alias, provider = step.place
        return self.book.attempt(str(step.cost_usd), alias=alias, provider=provider, **fields)

    @rule(entry_id=holds)
    def a_request_is_voided(self, entry_id: UUID) -> None:
        step = Step(self.model.entries[entry_id].place, Decimal(0))
        failed = self._attempt(step, outcome="timeout", http_status=None)
        assert self.book.writer.settle(self.book.settlement(self.receipts[entry_id], failed))
        self.model.settle(entry_id, (step,), step.place, "voided")

    # --- what goes wrong ----------------------------------------------------------------------------------

    @rule()
    def the_writer_dies(self) -> None:
        self.book.lose_writer()
        lost = [
            entry_id
            for entry_id, writer in self.written_by.items()
            if writer is self.book.writer and self.model.entries[entry_id].state == "held"
        ]
        self._expire(lost)
        self.book = Book(Writer())

    @rule(entry_id=consumes(holds))
    def a_hold_is_past_its_time(self, entry_id: UUID) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE accounting_ledgerentry SET expires_at = now() WHERE state = 'held' AND id = %s", [entry_id]
            )
        self._expire([entry_id] if self.model.entries[entry_id].state == "held" else [])

    def _expire(self, entry_ids: list[UUID]) -> None:
        with psycopg.connect(**connection.get_connection_params()) as session:
            expired = expire_dead(session)
        assert {found.entry_id for found in expired} <= set(entry_ids)  # the living writer may have been faster
        for entry_id in entry_ids:
            self.model.expire(entry_id)

    # --- what operators correct ---------------------------------------------------------------------------

    @rule(entry_id=holds, cost=st.just(Decimal(0)) | AMOUNTS)
    def an_operator_resolves(self, entry_id: UUID, cost: Decimal) -> None:
        if self.model.entries[entry_id].state == "unknown":
            resolve(entry_id, cost_usd=cost, author="ann", reason="the provider's bill")
            self.model.resolve(entry_id, cost)
        else:
            with pytest.raises(NotCorrectable):
                resolve(entry_id, cost_usd=cost, author="ann", reason="the provider's bill")

    @rule(entry_id=holds, amount=AMOUNTS, sign=st.sampled_from((-1, 1)))
    def an_operator_adjusts(self, entry_id: UUID, amount: Decimal, sign: int) -> None:
        entry = self.model.entries[entry_id]
        if entry.state in ("posted", "voided") and (entry.cost_usd or 0) + entry.adjusted_usd + amount * sign >= 0:
            adjust(entry_id, amount_usd=amount * sign, author="ann", reason="a wrong price")
            self.model.adjust(entry_id, amount * sign)
        else:
            with pytest.raises(NotCorrectable):
                adjust(entry_id, amount_usd=amount * sign, author="ann", reason="a wrong price")

    # --- time ---------------------------------------------------------------------------------------------

    @rule()
    def all_windows_close(self) -> None:
        """More than a month passes: what was written moves into the past, as the clock cannot be moved."""
        self.ageings += 1
        by = timedelta(days=40, minutes=self.ageings)  # a new number each time, so that no window meets an older window
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("ALTER TABLE accounting_ledgerentry DISABLE TRIGGER accounting_entry_guard")
            cursor.execute("UPDATE accounting_ledgerentry SET created_at = created_at - %s::interval", [str(by)])
            cursor.execute("ALTER TABLE accounting_ledgerentry ENABLE TRIGGER accounting_entry_guard")
            cursor.execute(
                "UPDATE accounting_budgetperiod SET period_start = period_start - %s::interval,"
                " period_end = period_end - %s::interval"
                " WHERE period_end IS NOT NULL",
                [str(by), str(by)],
            )
        self.model.age(by)
        # A window that a writer knows to be open closes only with real time.
        Budget.objects.filter(pk=0).update(limit_usd=1)

    # --- what must be true at every moment -----------------------------------------------------------------

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        if not hasattr(self, "book"):
            return
        self.book.assert_reconciles()
        found = {
            (budget_id, start, end): (posted_usd, held_usd)
            for budget_id, start, end, posted_usd, held_usd in self.book.rows(
                "SELECT budget_id, period_start, period_end, posted_usd, held_usd FROM accounting_budgetperiod"
            )
        }
        assert found == {key: self.model.balance(key) for key in self.model.charges}
        entries = self.book.rows("SELECT entry_id, state, hold_usd, posted_usd, adjusted_usd, overrun FROM ledger")
        assert {row[0]: row[1:] for row in entries} == {
            entry_id: (
                entry.state, entry.hold_usd, entry.cost_usd, entry.adjusted_usd,
                entry.state in ("posted", "voided") and (entry.cost_usd or 0) > entry.hold_usd,
            )
            for entry_id, entry in self.model.entries.items()
        }  # fmt: skip


def explore(examples: int, steps: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=derandomize,
            suppress_health_check=list(HealthCheck), print_blob=True,
        ),
    )  # fmt: skip


def test_the_books_agree_with_a_model_whatever_happens(transactional_db: None) -> None:
    # A repeated history must end the same way, and no window may close between the model's clock and ours.
    until_windows_close_s = 1800 - time.time() % 1800
    if until_windows_close_s < 20:
        time.sleep(until_windows_close_s + 1)
    explore(examples=25, steps=30, derandomize=True)
