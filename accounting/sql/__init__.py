"""The ledger's SQL: one statement a file. Its header states the purpose, the locks taken and the rows returned.

The files that create views, functions and triggers are the current definitions: read and edit
these. A migration runs its own copy in ``migrations/`` instead. An empty database runs all migrations, so each needs
the text that fits the tables of its time.

To change a view or a function:

1. Edit the file, here ``{name}.sql``.
2. Copy it to ``migrations/NNNN_{name}.sql``, where NNNN is the number of the new migration. Do not edit a copy after
   its release: databases that have run it would not notice.
3. Write the migration: ``RunSQL(load_frozen("NNNN_{name}"), load_frozen("MMMM_{name}"))``. The second text is the
   copy before, for the way back. An operation that adds a column which the file reads stands before this one.
4. ``views.sql`` drops its views, and the role's rights go with them. Append the newest copy of ``reader_role.sql`` to
   both texts of step 3: ``load_frozen("NNNN_views") + load_frozen("0005_reader_role")``.
5. Add the migration to ``tests/migrations/states.py``, and its columns and tables to ``tests/migrations/rows.py``. The
   tests there say what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path


def loader(folder: Path) -> Callable[[str], str]:
    """A function that returns the text of ``{name}.sql`` in the folder, and reads each file once."""

    @cache
    def load(name: str) -> str:
        return (folder / f"{name}.sql").read_text(encoding="utf-8")

    return load


load = loader(Path(__file__).parent)


def load_frozen(name: str) -> str:
    """The text of ``accounting/sql/migrations/{name}.sql``, for the migration whose number it bears."""
    return load(f"migrations/{name}")
