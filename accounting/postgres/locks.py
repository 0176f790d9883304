"""The numbers of the gateway's advisory locks, all in one place: two purposes with one number would block each other.

Postgres names an advisory lock by two 32-bit numbers or by one 64-bit number; the two kinds never meet. A new purpose
takes a new number here. SQL files repeat a number as a literal, and a test compares them with this page.
"""

from __future__ import annotations

#: ``(WRITER, writer_id)``, held by a ledger writer's session for as long as it lives. A free lock means a dead writer.
WRITER = 7233
#: ``(LEDGER, 0)``: shared by the ledger's transactions, exclusive while a budget window is filled (lock_ledger.sql).
LEDGER = 7234
#: ``(SUPERUSERS, 0)``, held by transactions that take away a superuser, one after the other (last_superuser.sql).
SUPERUSERS = 7235
#: ``(ROLLUP, 0)``, held by the session of the process that rolls entries up.
ROLLUP = 7236
#: One 64-bit number, held by a replica that migrates and fills the database at its start.
FIRST_START = 4000_2026
