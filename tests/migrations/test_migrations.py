"""Whatever state a database is found in, migrations bring it to the one schema, and leave its rows as they are."""

from __future__ import annotations

import re
import threading
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import transaction
from django.db.backends.utils import CursorWrapper
from django.db.migrations.loader import MigrationLoader

from accounting import sql
from accounting.ledger.reconcile import reconcile
from tests.clocks import eventually
from tests.migrations.conftest import Databases, connected, migrate
from tests.migrations.rows import ROWS, columns_of, insert_rows, read_rows
from tests.migrations.schema import difference, read_schema
from tests.migrations.states import NOW, ROLLING_SINCE, STATES, State, name_of

SQL = Path(sql.__file__).parent
OUR_MIGRATIONS = sorted(
    path for app in ("accounting", "routing") for path in (SQL.parents[1] / app / "migrations").glob("[0-9]*.py")
)
# In the order in which a database gets them: rights on views come after the views.
DEFINITIONS = (
    "configuration_version", "immutable_ledger", "budget_gap", "is_of_alias", "bounded_adjustments", "last_superuser",
    "audit", "views", "reader_role", "reader_limits", "rollup",
)  # fmt: skip
COLUMN = re.compile(r"(table \S+: column \S+)( .*)")
STATE = pytest.mark.parametrize("state", STATES, ids=name_of)


def schema_of(database: str) -> list[str]:
    with connected(database) as connection, connection.cursor() as cursor:
        return read_schema(cursor)


def frozen_texts(definition: str) -> list[Path]:
    return sorted((SQL / "migrations").glob(f"[0-9][0-9][0-9][0-9]_{definition}.sql"))


@STATE
def test_each_state_becomes_the_schema_that_an_empty_database_gets(
    state: State, at_state: dict[str, str], from_empty: str, databases: Databases
) -> None:
    name = name_of(state)
    database = databases.create(f"{name}_rows", template=at_state[name])
    with connected(database) as connection, connection.cursor() as cursor:
        insert_rows(cursor)
        columns_then = columns_of(cursor)
        rows_then = read_rows(cursor, columns_then)

    migrate(database)

    off = difference(schema_of(from_empty), schema_of(database), by="from empty", of=f"from {name}")
    assert not off, off
    with connected(database) as connection, connection.cursor() as cursor:
        columns_now = columns_of(cursor)
        kept = {table: names & columns_now[table] for table, names in columns_then.items() if table in columns_now}
        rows_now = read_rows(cursor, kept)
        for table, names in kept.items():
            assert rows_now[table] == [{key: row[key] for key in sorted(names)} for row in rows_then[table]], table
        reconciled = reconcile()
        assert reconciled.discrepancies == ()
        assert (reconciled.periods, reconciled.entries) == (2, 7)

        def answer(query: str) -> list[tuple[object, ...]]:
            cursor.execute(query)
            return list(cursor.fetchall())

        assert answer("SELECT request_id, state, cost_usd, adjusted_usd FROM ledger ORDER BY entry_id") == [
            ("posted", "posted", Decimal("0.005"), Decimal("-0.001")),
            ("fell back", "posted", Decimal("0.00575"), Decimal(0)),
            ("voided", "voided", Decimal(0), Decimal(0)),
            ("unknown", "unknown", Decimal("0.02"), Decimal(0)),
            ("held", "held", None, Decimal(0)),
            ("unpriced", "posted", None, Decimal(0)),
            ("resolved", "posted", Decimal("0.004"), Decimal(0)),
        ]
        assert answer("SELECT request_id, position, outcome FROM attempts ORDER BY entry_id, position") == [
            ("posted", 1, "answered"),
            ("fell back", 1, "server_error"),
            ("fell back", 2, "answered"),
            ("voided", 1, "server_error"),
            ("unpriced", 1, "answered"),
        ]
        assert answer("SELECT day::text, requests, cost_usd, unpriced FROM spend_by_day") == [
            ("2026-03-01", 1, Decimal(0), 1),
            ("2026-03-02", 6, Decimal("0.03475"), 0),
        ]
        assert answer("SELECT alias, requests, failed, cost_usd, unpriced FROM spend_by_alias") == [
            ("claude-sonnet", 5, 1, Decimal("0.03475"), 0),
            ("gpt", 2, 1, Decimal(0), 1),
        ]
        assert answer("SELECT key, requests, cost_usd FROM spend_by_key") == [
            ("anonymous", 1, Decimal(0)),
            ("bot", 6, Decimal("0.03475")),
        ]
        assert answer("SELECT provider, requests, failed, cost_usd, unpriced FROM spend_by_provider") == [
            ("anthropic", 4, 3, Decimal("0.029"), 0),
            ("openai", 3, 1, Decimal("0.00575"), 1),
        ]
        assert answer("SELECT budget, posted_usd, held_usd, available_usd FROM budget_status") == [
            ("anthropic", Decimal("0.029"), Decimal("0.03"), Decimal("999.941")),
            ("everything", Decimal("0.03475"), Decimal("0.03"), Decimal("99.93525")),
        ]
        assert answer("SELECT request_id, hold_usd FROM open_holds") == [("held", Decimal("0.03"))]


def test_the_way_back_and_forth_ends_in_the_same_schema(
    at_state: dict[str, str], from_empty: str, databases: Databases
) -> None:
    database = databases.create("back_and_forth", template=at_state[name_of(NOW)])

    migrate(database, STATES[0])
    migrate(database)

    off = difference(schema_of(from_empty), schema_of(database), by="from empty", of="back and forth")
    assert not off, off


def drop_definitions(cursor: CursorWrapper) -> None:
    """Views, functions with the triggers that call them, and the sequences that belong to no column."""
    ours = "current_schema()::regnamespace"
    for kind, query in {
        "VIEW": f"SELECT oid::regclass FROM pg_class WHERE relkind = 'v' AND relnamespace = {ours}",
        "FUNCTION": f"SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = {ours}",
        "SEQUENCE": f"""
            SELECT oid::regclass FROM pg_class s WHERE relkind = 'S' AND relnamespace = {ours} AND NOT EXISTS (
                SELECT 1 FROM pg_depend d
                WHERE d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
        """,
    }.items():
        cursor.execute(query)
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP {kind} IF EXISTS {name} CASCADE")


def test_definitions_are_what_the_migrations_made(from_empty: str) -> None:
    with connected(from_empty) as connection, transaction.atomic(), connection.cursor() as cursor:
        migrated = read_schema(cursor)
        # The migrations themselves put these triggers on the tables of the configuration; the functions are in `sql`.
        cursor.execute(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname ~ '^(accounting|routing)_(live|audit)_'"
        )
        live_triggers = [trigger for (trigger,) in cursor.fetchall()]

        drop_definitions(cursor)
        for definition in DEFINITIONS:
            cursor.execute(sql.load(definition))
        for trigger in live_triggers:
            cursor.execute(trigger)

        defined = read_schema(cursor)
        transaction.set_rollback(True)

    edited = [
        f"accounting/sql/{name}.sql"
        for name in DEFINITIONS
        if sql.load(name) != frozen_texts(name)[-1].read_text(encoding="utf-8")
    ]
    off = difference(migrated, defined, by="as migrated", of="as defined")
    assert not off, (
        "The migrations do not make what accounting/sql defines. Each file that was edited needs a copy in"
        " accounting/sql/migrations and a migration that runs the copy; accounting/sql/__init__.py says how."
        f" Without a copy: {', '.join(edited) or 'no file'}.\n{off}"
    )


def test_each_file_that_defines_something_has_a_frozen_copy() -> None:
    defining = {
        path.stem for path in SQL.glob("*.sql") if re.search(r"^(CREATE (?!TEMP)|DO )", path.read_text(), re.MULTILINE)
    }

    assert defining == set(DEFINITIONS)
    assert [name for name in DEFINITIONS if not frozen_texts(name)] == []


def test_each_frozen_text_is_run_by_the_migration_of_its_number() -> None:
    """The number of a text says whose it is; another migration may run it again, or go back to it."""
    run = Counter(
        name
        for path in OUR_MIGRATIONS
        for name in re.findall(r'load_frozen\("(\w+)"\)', path.read_text())
        if name[:4] == path.name[:4]
    )
    assert run == Counter(path.stem for path in (SQL / "migrations").iterdir())


def test_no_migration_runs_a_definition_that_may_change() -> None:
    assert [path.name for path in OUR_MIGRATIONS if re.search(r"\bload\(", path.read_text())] == []


def test_the_version_before_can_write_while_this_one_migrates_and_starts(at_state: dict[str, str]) -> None:
    """Between the migrations and its end, the version before writes rows without the columns that it does not know."""
    before, now = (
        {found[1]: found[2] for line in schema_of(at_state[name_of(state)]) if (found := COLUMN.match(line))}
        for state in (ROLLING_SINCE, NOW)
    )
    tables = {column.split(":")[0] for column in before}
    harmful = [
        f"{column}{what}"
        for column, what in now.items()
        if column not in before and column.split(":")[0] in tables and " NOT NULL" in what and " DEFAULT " not in what
    ]
    harmful += [
        f"{column}: {what} became {now.get(column)}"
        for column, what in before.items()
        if now.get(column) not in (what, what.replace(" NOT NULL", ""))
    ]
    assert harmful == []


def test_requests_are_served_while_the_rollup_waits_for_a_transaction_that_lasts(
    databases: Databases, at_state: dict[str, str]
) -> None:
    """Its triggers need the ledger's lock, and whoever stands in the queue for it has all settlements behind."""
    before = {"accounting": "0014_first_page", "routing": "0011_breaker_uses"}
    database = databases.create("waiting", template=at_state[name_of(before)])
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
    settles = "SET lock_timeout = '5s'; LOCK TABLE accounting_ledgerentry IN ROW EXCLUSIVE MODE"
    migrating = threading.Thread(target=migrate, args=(database,))
    with connected(database) as lasting, lasting.cursor() as lasts:
        with transaction.atomic():
            lasts.execute("LOCK TABLE accounting_ledgerentry IN ROW EXCLUSIVE MODE")
            migrating.start()
            with connected(database) as other, other.cursor() as cursor:
                assert eventually(lambda: cursor.execute(waits).fetchone() == (1,))
                with transaction.atomic():
                    cursor.execute(settles)  # raises when it waits longer
        migrating.join(30)
        lasts.execute("SELECT count(*) FROM accounting_rollup")
        assert lasts.fetchone() == (1,)


@pytest.mark.parametrize(
    ("before", "first", "then"),
    [
        ("0011_whose_money", "accounting_budgetperiod", "accounting_ledgerentry"),  # as an admission
        ("0012_refusals_and_windows", "accounting_ledgerentry", "accounting_adjustment"),  # as a settlement's commit
    ],
)
def test_a_request_and_a_migration_never_wait_for_each_other(
    databases: Databases, at_state: dict[str, str], before: str, first: str, then: str
) -> None:
    """Postgres would end one of them, and the version before refuses the request whose transaction that is."""
    state = {"accounting": before, "routing": "0009_optional_output_cap"}
    database = databases.create(f"{before}_beside", template=at_state[name_of(state)])
    waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
    migrating = threading.Thread(target=migrate, args=(database,))
    with connected(database) as request, request.cursor() as cursor:
        with transaction.atomic():
            cursor.execute(sql.load("share_ledger"))
            cursor.execute(f"LOCK TABLE {first} IN ROW EXCLUSIVE MODE")
            migrating.start()
            with connected(database) as other, other.cursor() as asks:
                assert eventually(lambda: asks.execute(waits).fetchone() == (True,))
            cursor.execute(f"LOCK TABLE {then} IN ROW EXCLUSIVE MODE")  # raises when it is the one to be ended
        migrating.join(30)
        cursor.execute("SELECT count(*) FROM django_migrations WHERE name = '0015_rollup'")
        assert cursor.fetchone() == (1,)


def test_the_states_name_each_migration() -> None:
    """A migration that fails here belongs at the end of states.py; its columns and tables belong in rows.py."""
    named = {(app, migration) for state in STATES for app, migration in state.items()}
    graph = MigrationLoader(None).graph
    made = {node for node in graph.nodes if node[0] in ("accounting", "routing")}

    assert made - named == {("accounting", "0001_initial"), ("routing", "0001_initial")}  # never without the next
    assert set(NOW.items()) == {node for node in graph.leaf_nodes() if node[0] in ("accounting", "routing")}


def test_each_column_of_the_rows_is_one_of_some_state(at_state: dict[str, str]) -> None:
    existing: dict[str, set[str]] = {}
    for database in at_state.values():
        with connected(database) as connection, connection.cursor() as cursor:
            for table, columns in columns_of(cursor).items():
                existing.setdefault(table, set()).update(columns)

    assert {
        table: {name for row in rows for name in row} - existing.get(table, set()) for table, rows in ROWS.items()
    } == {table: set() for table in ROWS}
