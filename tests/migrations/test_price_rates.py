"""Prices that were columns become rows of rates, and a ledger of the first version costs the same to the last digit."""

from __future__ import annotations

import random
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from accounting.ledger import repricing
from accounting.models import LedgerEntry, Price
from accounting.pricing import cost_usd
from accounting.usage import Usage
from tests.migrations.conftest import Databases, connected, migrate
from tests.migrations.rows import ATTEMPT, ENTRY, NOON, PRICE, Row
from tests.migrations.states import STATES, name_of
from tests.old_prices import OldPrice, OldRates, columns, old_cost_usd, random_price, random_usage

BEFORE = next(state for state in STATES if state["accounting"] == "0006_budget_modes")
SEED = 20260117
LONG = OldRates(Decimal(6), Decimal("22.5"))
PRICES = [
    OldPrice(OldRates(Decimal(3), Decimal(15), Decimal("0.3"), Decimal("3.75"), Decimal(6))),
    # Each class empty in the long context: it cost as the long input or output, whatever the base has.
    OldPrice(OldRates(*(Decimal(number) for number in range(1, 9))), 200_000, LONG),
    OldPrice(OldRates(Decimal("12345678.123456789012"), Decimal("0.000000000001")), 1, LONG),
]


def insert(cursor: CursorWrapper, table: str, row: Row) -> None:
    cursor.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values())
    )


def old_columns(cursor: CursorWrapper, table: str, row: Row) -> Row:
    cursor.execute("SELECT column_name::text FROM information_schema.columns WHERE table_name = %s", [table])
    existing = {name for (name,) in cursor.fetchall()}
    return {name: value for name, value in row.items() if name in existing}


def tokens(usage: Usage) -> Row:
    return {field.name: getattr(usage, field.name) for field in fields(usage) if field.name.endswith("_tokens")}


def test_what_old_entries_cost_is_what_their_usage_costs_at_the_new_rates(
    at_state: dict[str, str], databases: Databases
) -> None:
    chance = random.Random(SEED)
    prices = PRICES + [random_price(chance) for _ in range(150)]
    usages = [[random_usage(chance) for _ in range(5)] for _ in prices]
    database = databases.create("old_ledger", template=at_state[name_of(BEFORE)])
    with connected(database) as connection, connection.cursor() as cursor:
        for number, (price, paid) in enumerate(zip(prices, usages, strict=True)):
            model = {"provider": "anthropic", "model": f"m-{number}"}
            insert(cursor, "accounting_price", PRICE | model | columns(price))
            for place, usage in enumerate(paid):
                entry = UUID(int=number * 100 + place + 1)
                charged = model | tokens(usage) | {"cost_usd": old_cost_usd(usage, price)}
                row = ENTRY | charged | {"id": entry, "request_id": f"{number} {place}", "created_at": NOON}
                insert(cursor, "accounting_ledgerentry", old_columns(cursor, "accounting_ledgerentry", row))
                row = ATTEMPT | charged | {"entry_id": entry}
                insert(cursor, "accounting_attempt", old_columns(cursor, "accounting_attempt", row))

    migrate(database)

    with connected(database):
        dated = Price.objects.dated()
        assert len(dated) == len(prices)
        for number, (price, paid) in enumerate(zip(prices, usages, strict=True)):
            ((_, rates),) = dated["anthropic", f"m-{number}"]
            for usage in paid:
                assert cost_usd(usage, rates) == old_cost_usd(usage, price), (SEED, price, usage)
        assert LedgerEntry.objects.count() == 5 * len(prices)
        for number in range(5):
            assert list(repricing.differences("anthropic", f"m-{number}", datetime(2026, 1, 1, tzinfo=UTC), None)) == []


def test_the_way_back_keeps_what_columns_have_room_for(at_state: dict[str, str], databases: Databases) -> None:
    chance = random.Random(SEED)
    prices = PRICES + [random_price(chance) for _ in range(50)]
    database = databases.create("there_and_back", template=at_state[name_of(BEFORE)])
    with connected(database) as connection, connection.cursor() as cursor:
        for number, price in enumerate(prices):
            insert(cursor, "accounting_price", PRICE | {"provider": "p", "model": f"m-{number}"} | columns(price))
    migrate(database)
    with connected(database):
        speech = Price.objects.create(provider="p", model="speech", effective_from=NOON)
        speech.rates.create(meter="input_character", usd_per_unit=15)

    migrate(database, BEFORE)

    with connected(database) as connection, connection.cursor() as cursor:
        names = list(columns(prices[0]))
        cursor.execute(f"SELECT {', '.join(names)} FROM accounting_price ORDER BY id")
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert len(rows) == len(prices)
    for row, price in zip(rows, prices, strict=True):
        before = columns(price)
        # What was empty in a long context says now what it meant.
        assert {name: value for name, value in row.items() if before[name] is not None} == {
            name: value for name, value in before.items() if value is not None
        }
