"""The numbers of the advisory locks stand in one place, and the SQL that repeats a number repeats the right one."""

from __future__ import annotations

import re
from pathlib import Path

from accounting.postgres import locks

ROOT = Path(locks.__file__).parents[2]
NUMBERS = {name: number for name, number in vars(locks).items() if name.isupper()}
#: Where SQL names an advisory lock: the first argument of a lock's function, and the column of pg_locks.
LITERAL = re.compile(r"pg_\w*advisory\w*\s*\(\s*(\d+)|\bclassid\s*=\s*(\d+)")


def test_each_purpose_has_a_number_of_its_own() -> None:
    assert len(set(NUMBERS.values())) == len(NUMBERS)


def test_the_sql_files_lock_by_the_numbers_of_the_registry() -> None:
    found = {
        path.stem: [int(function or column) for function, column in LITERAL.findall(path.read_text())]
        for folder in ("accounting/sql", "routing/breakers/sql")
        for path in (ROOT / folder).glob("*.sql")
    }
    assert {name: numbers for name, numbers in found.items() if numbers} == {
        "share_ledger": [locks.LEDGER],
        "lock_ledger": [locks.LEDGER],
        "end_session": [locks.WRITER],
        "last_superuser": [locks.SUPERUSERS],
    }


def test_no_other_code_writes_a_locks_number_down() -> None:
    sources = [path for room in ("gateway_project", "routing", "accounting") for path in (ROOT / room).rglob("*.py")]
    elsewhere = [path for path in sources if path != Path(locks.__file__)]
    assert len(elsewhere) == len(sources) - 1
    written = {path.name for path in elsewhere for number in NUMBERS.values() if _writes(path.read_text(), number)}
    assert written == set()


def _writes(text: str, number: int) -> bool:
    return re.search(rf"\b{number}\b", text.replace("_", "")) is not None
